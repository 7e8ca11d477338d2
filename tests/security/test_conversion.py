from __future__ import annotations

import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.security.test_pickles import SHIPPED, folder
from worker.model.errors import ModelBrokenError, PickleRefusedError
from worker.model.sources import checksums
from worker.model.sources.resolve import SourceOptions, resolve_model

__all__ = ["folder"]  # fixtures


def _state() -> OrderedDict[str, torch.Tensor]:
    shared, wide = torch.randn(4, 6), torch.randn(6, 8)
    return OrderedDict(
        first=shared,
        second=shared,
        part=wide[:, 2:5],
        turned=wide.t(),
        half=torch.randn(3).half(),
        brain=torch.randn(3, 2).bfloat16(),
        whole=torch.arange(5),
        flag=torch.tensor([True, False]),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(2)),
    )


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": dict(s)}]
)
def test_every_kind_of_weights_converts(folder: Path, wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    """Shared tensors, views, halves, wrapped state dicts: value by value, and the sources' hashes are kept."""
    state = _state()
    torch.save(wrap(state), folder / "pytorch_model.bin")

    resolved = resolve_model(str(folder), None, tmp_path / "cache", SourceOptions(convert="true"))

    stored = load_file(resolved.folder / "model.safetensors")
    assert stored.keys() == state.keys() - {"second"}  # which the metadata says is `first`, as gliner does
    for name, tensor in stored.items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name].detach())
    converted = (resolved.folder / "model.safetensors").resolve().parent
    manifest = json.loads((converted / checksums.MANIFEST).read_text())
    assert manifest[checksums.SOURCES] == {"pytorch_model.bin": checksums.hash_file(folder / "pytorch_model.bin")}
    assert manifest["model.safetensors"] == resolved.files["model.safetensors"]
    assert resolved.files["model.safetensors"] == checksums.hash_file(resolved.folder / "model.safetensors")


def test_a_conversion_is_done_once_and_again_where_its_result_is_damaged(folder: Path, tmp_path: Path) -> None:
    """The cache's copy is checked; the pickle is not opened while it is sound."""
    torch.save(_state(), folder / "pytorch_model.bin")
    first = resolve_model(str(folder), None, tmp_path / "cache", SourceOptions(convert="true"))
    weights = (first.folder / "model.safetensors").resolve()
    stamp = weights.stat().st_mtime_ns
    assert resolve_model(str(folder), None, tmp_path / "cache", SourceOptions(convert="true")) == first
    assert weights.stat().st_mtime_ns == stamp
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")

    again = resolve_model(str(folder), None, tmp_path / "cache", SourceOptions(convert="true"))

    assert again == first
    assert again.files == first.files
    assert checksums.hash_file(weights) == first.files["model.safetensors"]


def test_conversion_is_for_pinned_revisions_unless_allowed_or_forbidden(folder: Path, tmp_path: Path) -> None:
    """auto, true, false; the refusal has the command that converts; a wrong pin is refused before anything runs."""
    torch.save(_state(), folder / "pytorch_model.bin")
    cache = tmp_path / "cache"
    pinned = resolve_model(str(folder), None, cache, SourceOptions(convert="true")).revision

    assert resolve_model(str(folder), pinned, cache).revision == pinned
    for revision, convert in ((None, "auto"), (pinned, "false"), (None, "false")):
        with pytest.raises(PickleRefusedError) as caught:
            resolve_model(str(folder), revision, cache, SourceOptions(convert=convert))
        assert f"`gleaner model convert {folder} FOLDER" in str(caught.value)
        assert "GLEANER_MODEL_CONVERT=true" in str(caught.value)
    with pytest.raises(ModelBrokenError, match="is requested"):
        resolve_model(str(folder), "0" * 12, tmp_path / "other")
    assert not (tmp_path / "other" / "weights").exists()


def test_a_pickle_that_is_not_the_weights_is_never_opened(folder: Path, tmp_path: Path) -> None:
    """An optimizer beside pickled weights, and pickled weights beside safetensors, are refused as before."""
    torch.save(_state(), folder / "pytorch_model.bin")
    torch.save({}, folder / "optimizer.pt")
    with pytest.raises(PickleRefusedError, match="optimizer"):
        resolve_model(str(folder), None, tmp_path / "cache", SourceOptions(convert="true"))
    (folder / "optimizer.pt").unlink()
    shutil.copy(SHIPPED / "model.safetensors", folder)
    with pytest.raises(PickleRefusedError, match="Delete them"):
        resolve_model(str(folder), None, tmp_path / "cache", SourceOptions(convert="true"))


def test_shards_of_pickles_become_one_file(folder: Path, tmp_path: Path) -> None:
    """With their index; a tensor in two of them is refused."""
    torch.save({"a": torch.ones(2)}, folder / "pytorch_model-00001-of-00002.bin")
    torch.save({"b": torch.zeros(3)}, folder / "pytorch_model-00002-of-00002.bin")
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {}}')

    resolved = resolve_model(str(folder), None, tmp_path / "cache", SourceOptions(convert="true"))

    assert load_file(resolved.folder / "model.safetensors").keys() == {"a", "b"}
    torch.save({"a": torch.zeros(3)}, folder / "pytorch_model-00002-of-00002.bin")
    assert "in another shard" in _refusal_of_shards(folder, tmp_path)


def _refusal_of_shards(folder: Path, tmp_path: Path) -> str:
    with pytest.raises(PickleRefusedError) as caught:
        resolve_model(str(folder), None, tmp_path / "other", SourceOptions(convert="true"))
    return str(caught.value)
