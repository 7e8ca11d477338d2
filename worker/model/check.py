"""Compares a model, loaded as a worker loads it, with its library: built-in texts -> comparisons -> a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.schema import Document, Labels, Options
from jobs.tasks import Task, Tasks
from worker.model.engine import EngineOptions, load_model
from worker.model.selection import parity
from worker.model.sources.resolve import Resolved
from worker.protocols import Engine, PromptFormat, ShardRef
from worker.text.merging import Findings, merge_windows
from worker.text.windows import JobContext, Plan, cut_document

THRESHOLD = 0.5
"""Score from which entities are compared. With a lower one, random weights give more than an answer may have."""
LIBRARY_FORMATS = (PromptFormat.GLINER, PromptFormat.NONE)
"""Forms of prompt whose models the library `gliner` answers with `predict_entities`."""

Scores = dict[tuple[int, int, str], float]
"""Score by start, end and label."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Entities of one text: the library's, and the largest difference of a score from it.

    Attributes:
        text: the text.
        entities: number of entities that the library found.
        alone: the difference if the text is in a micro-batch alone.
        in_company: the difference if all texts are in one micro-batch.
    """

    text: str
    entities: int
    alone: float
    in_company: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of checking a model.

    Attributes:
        runtime: the runtime and precision that a worker would take.
        tasks: the tasks that the model can do.
        margin: largest difference of a score that counts as equal in this precision.
        comparisons: of the entities in each text.
        not_compared: tasks for which there is no comparison with the library.
    """

    runtime: str
    tasks: tuple[Task, ...]
    margin: float
    comparisons: tuple[Comparison, ...]
    not_compared: tuple[Task, ...]

    @property
    def reason(self) -> str | None:
        """The reason for which the model does not pass; None if every answer equals the library's."""
        if not self.comparisons:
            return "its answers cannot be compared: this version has no comparison with the model's library"
        worst = max(max(comparison.alone, comparison.in_company) for comparison in self.comparisons)
        if worst > self.margin:
            return f"scores differ from the library's by up to {worst:.4f}; {self.margin} is allowed"
        if not any(comparison.entities for comparison in self.comparisons):
            return f"nothing was compared: the library finds no entity with a score of {THRESHOLD} in any text"
        return None


def check_model(model: Resolved, options: EngineOptions) -> Verdict:
    """Load a model as a worker does, and compare its entities with the library's.

    Raises:
        ModelError: a worker would refuse the model; the message says why.
        ValueError: the device or runtime is not available, or does not support the precision.
    """
    engine = load_model(model, options)
    spec = engine.spec
    compares = spec.prompt_format in LIBRARY_FORMATS
    return Verdict(
        runtime=f"{spec.runtime} {spec.precision}",
        tasks=spec.tasks,
        margin=parity.MARGINS[spec.precision],
        comparisons=tuple(compare_entities(engine, _load_library(model, engine))) if compares else (),
        not_compared=tuple(task for task in spec.tasks if task is not Task.ENTITIES or not compares),
    )


def _load_library(model: Resolved, engine: Engine) -> Any:
    """Return the model as gliner runs it, with the words of the worker, which keeps marks with their letters."""
    from worker.model import gliner_loader  # with gliner and torch: seconds to import

    library = gliner_loader.load_gliner(model.folder, "cpu", model.files)
    library.data_processor.words_splitter = lambda text: zip(*engine.split(text), strict=True)
    return library


def compare_entities(engine: Engine, library: Any) -> list[Comparison]:
    """Compare the entities of the built-in texts with those of a model as loaded by gliner."""
    label_sets = parity.LABEL_SETS
    cases = [
        (text, label_sets[number % len(label_sets)]) for number, text in enumerate((*parity.SCRIPTS, *parity.TEXTS))
    ]
    plans = [_plan(engine, text, labels) for text, labels in cases]
    # The library truncates a longer text.
    cases = [case for case, plan in zip(cases, plans, strict=True) if len(plan.windows) == 1]
    plans = [plan for plan in plans if len(plan.windows) == 1]
    comparisons = []
    for (text, labels), plan, in_company in zip(cases, plans, _extract(engine, plans), strict=True):
        [alone] = _extract(engine, [plan])
        expected = _predict(library, text, labels)
        differences = (_largest_difference(expected, scores) for scores in (alone, in_company))
        comparisons.append(Comparison(text, len(expected), *differences))
    return comparisons


def _plan(engine: Engine, text: str, labels: Labels) -> Plan:
    # Overlaps are kept: of two with almost equal scores either may win, which says nothing about the model.
    options = Options(threshold=THRESHOLD, flat=False, multi_label=True)
    return cut_document(Document(0, "0", text), JobContext(ShardRef("check", 0), Tasks(labels), options), engine)


def _extract(engine: Engine, plans: Sequence[Plan]) -> list[Scores]:
    """Return the answers of all plans, whose windows are run as one micro-batch."""
    windows = [window for plan in plans for window in plan.windows]
    engine.prepare_labels(windows, lambda: None)
    batch = engine.collate(windows)
    outcomes: Iterator[Any] = iter(engine.decode(batch, engine.forward(batch)))
    answers = []
    for plan in plans:
        findings = Findings.collect(plan, tuple(next(outcomes) for _ in plan.windows))
        result = merge_windows(plan, findings, 1)
        answers.append({(entity.start, entity.end, entity.label): entity.score for entity in result.entities})
    return answers


def _predict(library: Any, text: str, labels: Labels) -> Scores:
    entities = library.predict_entities(text, list(labels), threshold=THRESHOLD, flat_ner=False, multi_label=True)
    return {(entity["start"], entity["end"], entity["label"]): entity["score"] for entity in entities}


def _largest_difference(expected: Scores, actual: Scores) -> float:
    """Return the largest difference of a score; an entity that one side lacks has at most the threshold there."""
    keys = expected.keys() | actual.keys()
    return max((abs(expected.get(key, THRESHOLD) - actual.get(key, THRESHOLD)) for key in keys), default=0.0)
