"""Names of files that a model may and may not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.model.errors import ModelBrokenError, PickleRefusedError
from worker.model.sources import folders
from worker.model.sources.folders import is_code, is_pickle, list_files, refuse_code, refuse_odd_names


@pytest.mark.parametrize("name", ["a.py", "A.PY", "x/lib.so", "lib.so.1.2", "a.dll", "run.sh"])
def test_code_is_refused(name: str) -> None:
    """Wherever it is, and however it is written."""
    assert is_code(name)
    with pytest.raises(ModelBrokenError, match="code"):
        refuse_code("model", ["config.json", name])


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x/optimizer.PT", "a.pkl", "w.npy"])
def test_pickles_are_refused(name: str) -> None:
    """Next to safetensors, too."""
    assert is_pickle(name)
    with pytest.raises(PickleRefusedError):
        refuse_code("model", ["model.safetensors", name])


def test_data_is_not_refused() -> None:
    """Names that only resemble code are data."""
    names = ["model.safetensors", "tokenizer.json", "spm.model", "py", "also.json", "README.md", "so.txt"]
    refuse_code("model", names)
    refuse_odd_names("model", names)


@pytest.mark.parametrize(
    "name", ["../a", "a/../b", "/etc/passwd", "a//b", "C:/a", "a\\b", "a\nb", ".", "a/./b", ""]
)
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    """On any system."""
    with pytest.raises(ModelBrokenError, match="could point out"):
        refuse_odd_names("bucket", ["config.json", name])


def test_hidden_files_are_not_a_models(tmp_path: Path) -> None:
    """Nor are those in hidden folders; all others are listed by path."""
    for name in ("config.json", ".git/config", "a/b/c", "a/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_files(tmp_path)) == ["config.json", "a/b/c"]


def test_links_out_of_the_folder_and_too_many_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link within the folder is a file."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "a").touch()
    (model / "b").symlink_to("a")
    assert set(list_files(model)) == {"a", "b"}
    monkeypatch.setattr(folders, "MAX_FILES", 1)
    with pytest.raises(ModelBrokenError, match="more than 1 files"):
        list_files(model)
    monkeypatch.undo()
    (tmp_path / "secret").touch()
    (model / "c").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelBrokenError):
        list_files(model)
