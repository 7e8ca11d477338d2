"""Utilisation of a CUDA device: the DeBERTa-sized model under backlog, compared with the best plain batch loop.

`python -m benchmarks --only gpu` on a machine with a GPU; elsewhere the section is skipped. The precision is fixed,
since random weights give many scores close to the threshold, on which no two precisions agree.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.contestants import EngineAlone, Library, sorted_batches
from benchmarks.figures import Value
from benchmarks.measurements import medium
from benchmarks.service import Service, percentile
from benchmarks.texts import Mix, make_usual_mix
from worker.model.engine import GlinerEngine
from worker.model.runtimes import Candidate
from worker.model.selection.choice_cache import CachedChoice, Selection
from worker.model.sources.resolve import resolve_model
from worker.protocols import Engine

BATCH_SIZES = (32, 64, 128, 256)
LOAD = 0.7
WARM_UP = 512
"""Texts that are read first: enough for shapes to recur and be recorded."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Result of a run under backlog: documents per second, share of time in `forward`, its ms per document."""

    rate: float
    busy: float
    forward_ms: float


def has_device() -> bool:
    """Return whether there is a CUDA device."""
    return torch.cuda.is_available()


def measure_gpu(documents: int, load_s: float) -> list[Value]:
    """Measure both runtimes for the device, the best batch loop, and the whole service.

    Args:
        documents: number of texts of the usual mix.
        load_s: seconds for which single texts are sent.
    """
    folder, mix = medium.medium_folder(), make_usual_mix(documents)
    half = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    offline = max(_batch_loop_rates(folder, mix, half))
    rows = [Value(f"best batch loop of the library, {half}", offline, "documents/s")]
    budget = 0
    for runtime in ("torch", "cudagraphs"):
        engine = _load_engine(folder, runtime, half)
        budget = engine.warm_up()
        result = measure_backlog(engine, budget, mix)
        ours = runtime == "cudagraphs"
        rows += [
            Value(f"engine, {runtime}", result.rate, "documents/s"),
            Value(f"{runtime}: GPU time per document", result.forward_ms, "ms", "<= 30"),
            Value(f"{runtime}: forward busy under backlog", result.busy, "", ">= 0.9" * ours),
            Value(f"{runtime} / best batch loop", result.rate / offline, "", ">= 0.9" * ours),
        ]
    return [*rows, Value("padded tokens of a micro-batch", budget), *_measure_service(folder, half, mix, load_s)]


def measure_backlog(engine: Engine, budget: int, mix: Mix) -> Backlog:
    """Run all texts at once, after a few to warm up."""
    EngineAlone(engine, budget).run(mix.take(WARM_UP))
    timed = _TimedEngine(engine)
    run = EngineAlone(timed, budget).run(mix)
    count = len(mix.texts)
    return Backlog(count / run.seconds, timed.forward_s / run.seconds, 1000 * timed.forward_s / count)


class _TimedEngine:
    """An engine that counts the seconds of forward passes, until the device has computed them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.forward_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def forward(self, batch: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._engine.forward(batch)
        finally:
            self.forward_s += time.perf_counter() - began


def _batch_loop_rates(folder: Path, mix: Mix, half: str) -> Iterator[float]:
    """Yield documents per second of gliner's own batches, sorted by length, for each batch size."""
    model = medium.load_medium(folder).to("cuda")
    dtype = torch.bfloat16 if half == "bf16" else torch.float16
    with torch.autocast("cuda", dtype=dtype):
        for size in BATCH_SIZES:
            loop = Library("", sorted_batches(size), model)
            loop.run(mix.take(WARM_UP))
            yield len(mix.texts) / min(loop.run(mix).seconds for _ in range(2))


def _load_engine(folder: Path, runtime: str, half: str) -> GlinerEngine:
    """Return the engine on this runtime, without the check of scores, which random weights do not pass."""
    from worker.model import gliner_loader
    from worker.model.runtimes.cudagraphs import CudaGraphsRuntime
    from worker.model.runtimes.torch import TorchRuntime
    from worker.model.selection.select import DTYPES
    from worker.model.static_graph import StaticGraph

    loaded, dtype = gliner_loader.load_gliner(folder, "cuda"), DTYPES[half]
    graph = gliner_loader.build_graph(loaded)
    model = gliner_loader.describe_model(loaded, resolve_model(str(folder), None, folder), graph.inputs)
    chosen: Any = TorchRuntime(graph, "cuda", dtype)
    if runtime == "cudagraphs":
        chosen = CudaGraphsRuntime(StaticGraph(graph.core, dtype).eval(), dtype, model.spec.max_row_tokens)
    return GlinerEngine(Selection(chosen, CachedChoice(Candidate(runtime, half), model)), "cuda")


def _measure_service(folder: Path, half: str, mix: Mix, load_s: float) -> list[Value]:
    """Return figures over HTTP: one large job, and single texts at a share of the rate of 32 clients."""
    settings = {"GLEANER_RUNTIME": "torch", "GLEANER_PRECISION": half, "GLEANER_MODEL_SOURCE": str(folder)}
    with Service.start(**settings) as service:
        service.run_one_job(mix.take(WARM_UP))
        job = len(mix.texts) / service.run_one_job(mix).seconds
        crowd = mix.take(max(WARM_UP, len(mix.texts) // 4))
        rate = LOAD * len(crowd.texts) / service.run_many_clients(crowd).seconds
        late = service.run_at_rate(make_usual_mix(max(20, int(rate * load_s)), seed=2), rate).latencies_s
    return [
        Value("documents per second and node, torch", job, "", ">= 1000"),
        Value(f"median latency at {LOAD:.0%} of the capacity", 1000 * statistics.median(late), "ms"),
        Value(f"p99 latency at {LOAD:.0%} of the capacity", 1000 * percentile(late, 99), "ms", "<= 50"),
    ]
