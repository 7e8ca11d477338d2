"""The forward pass on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.worker.model.tiny_graph import TinyGraph, export_tiny, make_arrays, score
from worker.model.runtimes.onnx import OnnxRuntime
from worker.protocols import OutOfMemory


def test_scores_are_those_of_the_graph(tmp_path: Path) -> None:
    """In every shape; inputs that the graph does not have are left out."""
    runtime = OnnxRuntime(export_tiny(tmp_path), 1)
    for arrays in (make_arrays(1, 3), make_arrays(4, 9)):
        logits = runtime.run({**arrays, "span_idx": np.zeros(1)})["logits"]
        assert np.allclose(logits, score(TinyGraph(), arrays), atol=1e-5)


class Full:
    """A session that fails."""

    def __init__(self, message: str) -> None:
        self.message = message

    def run(self, *_: object) -> None:
        """Fail."""
        raise RuntimeError(self.message)


@pytest.mark.parametrize(
    ("message", "error"),
    [("BFCArena::AllocateRawInternal Failed to allocate memory", OutOfMemory), ("Invalid rank", RuntimeError)],
)
def test_a_full_memory_is_told_apart(tmp_path: Path, message: str, error: type[Exception]) -> None:
    """By the message: the library has one class for all errors."""
    runtime = OnnxRuntime(export_tiny(tmp_path), 1)
    runtime._session = Full(message)
    with pytest.raises(error):
        runtime.run(make_arrays(1, 3))
