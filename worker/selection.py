"""A model's graph becomes the runtime that runs it: of those that settings and machine allow, the fastest one.

Each candidate reads a few built-in texts; what differs from torch in 32 bits is out. The choice is remembered
beside the export, for this machine and these versions, so that the next start only loads it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import torch

from worker import agreement, exports
from worker.agreement import Trial
from worker.collate import Arrays
from worker.contract import Tokenizer, Window
from worker.decode import Scores
from worker.exports import ExportError
from worker.graph import Graph
from worker.models import ModelBrokenError
from worker.runtimes.torch import TorchRuntime

Precision = Literal["auto", "fp32", "bf16", "fp16"]
RuntimeName = Literal["auto", "torch", "onnx", "openvino"]

HOPELESS = 3.0
"""A candidate this much slower than the best at its first reading, which is always slow, needs no second."""
PACKAGES = ("gliner", "numpy", "onnxruntime", "openvino", "torch", "transformers")
"""Another version of one of these may change which runtime is fastest, or whether it agrees."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHOICE = "choice-{}.json"

log = logging.getLogger(__name__)


class Runtime(Protocol):
    """Runs a forward pass."""

    def run(self, arrays: Arrays, threshold: float) -> Scores:
        """Scores of a micro-batch; `threshold` is the least that any of its rows asks for."""
        ...

    def release_memory(self) -> None:
        """Give cached device memory back."""
        ...


class Parts(Protocol):
    """What is the same on every runtime."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's eyes."""
        ...

    def collate(self, windows: Sequence[Window]) -> Arrays:
        """Windows as a model's inputs."""
        ...

    def candidates(self, windows: Sequence[Window], scores: Scores) -> dict[tuple[int, ...], float]:
        """Score of each row, first word, word after the last, and label above its threshold."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A runtime in a precision."""

    runtime: str
    precision: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The runtime, and what it is."""

    run_by: Runtime
    candidate: Candidate


def allowed(device: str, runtime: RuntimeName, precision: Precision) -> list[Candidate]:
    """What settings, machine and installed packages allow, torch in 32 bits first.

    Raises:
        ValueError: nothing.
    """
    if device == "cuda":
        half = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        found = [Candidate("torch", half if precision == "auto" else precision)]
    else:
        found = [Candidate("torch", "fp32")]
        if torch.ops.mkldnn._is_mkldnn_bf16_supported() or precision == "bf16":
            found.append(Candidate("torch", "bf16"))
        if _installed("openvino"):
            from worker.runtimes.openvino import precisions

            found += [Candidate("openvino", name) for name in precisions()]
        if _installed("onnxruntime"):
            found.append(Candidate("onnx", "fp32"))
    wanted = [c for c in found if runtime in ("auto", c.runtime) and precision in ("auto", c.precision)]
    if not wanted:
        extra = f"; is `gleaner-ner[{runtime}]` installed?" if runtime in ("onnx", "openvino") else "."
        raise ValueError(f"GLEANER_RUNTIME={runtime}, GLEANER_PRECISION={precision}: not on this {device}{extra}")
    return wanted


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class Selector:
    """Chooses for one loaded model.

    Args:
        graph: the forward pass.
        parts: what goes around it.
        device: where torch runs.
        threads: cores to use.
        folder: where exports and choices are kept; None: only torch, and nothing is remembered.
    """

    def __init__(self, graph: Graph, parts: Parts, device: str, threads: int, folder: Path | None) -> None:
        self._graph = graph
        self._parts = parts
        self._device = device
        self._threads = threads
        self._folder = folder
        self._batches = agreement.micro_batches(parts.tokenizer)

    def select(self, wanted: Sequence[Candidate]) -> Selection:
        """The runtime.

        Raises:
            ModelBrokenError: none of them can run the model, or none agrees with torch in 32 bits.
        """
        if len(wanted) == 1 and wanted[0].runtime == "torch":
            return Selection(self._built(wanted[0]), wanted[0])
        if self._folder is None:
            return self._calibrated(_only_torch(wanted, "GLEANER_MODEL_CACHE is not set"))
        try:
            with exports.locked(self._folder):
                return self._remembered(wanted, self._folder) or self._calibrated(wanted)
        except ExportError as error:
            log.warning("runtime.cache_unusable", extra={"reason": str(error)})
            self._folder = None
            return self._calibrated(_only_torch(wanted, str(error)))

    def _remembered(self, wanted: Sequence[Candidate], folder: Path) -> Selection | None:
        path = folder / CHOICE.format(_fingerprint(wanted, self._threads))
        try:
            choice = Candidate(**json.loads(path.read_text(encoding="utf-8")))
            if choice in wanted:
                return Selection(self._built(choice), choice)
        except FileNotFoundError:
            pass
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the next thing is to choose again
            log.warning("runtime.choice_unusable", extra={"reason": f"{type(error).__name__}: {error}"})
        return None

    def _calibrated(self, wanted: Sequence[Candidate]) -> Selection:
        expected, _ = self._read(TorchRuntime(self._graph, self._device, torch.float32))
        best: Selection | None = None
        trials: list[Trial] = []
        for candidate in wanted:
            fastest_s = min((trial.seconds for trial in trials if not trial.refused), default=math.inf)
            runtime, trial = self._tried(candidate, expected, fastest_s)
            trials.append(trial)
            if runtime is not None and trial.seconds < fastest_s:
                best = Selection(runtime, candidate)
        log.info("runtime.tried", extra={"trials": [asdict(trial) for trial in trials]})
        if best is None:
            reasons = "; ".join(f"{trial.runtime} {trial.precision}: {trial.refused}" for trial in trials)
            raise ModelBrokenError(f"no runtime that may be used can run the model. {reasons}")
        self._remember(wanted, best.candidate)
        return best

    def _tried(
        self, candidate: Candidate, expected: agreement.Seen, fastest_s: float
    ) -> tuple[Runtime | None, Trial]:
        trial = Trial(candidate.runtime, candidate.precision)
        try:
            runtime = self._built(candidate)
            found, seconds = self._read(runtime)
            refused = agreement.disagreement(expected, found)
            if refused:
                return None, replace(trial, refused=refused)
            if seconds < HOPELESS * fastest_s:
                seconds = min(seconds, self._read(runtime)[1])  # the first time it had to find its memory
        except Exception as error:  # noqa: BLE001  # runtimes fail in many ways; each only rules itself out
            return None, replace(trial, refused=f"{type(error).__name__}: {str(error)[:300]}")
        return runtime, replace(trial, seconds=round(seconds, 3))

    def _read(self, runtime: Runtime) -> tuple[agreement.Seen, float]:
        """What it makes of the built-in texts, and in how many seconds."""
        seen: dict[tuple[int, ...], float] = {}
        start = time.perf_counter()
        for i, windows in enumerate(self._batches):
            scores = runtime.run(self._parts.collate(windows), agreement.THRESHOLD)
            found = self._parts.candidates(windows, scores)
            seen |= {(i, *key): score for key, score in found.items()}
        return seen, time.perf_counter() - start

    def _built(self, candidate: Candidate) -> Runtime:
        if candidate.runtime == "torch":
            return TorchRuntime(self._graph, self._device, DTYPES[candidate.precision])
        if self._folder is None:
            raise ExportError("there is no folder to export to")
        path = exports.exported(self._graph, self._parts.collate(self._batches[0]), self._folder)
        if candidate.runtime == "onnx":
            from worker.runtimes.onnx import OnnxRuntime

            return OnnxRuntime(path, self._threads)
        from worker.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(path, candidate.precision, self._threads)

    def _remember(self, wanted: Sequence[Candidate], choice: Candidate) -> None:
        if self._folder is not None:
            path = self._folder / CHOICE.format(_fingerprint(wanted, self._threads))
            partial = path.with_suffix(".partial")
            try:
                partial.write_text(json.dumps(asdict(choice)), encoding="utf-8")
                partial.replace(path)
            except OSError as error:  # a full disk: the next start tries them all again
                log.warning("runtime.choice_unwritten", extra={"reason": type(error).__name__})


def _only_torch(wanted: Sequence[Candidate], reason: str) -> list[Candidate]:
    found = [candidate for candidate in wanted if candidate.runtime == "torch"]
    if not found:
        raise ModelBrokenError(f"the model cannot be exported for another runtime: {reason}")
    return found


def _fingerprint(wanted: Sequence[Candidate], threads: int) -> str:
    """This machine, these packages, this question."""
    versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES if _installed(package)]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        cpu = [line for line in lines if line.split("\t")[0] in ("model name", "flags", "Features")]
    except OSError:
        cpu = []
    parts = [*versions, *cpu, str(threads), *(str(candidate) for candidate in wanted)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
