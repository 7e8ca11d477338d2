"""What runs a forward pass: each file here brings one way from named arrays to scores, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from worker.model.collate import Arrays
from worker.model.decode import Scores

OF_EXPORT = ("onnx", "openvino")
"""Runtimes that need no more than the exported graph."""


class Runtime(Protocol):
    """Runs a forward pass."""

    @property
    def streams(self) -> int:
        """Passes that may run at once, each called from a thread of its own, without one waiting for another."""
        ...

    @property
    def express_tokens(self) -> int:
        """Padded tokens of a pass that may run beside those of all streams, from one more thread; 0: none may."""
        ...

    def run(self, arrays: Arrays) -> Scores:
        """Return the scores of a micro-batch."""
        ...

    def release_memory(self) -> None:
        """Give cached device memory back."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A runtime in a precision."""

    runtime: str
    precision: str


def of_export(candidate: Candidate, path: Path, threads: int) -> Runtime:
    """One of `OF_EXPORT`."""
    if candidate.runtime == "onnx":
        from worker.model.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, threads)
    from worker.model.runtimes.openvino import OpenVinoRuntime

    return OpenVinoRuntime(path, candidate.precision, threads)
