"""A graph's ONNX form in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.worker.model.tiny_graph import TinyGraph, export_tiny, make_arrays
from worker.model.selection.choice_cache import find_export
from worker.model.selection.onnx_export import ExportError, export_graph, lock_folder
from worker.model.sources.checksums import is_intact


class FailingGraph(TinyGraph):
    """A graph that cannot be traced."""

    def forward(self, *tensors: torch.Tensor, **hints: Any) -> torch.Tensor:
        """Fail."""
        raise ValueError("no ONNX form")


def test_a_graph_is_exported_once(tmp_path: Path) -> None:
    """The cache's copy is used until it is damaged."""
    path = export_tiny(tmp_path)
    assert path == find_export(tmp_path)
    assert is_intact(path.parent)
    assert export_graph(FailingGraph(), make_arrays(2, 5), tmp_path) == path
    path.write_bytes(b"")
    assert find_export(tmp_path) is None
    assert export_tiny(tmp_path).stat().st_size > 0


def test_a_graph_that_cannot_be_exported_leaves_nothing(tmp_path: Path) -> None:
    """The message says why."""
    with pytest.raises(ExportError, match="ValueError: no ONNX form"):
        export_graph(FailingGraph(), make_arrays(2, 5), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_cache(tmp_path: Path) -> None:
    """Selection then goes on without it."""
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="file"), lock_folder(tmp_path / "file"):
        pytest.fail("the folder is a file")


def test_a_lock_is_released_after_an_error(tmp_path: Path) -> None:
    """The next worker can take it."""
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path / "cache"):
        raise ZeroDivisionError
    with lock_folder(tmp_path / "cache"):
        assert (tmp_path / "cache").is_dir()
