"""Contestants that run the same texts through the same model in this process: gliner's calls, Gleaner's engine.

They run several times in turn; their spans are compared with those of `predict_entities` one by one.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.texts import Mix
from jobs.schema import Document
from jobs.tasks import Tasks
from worker.batching.batcher import MicroBatcher
from worker.batching.observer import Observer
from worker.protocols import Engine, ShardRef
from worker.text.merging import Findings, merge_windows
from worker.text.windows import JobContext, cut_document

SHARD = 32
BATCH_SIZES = (4, 8, 16, 32)
Spans = frozenset[tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class Run:
    """A contestant's run through all texts of a mix.

    Attributes:
        seconds: from the first text submitted to the last answer received.
        spans: (start, end, label) of the entities in each text.
        cpu_s: CPU seconds by part.
        fill: share of real tokens in all tokens of the forward passes; None where not counted.
        latencies_s: seconds of single calls, if there were any.
    """

    seconds: float
    spans: Sequence[Spans]
    cpu_s: dict[str, float]
    fill: float | None = None
    latencies_s: Sequence[float] = ()


class Contestant(Protocol):
    """Anything that finds entities; started once, run many times."""

    @property
    def name(self) -> str:
        """Name in the table."""
        ...

    def run(self, mix: Mix) -> Run:
        """Run every text of the mix once."""
        ...


class Library:
    """gliner as its users call it.

    Args:
        name: name in the table.
        call: (model, mix) -> entities of each text.
        model: loaded by gliner.
    """

    def __init__(self, name: str, call: Callable[[Any, Mix], list[Any]], model: Any) -> None:
        self.name = name
        self._call = call
        self._model = model

    def run(self, mix: Mix) -> Run:
        """Run every text of the mix once."""
        cpu, began = time.process_time(), time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = self._call(self._model, mix)
        seconds = time.perf_counter() - began
        return Run(seconds, [to_spans(entities) for entities in results], {"all": time.process_time() - cpu})


def to_spans(entities: Sequence[dict[str, Any]]) -> Spans:
    """Return entities of gliner, or of a result, as a set."""
    return frozenset((entity["start"], entity["end"], entity["label"]) for entity in entities)


def predict_one_by_one(model: Any, mix: Mix) -> list[Any]:
    """Call `predict_entities` for each text."""
    return [model.predict_entities(text, list(labels)) for text, labels in zip(mix.texts, mix.labels, strict=True)]


def predict_in_batches(model: Any, mix: Mix, size: int = 8) -> list[Any]:
    """Call `inference` in the order of arrival, by default with the library's default batch size."""
    label_lists: Any = list(mix.labels[0]) if mix.shared else [list(labels) for labels in mix.labels]
    return list(model.inference(list(mix.texts), label_lists, batch_size=size))


def sorted_batches(size: int) -> Callable[[Any, Mix], list[Any]]:
    """Return a call of `inference` with texts sorted by length; its answers are in the order of arrival."""

    def call(model: Any, mix: Mix) -> list[Any]:
        order = sorted(range(len(mix.texts)), key=lambda i: len(mix.texts[i].split()))
        ordered = Mix(tuple(mix.texts[i] for i in order), tuple(mix.labels[i] for i in order))
        results: list[Any] = [None] * len(order)
        for i, entities in zip(order, predict_in_batches(model, ordered, size), strict=True):
            results[i] = entities
        return results

    return call


def find_best_batch_size(model: Any, mix: Mix, sizes: Sequence[int] = BATCH_SIZES) -> int:
    """Return the size with which sorted batches of these texts take the least time."""
    return min(sizes, key=lambda size: Library("", sorted_batches(size), model).run(mix).seconds)


@dataclass
class TokenCounter(Observer):
    """Observer of the micro-batcher that counts tokens."""

    real: int = 0
    padded: int = 0

    def record_batch(self, windows: int, jobs: int, real: int, padded: int) -> None:
        """Count the tokens of a micro-batch."""
        self.real += real
        self.padded += padded


class EngineAlone:
    """Gleaner's windows, micro-batcher and engine in this process, without HTTP, ledger or Celery.

    Attributes:
        budget: most padded tokens of a micro-batch.
    """

    name = "gleaner engine"

    def __init__(self, engine: Engine, budget: int) -> None:
        self._engine = engine
        self.budget = budget

    @property
    def runs_on(self) -> str:
        """Runtime and precision that were selected for the engine."""
        return f"{self._engine.spec.runtime} {self._engine.spec.precision}"

    def run(self, mix: Mix) -> Run:
        """Run every text of the mix once, as shards of one job."""
        counter = TokenCounter()
        cpu, began = time.process_time(), time.perf_counter()
        with MicroBatcher(self._engine, self.budget, observer=counter) as batcher:
            shards = []
            for first in range(0, len(mix.texts), SHARD):
                plans = [self._cut_text(i, mix) for i in range(first, min(first + SHARD, len(mix.texts)))]
                shards.append((plans, batcher.submit("bench", [w for plan in plans for w in plan.windows])))
            spans = []
            for plans, future in shards:
                outcomes = iter(future.result())
                for plan in plans:
                    findings = Findings.collect(plan, [next(outcomes) for _ in plan.windows])
                    result = merge_windows(plan, findings, 1)
                    spans.append(frozenset((e.start, e.end, e.label) for e in result.entities))
        seconds = time.perf_counter() - began
        return Run(seconds, spans, {"all": time.process_time() - cpu}, counter.real / counter.padded)

    def _cut_text(self, index: int, mix: Mix) -> Any:
        document = Document(index, str(index), mix.texts[index])
        owner = ShardRef("bench", index // SHARD)
        return cut_document(document, JobContext(owner, Tasks(dict.fromkeys(mix.labels[index]))), self._engine)

    def model_cpu_s(self, mix: Mix) -> float:
        """Return CPU seconds of the forward passes of a run, measured by repeating only these."""
        recorder = _RecordingEngine(self._engine)
        EngineAlone(recorder, self.budget).run(mix)
        before = time.process_time()
        for batch in recorder.batches:
            self._engine.forward(batch)
        return time.process_time() - before


class _RecordingEngine:
    """An engine that stores the batches of its forward passes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.batches: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def forward(self, batch: Any) -> Any:
        self.batches.append(batch)
        return self._engine.forward(batch)
