"""Folders of object stores, here fsspec's in memory, and their copies in the cache."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import fsspec
import pytest

from worker.model.errors import ExtraMissingError, ModelBrokenError, ModelNotFoundError
from worker.model.sources import folders
from worker.model.sources.buckets import fetch_folder

URL = "memory://models/small/"
FILES = {"gliner_config.json": b"{}", "tokenizer_config.json": b"[1]", "README.md": b"#"}


@pytest.fixture
def store() -> Iterator[Callable[[str, bytes], None]]:
    """Return a function that writes an object; the folder has `FILES` already, and a subfolder."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]

    def put(name: str, content: bytes) -> None:
        memory.pipe_file(f"/models/small/{name}", content)

    for name, content in FILES.items():
        put(name, content)
    put("onnx/model.onnx", b"...")
    yield put
    memory.store.clear()


def select_json(names: Collection[str], fetch: Callable[[str], Path]) -> Sequence[str]:
    """Choose the JSON files, one of which is fetched before the choice."""
    assert fetch("gliner_config.json").read_bytes() == b"{}"
    return [name for name in names if name.endswith(".json")]


def fetch(cache: Path, key: str = "", check: Callable[[Path], object] = lambda _: None) -> Path:
    """Fetch the folder."""
    return fetch_folder(URL, key, cache, select_json, check)


@pytest.mark.usefixtures("store")
def test_the_chosen_files_are_fetched_and_no_others(tmp_path: Path) -> None:
    """With a manifest; a subfolder is ignored."""
    folder = fetch(tmp_path)
    assert {path.name for path in folder.iterdir()} - set(FILES) == {"gleaner-manifest.json"}
    assert not (folder / "README.md").exists()
    assert (folder / "tokenizer_config.json").read_bytes() == b"[1]"


def test_an_intact_copy_needs_no_store(tmp_path: Path, store: Callable[[str, bytes], None]) -> None:
    """Each revision has a copy; a damaged one is fetched again."""
    first, other = fetch(tmp_path), fetch(tmp_path, "v2")
    store("tokenizer_config.json", b"[2]")
    assert first != other
    assert (fetch(tmp_path) / "tokenizer_config.json").read_bytes() == b"[1]"
    (other / "tokenizer_config.json").write_bytes(b"[3]")
    assert (fetch(tmp_path, "v2") / "tokenizer_config.json").read_bytes() == b"[2]"


@pytest.mark.usefixtures("store")
def test_a_copy_that_is_no_model_does_not_stay(tmp_path: Path) -> None:
    """The check sees the files that were fetched."""

    def refuse(folder: Path) -> None:
        raise ModelBrokenError(str(sorted(path.name for path in folder.iterdir())))

    with pytest.raises(ModelBrokenError, match="tokenizer_config"):
        fetch(tmp_path, check=refuse)
    assert not [path for path in (tmp_path / "objects").iterdir() if path.is_dir()]


def test_a_large_file_is_refused_before_it_is_fetched(
    tmp_path: Path, store: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the size in the listing."""
    monkeypatch.setattr(folders, "max_file_bytes", lambda _: 3)
    store("tokenizer_config.json", b"[1,2]")
    with pytest.raises(ModelBrokenError, match="5 bytes; at most 3"):
        fetch(tmp_path)


def test_odd_names_and_crowds_are_refused(
    tmp_path: Path, store: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with another's paths in it, or with a dataset."""
    monkeypatch.setattr(folders, "MAX_FILES", 4)
    fetch(tmp_path)
    store("C:evil.json", b"{}")
    with pytest.raises(ModelBrokenError, match="more than 4 objects"):
        fetch(tmp_path, "2")
    monkeypatch.setattr(folders, "MAX_FILES", 5)
    with pytest.raises(ModelBrokenError, match="could point out"):
        fetch(tmp_path, "3")


def test_an_empty_folder_is_not_found(tmp_path: Path) -> None:
    """Nor is one that does not exist."""
    with pytest.raises(ModelNotFoundError, match="Check the address"):
        fetch_folder("memory://nowhere", "", tmp_path, select_json, lambda _: None)
    fsspec.filesystem("memory").makedirs("/empty", exist_ok=True)
    with pytest.raises(ModelNotFoundError, match="there are no files"):
        fetch_folder("memory://empty", "", tmp_path, select_json, lambda _: None)


def test_a_store_whose_package_is_missing_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the network is tried."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ExtraMissingError, match=r"gleaner-ner\[gs\]"):
        fetch_folder("gs://bucket/model", "", tmp_path, select_json, lambda _: None)
