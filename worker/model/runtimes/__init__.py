"""Runtimes for the forward pass: every module here runs named arrays to scores in one way, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.model.collate import Arrays
from worker.model.decode import RowScores, Scores
from worker.protocols import LabelCounts, Window

EXPORT_RUNTIMES = ("onnx", "openvino")
"""Runtimes that need only the exported graph."""


class WindowRuntime(ABC):
    """Runs windows to scores.

    Attributes:
        lanes: passes that may run at once, called from one thread each, without waiting for each other.
        express_tokens: padded tokens of a pass that may run in addition to them, from one more thread; 0: none.
    """

    lanes = 1
    express_tokens = 0

    def prepare_labels(self, windows: Sequence[Window], on_step: Callable[[], None]) -> LabelCounts:
        """Compute vectors of labels, as `worker.protocols.Engine.prepare_labels`; most models have none."""
        return LabelCounts()

    @abstractmethod
    def run_windows(self, windows: Sequence[Window], arrays: Arrays) -> list[RowScores]:
        """Return the scores of a micro-batch, which was collated to `arrays`, for all of its rows.

        Raises:
            OutOfMemory: the batch did not fit.
            EngineBroken: the device is lost.
        """

    def release_memory(self) -> None:  # noqa: B027  # most have none
        """Give cached device memory back."""


class Runtime(WindowRuntime):
    """Runs a forward pass that reads nothing but arrays."""

    @abstractmethod
    def run(self, arrays: Arrays) -> Scores:
        """Return the scores of a micro-batch; errors are those of `run_windows`."""

    def run_windows(self, windows: Sequence[Window], arrays: Arrays) -> list[RowScores]:
        """Return the scores of all rows in one."""
        return [RowScores(range(len(windows)), self.run(arrays))]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A runtime in a precision."""

    runtime: str
    precision: str


def load_exported(candidate: Candidate, path: Path, threads: int) -> Runtime:
    """Return the runtime, one of `EXPORT_RUNTIMES`, for the exported graph at `path`."""
    if candidate.runtime == "onnx":
        from worker.model.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, threads)
    from worker.model.runtimes.openvino import OpenVinoRuntime

    return OpenVinoRuntime(path, candidate.precision, threads)
