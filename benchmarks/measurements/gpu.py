"""How busy a CUDA device is kept: the DeBERTa-sized model under backlog, beside the best loop without a service.

`python -m benchmarks --only gpu` on a machine with a GPU; anywhere else it says that there is none. The precision
is set by hand, since random weights give many scores close to the threshold, and no two precisions agree on those.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.contestants import EngineAlone, Library, in_sorted_batches
from benchmarks.figures import Value
from benchmarks.measurements import medium
from benchmarks.service import Service, percentile
from benchmarks.texts import Mix, usual
from worker.model.engine import GlinerEngine
from worker.model.runtimes import Candidate
from worker.model.selection.choice_cache import CachedChoice, Selection
from worker.model.sources.resolve import resolve_model
from worker.protocols import Engine

BATCH_SIZES = (32, 64, 128, 256)
LOAD = 0.7
WARM_UP = 512
"""Texts that are read first: enough for shapes to come again and be recorded."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """An engine that never waits for texts: documents a second, part of the time in `forward`, its ms for each."""

    rate: float
    busy: float
    forward_ms: float


def here() -> bool:
    """Whether there is a device to measure."""
    return torch.cuda.is_available()


def measure(documents: int, load_s: float) -> list[Value]:
    """Both ways to run the model on the device, the best batch loop, and the whole service.

    Args:
        documents: texts of the usual mix.
        load_s: how long single texts are sent.
    """
    folder, mix = medium.medium(), usual(documents)
    half = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    offline = max(_offline(folder, mix, half))
    rows = [Value(f"best batch loop of the library, {half}", offline, "documents/s")]
    budget = 0
    for runtime in ("torch", "cudagraphs"):
        engine = _engine(folder, runtime, half)
        budget = engine.warm_up()
        found = backlog(engine, budget, mix)
        ours = runtime == "cudagraphs"
        rows += [
            Value(f"engine, {runtime}", found.rate, "documents/s"),
            Value(f"{runtime}: GPU a document", found.forward_ms, "ms", "<= 30"),
            Value(f"{runtime}: forward busy under backlog", found.busy, "", ">= 0.9" * ours),
            Value(f"{runtime} / best batch loop", found.rate / offline, "", ">= 0.9" * ours),
        ]
    return [*rows, Value("padded tokens of a micro-batch", budget), *_service(folder, half, mix, load_s)]


def backlog(engine: Engine, budget: int, mix: Mix) -> Backlog:
    """All texts at once, after a few to warm up."""
    EngineAlone(engine, budget).run(mix.first(WARM_UP))
    timed = _Timed(engine)
    run = EngineAlone(timed, budget).run(mix)
    count = len(mix.texts)
    return Backlog(count / run.seconds, timed.forward_s / run.seconds, 1000 * timed.forward_s / count)


class _Timed:
    """An engine that counts the seconds in its model; they end when the device has computed."""

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


def _offline(folder: Path, mix: Mix, half: str) -> Iterator[float]:
    """Documents a second of gliner's own batches, sorted by length, by their size."""
    model = medium.load(folder).to("cuda")
    dtype = torch.bfloat16 if half == "bf16" else torch.float16
    with torch.autocast("cuda", dtype=dtype):
        for size in BATCH_SIZES:
            loop = Library("", in_sorted_batches(size), model)
            loop.run(mix.first(WARM_UP))
            yield len(mix.texts) / min(loop.run(mix).seconds for _ in range(2))


def _engine(folder: Path, runtime: str, half: str) -> GlinerEngine:
    """The engine on this runtime, whatever a calibration would say of random weights."""
    from worker.model import gliner_loader
    from worker.model.runtimes.cudagraphs import CudaGraphsRuntime
    from worker.model.runtimes.torch import TorchRuntime
    from worker.model.selection.select import DTYPES
    from worker.model.static_graph import StaticGraph

    loaded, dtype = gliner_loader.load_gliner(folder, "cuda"), DTYPES[half]
    graph = gliner_loader.build_graph(loaded)
    model = gliner_loader.describe_model(loaded, resolve_model(str(folder), None, folder), graph.inputs)
    run_by: Any = TorchRuntime(graph, "cuda", dtype)
    if runtime == "cudagraphs":
        run_by = CudaGraphsRuntime(StaticGraph(graph.core, dtype).eval(), dtype, model.spec.max_row_tokens)
    return GlinerEngine(Selection(run_by, CachedChoice(Candidate(runtime, half), model)), "cuda")


def _service(folder: Path, half: str, mix: Mix, load_s: float) -> list[Value]:
    """Over HTTP: one large job, and single texts at a part of what 32 clients reach."""
    chosen = {"GLEANER_RUNTIME": "torch", "GLEANER_PRECISION": half, "GLEANER_MODEL_SOURCE": str(folder)}
    with Service.started(**chosen) as service:
        service.one_job(mix.first(WARM_UP))
        job = len(mix.texts) / service.one_job(mix).seconds
        crowd = mix.first(max(WARM_UP, len(mix.texts) // 4))
        rate = LOAD * len(crowd.texts) / service.many_clients(crowd).seconds
        late = service.at_rate(usual(max(20, int(rate * load_s)), seed=2), rate).latencies_s
    return [
        Value("documents a second a node, torch", job, "", ">= 1000"),
        Value(f"median at {LOAD:.0%} of the capacity", 1000 * statistics.median(late), "ms"),
        Value(f"p99 at {LOAD:.0%} of the capacity", 1000 * percentile(late, 99), "ms", "<= 50"),
    ]
