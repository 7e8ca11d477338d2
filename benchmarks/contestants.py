"""Ways to run the same texts through the same model in this process: gliner's own calls, and Gleaner's engine.

Each is run several times, turn about with the others; what it found is held against `predict_entities` one by one.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.texts import Mix
from jobs.schema import Document
from worker.batching.batcher import MicroBatcher
from worker.protocols import Engine, ShardRef
from worker.text.merging import Findings, merge_windows
from worker.text.windows import JobContext, cut_document

SHARD = 32
BATCH_SIZES = (4, 8, 16, 32)
Spans = frozenset[tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant's way through all texts of a mix.

    Attributes:
        seconds: from the first text in to the last answer out.
        spans: what was found in each text: (start, end, label).
        cpu_s: CPU seconds by part.
        fill: real tokens in all tokens of the forward passes; None where nobody counted.
        latencies_s: of single calls, where there were any.
    """

    seconds: float
    spans: Sequence[Spans]
    cpu_s: dict[str, float]
    fill: float | None = None
    latencies_s: Sequence[float] = ()


class Contestant(Protocol):
    """Something that finds entities; started once, run many times."""

    @property
    def name(self) -> str:
        """As the table names it."""
        ...

    def run(self, mix: Mix) -> Run:
        """Every text of the mix, once."""
        ...


class Library:
    """gliner as its users call it.

    Args:
        name: the contestant's.
        call: (model, mix) -> entities of each text.
        model: loaded by gliner.
    """

    def __init__(self, name: str, call: Callable[[Any, Mix], list[Any]], model: Any) -> None:
        self.name = name
        self._call = call
        self._model = model

    def run(self, mix: Mix) -> Run:
        """Every text of the mix, once."""
        cpu, began = time.process_time(), time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = self._call(self._model, mix)
        seconds = time.perf_counter() - began
        return Run(seconds, [spans(one) for one in found], {"all": time.process_time() - cpu})


def spans(entities: Sequence[dict[str, Any]]) -> Spans:
    """Entities of gliner, or of a result, as a set."""
    return frozenset((one["start"], one["end"], one["label"]) for one in entities)


def one_by_one(model: Any, mix: Mix) -> list[Any]:
    """`predict_entities` for each text."""
    return [model.predict_entities(text, list(labels)) for text, labels in zip(mix.texts, mix.labels, strict=True)]


def in_batches(model: Any, mix: Mix, size: int = 8) -> list[Any]:
    """`inference` in the order of arrival, with the library's own batch size."""
    labels: Any = list(mix.labels[0]) if mix.shared else [list(own) for own in mix.labels]
    return list(model.inference(list(mix.texts), labels, batch_size=size))


def in_sorted_batches(size: int) -> Callable[[Any, Mix], list[Any]]:
    """`inference` of texts sorted by length; the answers in the order of arrival."""

    def call(model: Any, mix: Mix) -> list[Any]:
        order = sorted(range(len(mix.texts)), key=lambda i: len(mix.texts[i].split()))
        ordered = Mix(tuple(mix.texts[i] for i in order), tuple(mix.labels[i] for i in order))
        found: list[Any] = [None] * len(order)
        for i, entities in zip(order, in_batches(model, ordered, size), strict=True):
            found[i] = entities
        return found

    return call


def best_batch_size(model: Any, mix: Mix, sizes: Sequence[int] = BATCH_SIZES) -> int:
    """The size with which sorted batches of these texts take least time."""
    return min(sizes, key=lambda size: Library("", in_sorted_batches(size), model).run(mix).seconds)


@dataclass
class Counted:
    """What the micro-batcher reported."""

    real: int = 0
    padded: int = 0

    def microbatch(self, windows: int, jobs: int, real: int, padded: int) -> None:
        """One micro-batch."""
        self.real += real
        self.padded += padded

    def stage(self, stage: str, seconds: float) -> None:
        """Not looked at."""

    def out_of_memory(self, action: str) -> None:
        """Not expected here."""


class EngineAlone:
    """Gleaner's windows, micro-batcher and engine in this process, without HTTP, ledger or Celery.

    Attributes:
        budget: padded tokens a micro-batch may have.
    """

    name = "gleaner engine"

    def __init__(self, engine: Engine, budget: int) -> None:
        self._engine = engine
        self.budget = budget

    @property
    def runs_on(self) -> str:
        """Return the runtime and precision that the engine's calibration chose."""
        return f"{self._engine.spec.runtime} {self._engine.spec.precision}"

    def run(self, mix: Mix) -> Run:
        """Every text of the mix, once, as shards of one job."""
        counted = Counted()
        cpu, began = time.process_time(), time.perf_counter()
        with MicroBatcher(self._engine, self.budget, observer=counted) as batcher:
            shards = []
            for first in range(0, len(mix.texts), SHARD):
                plans = [self._plan(i, mix) for i in range(first, min(first + SHARD, len(mix.texts)))]
                shards.append((plans, batcher.submit("bench", [w for plan in plans for w in plan.windows])))
            found = []
            for plans, future in shards:
                outcomes = iter(future.result())
                for plan in plans:
                    findings = Findings.collect(plan, [next(outcomes) for _ in plan.windows])
                    result = merge_windows(plan, findings, 1)
                    found.append(frozenset((e.start, e.end, e.label) for e in result.entities))
        seconds = time.perf_counter() - began
        return Run(seconds, found, {"all": time.process_time() - cpu}, counted.real / counted.padded)

    def _plan(self, index: int, mix: Mix) -> Any:
        document = Document(index, str(index), mix.texts[index])
        owner = ShardRef("bench", index // SHARD)
        return cut_document(document, JobContext(owner, dict.fromkeys(mix.labels[index])), self._engine)

    def model_cpu_s(self, mix: Mix) -> float:
        """CPU seconds of the forward passes alone: those of one run, done again with nothing beside them."""
        keeping = _Keeping(self._engine)
        EngineAlone(keeping, self.budget).run(mix)
        before = time.process_time()
        for batch in keeping.batches:
            self._engine.forward(batch)
        return time.process_time() - before


class _Keeping:
    """An engine that remembers what went into its model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.batches: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def forward(self, batch: Any) -> Any:
        self.batches.append(batch)
        return self._engine.forward(batch)
