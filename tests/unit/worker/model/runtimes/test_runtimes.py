"""Runtimes of an export, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.worker.model.tiny_graph import export_tiny, make_arrays
from worker.model.runtimes import EXPORT_RUNTIMES, Candidate, load_exported


@pytest.mark.parametrize(("name", "kind"), [("onnx", "OnnxRuntime"), ("openvino", "OpenVinoRuntime")])
def test_an_export_is_loaded_by_the_runtime_that_was_chosen(tmp_path: Path, name: str, kind: str) -> None:
    """It runs, and has at least one lane; it has no memory of a device to release."""
    runtime = load_exported(Candidate(name, "fp32"), export_tiny(tmp_path), 1)
    assert type(runtime).__name__ == kind
    assert name in EXPORT_RUNTIMES
    assert runtime.lanes == 1
    runtime.release_memory()
    assert runtime.run(make_arrays(2, 4))["logits"].shape == (2, 4, 1, 3)
