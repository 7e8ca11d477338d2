"""A model's graph becomes the runtime that runs it: of those that settings and machine allow, the fastest one.

Each candidate reads built-in texts beside each other; what gives other scores than gliner's own pass over one text
alone is out. The choice is remembered next to the export, for this machine and these versions, so that the next
start only loads it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from worker.model import gliner_loader
from worker.model.collate import collate
from worker.model.loading import explained
from worker.model.pipeline import Parts
from worker.model.runtimes import OF_EXPORT, Candidate, Runtime, of_export
from worker.model.runtimes.graph_cache import SIGHTS
from worker.model.runtimes.torch import TorchRuntime
from worker.model.selection import onnx_export, parity
from worker.model.selection.choice_cache import (
    Asked,
    Precision,
    Remembered,
    RuntimeName,
    Selection,
    installed,
    recall,
    remember,
)
from worker.model.selection.onnx_export import ExportError
from worker.model.selection.parity import Trial
from worker.model.sources.resolve import ModelBrokenError, Resolved
from worker.protocols import Window

HOPELESS = 3.0
"""A candidate this much slower than the best at its first reading, which is always slow, needs no second."""
CLOSE = 2.0
"""A candidate up to this much slower than the best is compared with it again, the two in turns: on a machine with
other work a first timing may be off by as much, and the choice is kept for every later start."""
TURNS = 2
SETTLING = {"cudagraphs": SIGHTS}
"""Readings before the one that counts; all must agree."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

log = logging.getLogger(__name__)


def allowed(device: str, runtime: RuntimeName, precision: Precision) -> list[Candidate]:
    """What settings, machine and installed packages allow, torch in 32 bits first.

    Raises:
        ValueError: nothing.
    """
    if device == "cuda":
        half = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        precisions = (half, "fp32") if precision == "auto" else (precision,)
        found = [Candidate(name, each) for each in precisions if each in DTYPES for name in ("torch", "cudagraphs")]
    else:
        found = [Candidate("torch", "fp32")]
        if torch.ops.mkldnn._is_mkldnn_bf16_supported() or precision == "bf16":
            found.append(Candidate("torch", "bf16"))
        if installed("openvino"):
            from worker.model.runtimes import openvino

            asked = ("int8",) if precision == "int8" else openvino.precisions()  # `auto` keeps the answers
            found += [Candidate("openvino", name) for name in asked]
        if installed("onnxruntime"):
            found.append(Candidate("onnx", "fp32"))
    wanted = [c for c in found if runtime in ("auto", c.runtime) and precision in ("auto", c.precision)]
    if not wanted:
        extra = f"; is `gleaner-ner[{runtime}]` installed?" if runtime in ("onnx", "openvino") else "."
        raise ValueError(f"GLEANER_RUNTIME={runtime}, GLEANER_PRECISION={precision}: not on this {device}{extra}")
    return wanted


def select(model: Resolved, asked: Asked, folder: Path | None) -> Selection:
    """Load the model with torch, and find out what runs it fastest.

    Args:
        model: the weights' folder.
        asked: what the settings and the machine allow.
        folder: where exports and choices are kept; None: only torch, and nothing is remembered.

    Raises:
        ModelBrokenError: the files do not make a model this version can run, or no allowed runtime can run it, or
            none agrees with the library, or answers depend on the texts that a text is batched with.
        ValueError: nothing is allowed.
    """
    if asked.device == "cpu":
        torch.set_num_threads(asked.threads)
    else:
        torch.backends.cudnn.allow_tf32 = False  # of the LSTM, which is small: in 32 bits scores are to be exact
    wanted = allowed(asked.device, asked.runtime, asked.precision)
    loaded = gliner_loader.load_gliner(model.folder, asked.device, model.files)
    return Selector(loaded, model, asked, folder).select(wanted)


class Selector:
    """Chooses for one loaded model.

    Args:
        loaded: gliner's model.
        model: where it came from.
        asked: what the settings and the machine allow.
        folder: where exports and choices are kept; None: only torch, and nothing is remembered.

    Raises:
        ModelBrokenError: the model cannot be described.
    """

    def __init__(self, loaded: Any, model: Resolved, asked: Asked, folder: Path | None) -> None:
        self._graph = gliner_loader.graph(loaded)
        with explained(model.folder):
            self._model = gliner_loader.described(
                loaded, model, self._graph.inputs, asked.most_tokens, asked.splitter
            )
            reference, self._layout = gliner_loader.reference(loaded, asked.most_tokens)
        self._reference = TorchRuntime(reference, asked.device, torch.float32)
        self._parts = Parts(self._model)
        self._asked = asked
        self._folder = folder
        self._batches = parity.micro_batches(self._parts.tokenizer)
        self._companies = parity.companies(self._parts.tokenizer)

    def select(self, wanted: Sequence[Candidate]) -> Selection:
        """The runtime.

        Raises:
            ModelBrokenError: none of them can run the model, none agrees with the library, or answers depend on the
                texts that a text is batched with.
        """
        if len(wanted) == 1 and wanted[0].runtime == "torch":
            self._refuse_padding_readers(self._companies[:2])
            return self._selection(wanted[0], self._built(wanted[0]))
        if self._folder is None:
            return self._calibrated(_only_torch(wanted, "GLEANER_MODEL_CACHE is not set"))
        try:
            with onnx_export.locked(self._folder):
                return self._again(wanted, self._folder) or self._calibrated(wanted)
        except ExportError as error:
            log.warning("runtime.cache_unusable", extra={"reason": str(error)})
            self._folder = None
            return self._calibrated(_only_torch(wanted, str(error)))

    def _again(self, wanted: Sequence[Candidate], folder: Path) -> Selection | None:
        """What was chosen before, or by another worker while this one waited."""
        found = recall(folder, self._asked)
        try:
            if found and found.model == self._model and found.candidate in wanted:
                return self._selection(found.candidate, self._built(found.candidate))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the next thing is to choose again
            log.warning("runtime.choice_unusable", extra={"reason": f"{type(error).__name__}: {error}"})
        return None

    def _refuse_padding_readers(self, batches: Sequence[Sequence[Window]]) -> list[parity.Rows]:
        """Compare torch in 32 bits with the library's own pass over each row alone and without padding.

        Returns:
            The library's scores of each micro-batch.

        Raises:
            ModelBrokenError: a row's scores depend on its padding, and so on the rows beside it.
        """
        expected = [[self._alone(window) for window in windows] for windows in batches]
        found = self._rows(TorchRuntime(self._graph, self._asked.device, torch.float32), batches)
        if refused := parity.disagreement(expected, found, "fp32"):
            raise ModelBrokenError(
                f"the model gives a text other scores beside a longer text than alone ({refused}): it reads "
                "padding, as some encoders do, and heads with span_mode markerV1 and markerV2, "
                "span_encoder_config and fuse_layers. Such models are not supported; use one with span_mode "
                "markerV0, or a token model, without these."
            )
        return expected

    def _alone(self, window: Window) -> NDArray[Any]:
        scores = self._reference.run(collate([window], self._layout, exact=True))
        return parity.rows_of([window], scores, self._model.tagged)[0]

    def _calibrated(self, wanted: Sequence[Candidate]) -> Selection:
        expected = self._refuse_padding_readers([*self._batches, *self._companies])
        best: Selection | None = None
        trials: list[Trial] = []
        for candidate in wanted:
            fastest_s = min((trial.seconds for trial in trials if not trial.refused), default=math.inf)
            runtime, trial = self._tried(candidate, expected, fastest_s)
            trials.append(trial)
            if runtime is None or trial.seconds > CLOSE * fastest_s:
                continue
            if best is None or self._is_faster(runtime, best.run_by):
                best = self._selection(candidate, runtime)
        log.info("runtime.tried", extra={"trials": [asdict(trial) for trial in trials]})
        if best is None:
            reasons = "; ".join(f"{trial.runtime} {trial.precision}: {trial.refused}" for trial in trials)
            raise ModelBrokenError(f"no runtime that may be used can run the model. {reasons}")
        if self._folder is not None:
            remember(self._folder, self._asked, best.found)
        return best

    def _selection(self, candidate: Candidate, runtime: Runtime) -> Selection:
        return Selection(runtime, Remembered(candidate, self._model))

    def _tried(
        self, candidate: Candidate, expected: Sequence[parity.Rows], fastest_s: float
    ) -> tuple[Runtime | None, Trial]:
        trial = Trial(candidate.runtime, candidate.precision)
        try:
            runtime = self._built(candidate)
            for _ in range(SETTLING.get(candidate.runtime, 0) + 1):
                found, seconds = self._read(runtime)
                found += self._rows(runtime, self._companies)
                if refused := parity.disagreement(expected, found, candidate.precision):
                    return None, replace(trial, refused=refused)
            if seconds < HOPELESS * fastest_s:
                seconds = min(seconds, self._read(runtime)[1])  # the first time it had to find its memory
        except Exception as error:  # noqa: BLE001  # runtimes fail in many ways; each only rules itself out
            return None, replace(trial, refused=f"{type(error).__name__}: {str(error)[:300]}")
        return runtime, replace(trial, seconds=round(seconds, 3))

    def _is_faster(self, challenger: Runtime, best: Runtime) -> bool:
        """Return whether the challenger's fastest reading is shorter than the best's; they take turns."""
        seconds = [(self._read(challenger)[1], self._read(best)[1]) for _ in range(TURNS)]
        return min(mine for mine, _ in seconds) < min(its for _, its in seconds)

    def _read(self, runtime: Runtime) -> tuple[list[parity.Rows], float]:
        """Return its scores of the texts for timing, and the seconds it takes them with all streams busy."""
        start = time.perf_counter()
        with ThreadPoolExecutor(runtime.streams) as pool:
            readers = [pool.submit(self._rows, runtime, self._batches) for _ in range(runtime.streams)]
            read = [reader.result() for reader in readers]
        return read[0], (time.perf_counter() - start) / runtime.streams

    def _rows(self, runtime: Runtime, batches: Sequence[Sequence[Window]]) -> list[parity.Rows]:
        scores = (runtime.run(self._parts.collate(windows)) for windows in batches)
        return [
            parity.rows_of(windows, found, self._model.tagged)
            for windows, found in zip(batches, scores, strict=True)
        ]

    def _built(self, candidate: Candidate) -> Runtime:
        if candidate.runtime == "torch":
            return TorchRuntime(self._graph, self._asked.device, DTYPES[candidate.precision])
        if candidate.runtime == "cudagraphs":
            return self._on_cuda(DTYPES[candidate.precision])
        if self._folder is None:
            raise ExportError("there is no folder to export to")
        path = onnx_export.exported(self._graph, self._parts.collate(self._batches[0]), self._folder)
        return of_export(candidate, path, self._asked.threads)

    def _on_cuda(self, dtype: torch.dtype) -> Runtime:
        from worker.model.runtimes.cudagraphs import CudaGraphsRuntime
        from worker.model.static_graph import FixedGraph

        if not FixedGraph.fits(self._graph.core):
            raise ValueError("what this model launches hangs on what the device computes")
        graph = FixedGraph(self._graph.core, dtype).eval()
        return CudaGraphsRuntime(graph, dtype, self._parts.tokenizer.spec.max_row_tokens)


def _only_torch(wanted: Sequence[Candidate], reason: str) -> list[Candidate]:
    found = [candidate for candidate in wanted if candidate.runtime not in OF_EXPORT]
    if not found:
        raise ModelBrokenError(f"the model cannot be exported for another runtime: {reason}")
    return found
