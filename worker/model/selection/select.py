"""Selects the fastest runtime, of those that settings and machine allow, whose scores agree with the library's.

Every candidate reads the same built-in texts; it is refused if its scores differ from those of gliner's own pass
over each text alone. The choice is cached next to the export, for this machine and these versions, so that the next
start only loads it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from worker.model import gliner_loader
from worker.model.bi_encoder import BiEncoderGraph
from worker.model.collate import collate_windows
from worker.model.decode import read_rows
from worker.model.errors import ModelBrokenError
from worker.model.graph import LABEL_INPUTS
from worker.model.relations.graph import RelexGraph
from worker.model.runtimes import EXPORT_RUNTIMES, Candidate, WindowRuntime, load_exported
from worker.model.runtimes.graph_cache import RECORD_AFTER
from worker.model.runtimes.torch import TorchRuntime
from worker.model.runtimes.torch_bi_encoder import TorchBiEncoder
from worker.model.runtimes.torch_relex import TorchRelex
from worker.model.selection import onnx_export, parity
from worker.model.selection.choice_cache import (
    CachedChoice,
    Precision,
    RuntimeName,
    RuntimeRequest,
    Selection,
    is_installed,
    read_choice,
    write_choice,
)
from worker.model.selection.onnx_export import ExportError
from worker.model.selection.parity import Trial
from worker.model.sources.private_copy import wrap_library_errors
from worker.model.sources.resolve import Resolved
from worker.model.tokenizer import FastTokenizer, LabelTokenizer
from worker.protocols import Window

MAX_SLOWDOWN = 3.0
"""A candidate this many times slower than the best in its first run, which is always slow, gets no second run."""
CLOSE = 2.0
"""A candidate up to this many times slower than the best is timed against it again, in turns: on a machine with
other load a first timing may be off by as much, and the choice is cached for every later start."""
TURNS = 2
WARMUP_RUNS = {"cudagraphs": RECORD_AFTER}
"""Runs before the one that is timed; the scores of all of them must agree."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

log = logging.getLogger(__name__)


def allowed_candidates(device: str, runtime: RuntimeName, precision: Precision) -> list[Candidate]:
    """Return the candidates that settings, machine and installed packages allow, torch in 32 bits first.

    Raises:
        ValueError: no runtime and precision allowed by the settings is available on this device.
    """
    available = _cuda_candidates(precision) if device == "cuda" else _cpu_candidates(precision)
    allowed = [c for c in available if runtime in ("auto", c.runtime) and precision in ("auto", c.precision)]
    if not allowed:
        extra = f"; is `gleaner-ner[{runtime}]` installed?" if runtime in ("onnx", "openvino") else "."
        raise ValueError(
            f"GLEANER_RUNTIME={runtime}, GLEANER_PRECISION={precision}: not available on this {device}{extra}"
        )
    return allowed


def _cuda_candidates(precision: Precision) -> list[Candidate]:
    half = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    precisions = (half, "fp32") if precision == "auto" else (precision,)
    return [Candidate(name, kind) for kind in precisions if kind in DTYPES for name in ("torch", "cudagraphs")]


def _cpu_candidates(precision: Precision) -> list[Candidate]:
    candidates = [Candidate("torch", "fp32")]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported() or precision == "bf16":
        candidates.append(Candidate("torch", "bf16"))
    if is_installed("openvino"):
        from worker.model.runtimes import openvino

        # `auto` never takes int8, which changes answers.
        precisions = ("int8",) if precision == "int8" else openvino.supported_precisions()
        candidates += [Candidate("openvino", name) for name in precisions]
    if is_installed("onnxruntime"):
        candidates.append(Candidate("onnx", "fp32"))
    return candidates


def select_runtime(model: Resolved, request: RuntimeRequest, folder: Path | None) -> Selection:
    """Load the model with torch, and select its fastest runtime; without a folder for exports, torch.

    Raises:
        ModelBrokenError: the files do not make a model that this version can run, or no allowed runtime can run it,
            or none agrees with the library, or answers depend on the other texts of a micro-batch.
        ValueError: no allowed runtime and precision is available.
    """
    if request.device == "cpu":
        torch.set_num_threads(request.threads)
    else:
        torch.backends.cudnn.allow_tf32 = False  # for the LSTM, which is small: scores in 32 bits must be exact
    candidates = allowed_candidates(request.device, request.runtime, request.precision)
    loaded = gliner_loader.load_gliner(model.folder, request.device, model.files)
    return Selector(loaded, model, request, folder).choose(candidates)


class Selector:
    """Selects the runtime for one loaded model; arguments and errors are those of `select_runtime`."""

    def __init__(self, loaded: Any, source: Resolved, request: RuntimeRequest, folder: Path | None) -> None:
        self._graph = gliner_loader.build_graph(loaded)
        with wrap_library_errors(source.folder):
            self._model = gliner_loader.describe_model(
                loaded, source, self._graph.inputs, request.max_row_tokens, request.splitter
            )
            reference, self._layout = gliner_loader.build_reference(loaded, request.max_row_tokens)
        self._reference = TorchRuntime(reference, request.device, torch.float32)
        model = self._model
        self._tokenizer = FastTokenizer(model.spec, model.tokenizer_json, model.word_pattern, model.labels)
        self._labels = LabelTokenizer(model.labels) if model.labels else None
        self._request = request
        self._folder = folder
        self._timing_batches = parity.build_timing_batches(self._tokenizer)
        self._mixed_batches = parity.build_mixed_batches(self._tokenizer)

    def choose(self, candidates: Sequence[Candidate]) -> Selection:
        """Return the cached choice, or the fastest candidate that agrees with the library."""
        if len(candidates) == 1 and candidates[0].runtime == "torch":
            self._check_padding(self._mixed_batches[:2])
            return self._select(candidates[0], self._build_runtime(candidates[0]))
        if self._folder is None:
            return self._select_fastest(_only_torch(candidates, "GLEANER_MODEL_CACHE is not set"))
        try:
            with onnx_export.lock_folder(self._folder):
                return self._load_cached(candidates, self._folder) or self._select_fastest(candidates)
        except ExportError as error:
            log.warning("runtime.cache_unusable", extra={"reason": str(error)})
            self._folder = None
            return self._select_fastest(_only_torch(candidates, str(error)))

    def _load_cached(self, candidates: Sequence[Candidate], folder: Path) -> Selection | None:
        """Return the choice of an earlier start, or of another worker while this one waited for the lock."""
        choice = read_choice(folder, self._request)
        try:
            if choice and choice.model == self._model and choice.candidate in candidates:
                return self._select(choice.candidate, self._build_runtime(choice.candidate))
        except Exception as error:  # noqa: BLE001  # whatever the reason, the runtime is selected again
            log.warning("runtime.choice_unusable", extra={"reason": f"{type(error).__name__}: {error}"})
        return None

    def _check_padding(self, batches: Sequence[Sequence[Window]]) -> list[parity.Rows]:
        """Refuse a model whose scores depend on padding; return the library's scores of each row alone."""
        expected = [[self._score_alone(window) for window in windows] for windows in batches]
        scores = self._score_batches(self._build_runtime(Candidate("torch", "fp32")), batches)
        if refused := parity.describe_disagreement(expected, scores, "fp32"):
            raise ModelBrokenError(
                f"the model scores a text differently next to a longer text than alone ({refused}): it reads "
                "padding, as some encoders do, and heads with span_mode markerV1 and markerV2, "
                "span_encoder_config and fuse_layers. Such models are not supported; use one with span_mode "
                "markerV0, or a token model, without these."
            )
        return expected

    def _score_alone(self, window: Window) -> NDArray[Any]:
        arrays = collate_windows([window], self._layout, exact=True)
        if self._labels is not None:
            ids_and_mask = self._labels.pad(self._labels.encode(window.prompts))
            arrays = {**arrays, **dict(zip(LABEL_INPUTS, ids_and_mask, strict=True))}
        scores = self._reference.run(arrays)
        return parity.row_scores([window], scores, self._model.tagged)[0]

    def _select_fastest(self, candidates: Sequence[Candidate]) -> Selection:
        """Try all candidates, and return the fastest that agrees; cache the choice."""
        expected = self._check_padding([*self._timing_batches, *self._mixed_batches])
        best: Selection | None = None
        trials: list[Trial] = []
        for candidate in candidates:
            fastest_s = min((trial.seconds for trial in trials if not trial.refused), default=math.inf)
            runtime, trial = self._try_candidate(candidate, expected, fastest_s)
            trials.append(trial)
            if runtime is None or trial.seconds > CLOSE * fastest_s:
                continue
            if best is None or self._is_faster(runtime, best.runtime):
                best = self._select(candidate, runtime)
        log.info("runtime.tried", extra={"trials": [asdict(trial) for trial in trials]})
        if best is None:
            reasons = "; ".join(f"{trial.runtime} {trial.precision}: {trial.refused}" for trial in trials)
            raise ModelBrokenError(f"no runtime allowed by the settings can run the model. {reasons}")
        if self._folder is not None:
            write_choice(self._folder, self._request, best.choice)
        return best

    def _is_faster(self, challenger: WindowRuntime, best: WindowRuntime) -> bool:
        """Return whether the challenger's shortest time is less than the best's; they take turns."""
        times = [(self._time_runtime(challenger)[1], self._time_runtime(best)[1]) for _ in range(TURNS)]
        return min(mine for mine, _ in times) < min(its for _, its in times)

    def _select(self, candidate: Candidate, runtime: WindowRuntime) -> Selection:
        return Selection(runtime, CachedChoice(candidate, self._model))

    def _try_candidate(
        self, candidate: Candidate, expected: Sequence[parity.Rows], fastest_s: float
    ) -> tuple[WindowRuntime | None, Trial]:
        trial = Trial(candidate.runtime, candidate.precision)
        try:
            runtime = self._build_runtime(candidate)
            for _ in range(WARMUP_RUNS.get(candidate.runtime, 0) + 1):
                scores, seconds = self._time_runtime(runtime)
                scores += self._score_batches(runtime, self._mixed_batches)
                if refused := parity.describe_disagreement(expected, scores, candidate.precision):
                    return None, replace(trial, refused=refused)
            if seconds < MAX_SLOWDOWN * fastest_s:
                seconds = min(seconds, self._time_runtime(runtime)[1])  # the first run also allocates its memory
        except Exception as error:  # noqa: BLE001  # runtimes fail in many ways; any failure rules out this one only
            return None, replace(trial, refused=f"{type(error).__name__}: {str(error)[:300]}")
        return runtime, replace(trial, seconds=round(seconds, 3))

    def _time_runtime(self, runtime: WindowRuntime) -> tuple[list[parity.Rows], float]:
        """Return its scores of the timing batches, and the seconds per reading with all lanes busy."""
        start = time.perf_counter()
        with ThreadPoolExecutor(runtime.lanes) as pool:
            futures = [
                pool.submit(self._score_batches, runtime, self._timing_batches) for _ in range(runtime.lanes)
            ]
            scores = [future.result() for future in futures]
        return scores[0], (time.perf_counter() - start) / runtime.lanes

    def _score_batches(self, runtime: WindowRuntime, batches: Sequence[Sequence[Window]]) -> list[parity.Rows]:
        scores = []
        for windows in batches:
            parts = runtime.run_windows(windows, collate_windows(windows, self._model.layout))
            scores.append(read_rows(windows, parts, partial(parity.row_scores, tagged=self._model.tagged)))
        return scores

    def _build_runtime(self, candidate: Candidate) -> WindowRuntime:
        if isinstance(self._graph, BiEncoderGraph):
            return self._build_bi_encoder(self._graph, candidate)
        if isinstance(self._graph, RelexGraph):
            if candidate.runtime != "torch":
                raise ValueError("models for relations run on torch only: each row selects its pairs while it runs")
            return TorchRelex(self._graph, self._request.device, DTYPES[candidate.precision])
        if candidate.runtime == "torch":
            return TorchRuntime(self._graph, self._request.device, DTYPES[candidate.precision])
        if candidate.runtime == "cudagraphs":
            return self._build_cudagraphs(DTYPES[candidate.precision])
        if self._folder is None:
            raise ExportError("there is no folder to export to")
        example = collate_windows(self._timing_batches[0], self._model.layout)
        path = onnx_export.export_graph(self._graph, example, self._folder)
        return load_exported(candidate, path, self._request.threads)

    def _build_bi_encoder(self, graph: BiEncoderGraph, candidate: Candidate) -> WindowRuntime:
        if candidate.runtime != "torch" or self._labels is None:
            raise ValueError("bi-encoders run on torch only")
        return TorchBiEncoder(graph, self._labels, self._request.device, DTYPES[candidate.precision])

    def _build_cudagraphs(self, dtype: torch.dtype) -> WindowRuntime:
        from worker.model.runtimes.cudagraphs import CudaGraphsRuntime
        from worker.model.static_graph import StaticGraph

        if not StaticGraph.can_run(self._graph.core):
            raise ValueError("the shapes of this model's forward pass depend on values on the device")
        graph = StaticGraph(self._graph.core, dtype).eval()
        return CudaGraphsRuntime(graph, dtype, self._model.spec.max_row_tokens)


def _only_torch(candidates: Sequence[Candidate], reason: str) -> list[Candidate]:
    remaining = [candidate for candidate in candidates if candidate.runtime not in EXPORT_RUNTIMES]
    if not remaining:
        raise ModelBrokenError(f"the model cannot be exported for another runtime: {reason}")
    return remaining
