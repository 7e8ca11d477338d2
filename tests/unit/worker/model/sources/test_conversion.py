"""Shards become one file. Pickles: tests/security/test_conversion.py, with the process that opens them."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file, save_file

from worker.model.errors import ModelBrokenError
from worker.model.sources import checksums, conversion
from worker.model.sources.conversion import ensure_safetensors, join_shards
from worker.model.sources.safetensors import read_aliases
from worker.model.sources.weight_files import WeightFiles

TENSORS = st.lists(
    arrays(st.sampled_from((np.float32, np.float16, np.int64, np.uint8, np.bool_)), array_shapes(min_dims=0)),
    min_size=1,
    max_size=6,
)
NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write_shards(folder: Path) -> list[Path]:
    """Write two shards, of one tensor each."""
    for number, name in enumerate(NAMES):
        save_file({f"t{number}": np.full(3, number, np.float32)}, folder / name)
    return [folder / name for name in NAMES]


@given(tensors=TENSORS, cut=st.integers(0, 6))
def test_the_joined_file_has_every_tensor_of_the_shards(
    tensors: list[np.ndarray], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of any type and shape, in a file that the library reads, aligned to their widths; metadata is joined."""
    folder = tmp_path_factory.mktemp("shards")
    named = {f"tensor {number}": tensor for number, tensor in enumerate(tensors)}
    halves = [{k: named[k] for k in list(named)[part]} for part in (slice(cut), slice(cut, None))]
    for number, half in enumerate(halves):
        save_file(half, folder / f"{number}", {f"tied {number}": "tensor 0"})

    join_shards([folder / "0", folder / "1"], folder / "whole")

    joined = load_file(folder / "whole")
    assert joined.keys() == named.keys()
    assert all(
        joined[k].dtype == v.dtype and np.array_equal(joined[k], v, equal_nan=v.dtype.kind == "f")
        for k, v in named.items()
    )
    assert read_aliases(folder / "whole") == {"tied 0", "tied 1"}


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    """Nothing says which of them counts."""
    for number in range(2):
        save_file({"same": np.zeros(3)}, tmp_path / f"{number}")
    with pytest.raises(ModelBrokenError, match="'same' is also in another shard"):
        join_shards([tmp_path / "0", tmp_path / "1"], tmp_path / "whole")


def test_shards_are_joined_once(tmp_path: Path) -> None:
    """The manifest has the hashes of the sources, by which the cache finds the result."""
    paths, weights = write_shards(tmp_path), WeightFiles(NAMES)
    hashes = {path.name: checksums.hash_file(path) for path in paths}
    path, digest = ensure_safetensors(tmp_path, weights, hashes, tmp_path / "cache")
    assert checksums.hash_file(path) == digest
    for shard in paths:
        shard.unlink()
    assert ensure_safetensors(tmp_path, weights, hashes, tmp_path / "cache") == (path, digest)
    assert load_file(path).keys() == {"t0", "t1"}


def test_a_shard_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    """The bytes that were checked are the ones that are joined; nothing stays in the cache."""
    paths = write_shards(tmp_path)
    hashes = {path.name: checksums.hash_file(path) for path in paths} | {NAMES[1]: "0" * 64}
    with pytest.raises(ModelBrokenError, match="changed while it was read"):
        ensure_safetensors(tmp_path, WeightFiles(NAMES), hashes, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "weights").iterdir() if path.is_dir()]


def test_a_disk_that_is_too_small_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written."""
    paths = write_shards(tmp_path)
    hashes = {path.name: checksums.hash_file(path) for path in paths}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(ModelBrokenError, match="10 bytes are free"):
        ensure_safetensors(tmp_path, WeightFiles(NAMES), hashes, tmp_path / "cache")


@pytest.mark.parametrize(
    ("raw", "reply"), [(b"", {}), (b"[1]", {}), (b"{", {}), (b'{"error":"x"}', {"error": "x"})]
)
def test_a_reply_that_is_cut_off_is_none(raw: bytes, reply: dict[str, str]) -> None:
    """The process may end at any byte."""
    assert conversion._parse_reply(raw) == reply
