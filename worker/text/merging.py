"""Merges the outcomes of a document's windows into its result. Pure.

Spans become entities, with explanations and redaction; pairs of spans become relations; scores of classes are
aggregated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import orjson

from jobs.schema import (
    DocumentError,
    DocumentErrorCode,
    DocumentResult,
    DocumentStatus,
    Entity,
    Explanation,
    OffsetUnit,
)
from jobs.tasks import ClassScore, Relation
from worker.protocols import Failed, Outcome, Span, SpanKey, Spans
from worker.text.adjacent import merge_adjacent
from worker.text.bounds import Budget
from worker.text.classes import ClassScores
from worker.text.explanations import SpanExplanation, estimate_confidence, explain_spans
from worker.text.redaction import EntityRange, RedactionRules, redact_text
from worker.text.relations import EntityPair, Pairs
from worker.text.spans import SpanCandidate, SpanContext, combine_candidates
from worker.text.windows import Plan, WindowGrid
from worker.text.words import WindowKind

_ORDER = itemgetter(0, 1, 3)
"""Entities are sorted by start, end, label."""
SPANS_PER_ENTITY = 2
"""Spans that are combined per entity that a document may have: overlapping windows find most entities twice."""
ENTITY_BYTES = 64
EXPLANATION_BYTES = 256
RELATION_BYTES = 64
CLASS_BYTES = 32
"""Approximate size of an entity, its explanation, a relation and a class as JSON, without their texts."""
SMALL_ENTITY_COUNT = 200
SHORT_ENTITY = 1000
"""The size of up to `SMALL_ENTITY_COUNT` entities is not computed if each has at most `SHORT_ENTITY` characters."""


class Findings:
    """The outcomes of a plan's windows; if there are too many spans, only the best are kept.

    Attributes:
        failed: the first window that failed.
        left_out: number of spans that passed their threshold and were omitted.
        span_count: number of spans that are kept.
        pairs: the relations between spans.
        classes: the scores of classes.
    """

    def __init__(self, plan: Plan) -> None:
        self.failed: Failed | None = None
        self.left_out = 0
        self.span_count = 0
        self.pairs = Pairs(SPANS_PER_ENTITY * plan.limits.relations)
        self.classes = ClassScores(plan.tasks.classifications, plan.options.class_aggregation)
        self._grid = plan.grid
        self._max_spans = SPANS_PER_ENTITY * plan.limits.entities
        self._spans: list[Sequence[Span]] = []

    @classmethod
    def collect(cls, plan: Plan, outcomes: Iterable[Outcome]) -> Findings:
        """Return the outcomes of all windows of a plan, in their order."""
        findings = cls(plan)
        for outcome in outcomes:
            findings.add(outcome)
        return findings

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of the next window."""
        if isinstance(outcome, Failed):
            self.failed = self.failed or outcome
            self._spans.clear()
        if self.failed or isinstance(outcome, Failed):
            return
        self._spans.append(outcome)
        self.span_count += len(outcome)
        if isinstance(outcome, Spans):
            self.left_out += outcome.left_out
            self._add_answers(outcome)
        if self.span_count > 2 * self._max_spans:
            self._keep_best()

    def _add_answers(self, outcome: Spans) -> None:
        if self._grid is not None and (outcome.pairs or outcome.classes):
            position = self._grid.locate_window(len(self._spans) - 1)
            self.pairs.add(outcome.pairs, position)
            self.pairs.left_out += outcome.pairs_left_out
            self.classes.add(outcome.classes, position)

    def spans_by_window(self) -> Sequence[Sequence[Span]]:
        """Return the spans of each window, in the windows' order."""
        if self.span_count > self._max_spans:
            self._keep_best()
        return self._spans

    def _keep_best(self) -> None:
        """Omit the spans of the lowest scores; of equal ones those that came last."""
        scores = sorted((span.score for spans in self._spans for span in spans), reverse=True)
        least = scores[self._max_spans - 1]
        ties = self._max_spans - sum(score > least for score in scores[: self._max_spans])
        best_by_window: list[Sequence[Span]] = []
        for spans in self._spans:
            best = []
            for span in spans:
                if span.score > least or (span.score == least and ties > 0):
                    ties -= span.score == least
                    best.append(span)
            best_by_window.append(Spans(best))
        self.left_out += self.span_count - self._max_spans
        self.span_count = self._max_spans
        self._spans = best_by_window


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answers that a document's result contains.

    Attributes:
        entities: by start, end and label.
        relations: by head, tail and label; None if none were asked for.
        left_out: number of spans that do not fit.
        pairs_left_out: number of relations that do not fit.
    """

    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] | None = None
    redacted_text: str | None = None
    left_out: int = 0
    pairs_left_out: int = 0


def merge_windows(
    plan: Plan, findings: Findings, attempts: int, budget: Budget | None = None, max_bytes: int | None = None
) -> DocumentResult:
    """Merge the outcomes of windows into the document's result; one failed window fails the document.

    `attempts` is the number of times its shard was begun. Its entities and relations may have `max_bytes` as JSON,
    by default the plan's limit.
    """
    failed, limit = findings.failed, plan.limits.document_bytes
    error = DocumentError(failed.code, failed.detail) if failed else plan.error
    answers = _Answers()
    if error is None and plan.grid is not None:
        max_bytes = limit if max_bytes is None else min(limit, max_bytes)
        answers = _collect_answers(plan, plan.grid, findings, max_bytes, budget or Budget())
        if answers.left_out and plan.options.redaction:
            detail = "More entities pass the thresholds than a result can hold; the rest would not be redacted."
            error = DocumentError(DocumentErrorCode.TOO_MANY_ENTITIES, f"{detail} Raise the thresholds.")
    if error is not None:
        return failed_result(plan, error, attempts)
    return DocumentResult(
        plan.document.index,
        plan.document.id,
        DocumentStatus.SUCCEEDED,
        entities=answers.entities,
        windows=len(plan.windows),
        truncated=plan.truncated,
        warnings=(*plan.warnings, *_warn_of_omissions(answers)),
        attempts=attempts,
        text=plan.document.text if plan.options.return_text else None,
        redacted_text=answers.redacted_text,
        relations=answers.relations,
        classifications=findings.classes.rank_classes() if plan.tasks.classifications else None,
    )


def _warn_of_omissions(answers: _Answers) -> list[str]:
    warnings = []
    if answers.left_out:
        warnings.append(
            f"{answers.left_out} spans with the lowest scores were left out; raise the threshold to get fewer."
        )
    if answers.pairs_left_out:
        warnings.append(
            f"{answers.pairs_left_out} relations with the lowest scores were left out; raise `relation_threshold` "
            "to get fewer."
        )
    return warnings


def failed_result(plan: Plan, error: DocumentError, attempts: int) -> DocumentResult:
    """Return the result of a document that failed."""
    document = plan.document
    return DocumentResult(
        document.index,
        document.id,
        DocumentStatus.FAILED,
        windows=len(plan.windows),
        attempts=attempts,
        error=error,
        text=document.text if plan.options.return_text else None,
    )


def estimate_bytes(result: DocumentResult) -> int:
    """Return the approximate size of a result's answers as JSON."""
    classes: Mapping[str, Sequence[ClassScore]] = result.classifications or {}
    return (
        _estimate_entities(result.entities)
        + sum(RELATION_BYTES + len(relation.label) for relation in result.relations or ())
        + sum(CLASS_BYTES + len(answer.label) for answers in classes.values() for answer in answers)
    )


def _estimate_entities(entities: Iterable[Entity]) -> int:
    return sum(
        ENTITY_BYTES + len(entity.text) + len(entity.label) + (EXPLANATION_BYTES if entity.explain else 0)
        for entity in entities
    )


def _combine_windows(
    plan: Plan, grid: WindowGrid, spans_by_window: Sequence[Sequence[Span]], budget: Budget
) -> tuple[Sequence[Span], Sequence[SpanCandidate]]:
    """Return the document's spans and, for explanations, the spans of all windows."""
    position = grid.locate_window(0)
    if len(plan.windows) == 1 and len(position.labels) == len(grid.prompts.names):  # indexes stay the same
        [spans] = spans_by_window
        window = position.first, position.last
        explained = spans if plan.options.explain else ()
        return spans, [SpanCandidate(span, SpanContext.INSIDE, window=window) for span in explained]
    candidates, last_word = [], max(last for _, last, _ in grid.ranges)
    for index, spans in enumerate(budget.iterate(spans_by_window)):
        if not spans:
            continue
        position = grid.locate_window(index)
        first, labels = position.first, position.labels
        window = first, position.last
        for span in budget.iterate(spans):
            cut_left = span.start == 0 and first > 0
            cut_right = first + span.end == position.last and position.last < last_word
            context = SpanContext.AT_EDGE if cut_left or cut_right else SpanContext.INSIDE
            if position.kind is WindowKind.SENTENCE:
                context = SpanContext.SENTENCE
            runners_up = tuple((labels[label], score) for label, score in span.runners_up)
            moved = Span(first + span.start, first + span.end, labels[span.label], span.score, runners_up)
            candidates.append(SpanCandidate(moved, context, cut_left, cut_right, window))
    combined = combine_candidates(candidates, plan.options.flat, plan.options.multi_label, budget)
    return combined, candidates if plan.options.explain else ()


def _collect_answers(plan: Plan, grid: WindowGrid, findings: Findings, max_bytes: int, budget: Budget) -> _Answers:
    """Return the document's entities and relations, and its redacted text if requested."""
    spans, candidates = _combine_windows(plan, grid, findings.spans_by_window(), budget)
    text, unit, redaction = plan.document.text, plan.options.offset_unit, plan.options.redaction
    word_starts, word_ends, names = grid.text.starts, grid.text.ends, grid.prompts.names
    weakest: Mapping[SpanKey, Span] = {}
    if plan.options.merge_adjacent:
        spans, weakest = merge_adjacent(spans, text, word_starts, word_ends, budget)
    spans, over = _limit_size(plan, grid, spans, max_bytes, budget)
    left_out = findings.left_out + over
    if left_out and redaction:
        return _Answers(left_out=left_out)
    pairs = findings.pairs.map_to_entities(spans, budget) if plan.tasks.relations else []
    budget.check()  # from here on no loop has more iterations than a document may have entities
    ranges = [(word_starts[span.start], word_ends[span.end - 1]) for span in spans]
    explanations = (
        explain_spans([weakest.get(span[:3], span) for span in spans], candidates) if plan.options.explain else []
    )
    windows = [(word_starts[e.window[0]], word_ends[e.window[1] - 1]) for e in explanations]
    offsets = _convert_offsets(text, [*windows, *ranges], unit)
    entities = [
        Entity(offsets[start], offsets[end], text[start:end], names[span.label], span.score)
        for (start, end), span in zip(ranges, spans, strict=True)
    ]
    if explanations:
        entities = [
            entity._replace(
                explain=_explain_entity(grid, entity.score, explanation, (offsets[first], offsets[last]))
            )
            for entity, explanation, (first, last) in zip(entities, explanations, windows, strict=True)
        ]
    redacted_text = None
    if redaction:
        hidden = [
            EntityRange(start, end, names[span.label], span.score)
            for (start, end), span in zip(ranges, spans, strict=True)
        ]
        redacted = redact_text(text, hidden, RedactionRules(redaction, unit, plan.redact_key), budget)
        redacted_text = redacted.text
        offsets = _convert_offsets(redacted_text, redacted.ranges, unit)
        entities = [
            entity._replace(text=redacted_text[start:end], redacted=(offsets[start], offsets[end]))
            for entity, (start, end) in zip(entities, redacted.ranges, strict=True)
        ]
    order = sorted(range(len(entities)), key=lambda index: _ORDER(entities[index]))
    ordered = tuple(entities[index] for index in order)
    if not plan.tasks.relations:
        return _Answers(ordered, None, redacted_text, left_out)
    selected = _limit_pairs(plan, pairs, max_bytes - _estimate_entities(ordered))
    relations = _make_relations([*plan.tasks.relations], selected, order)
    pairs_left_out = findings.pairs.left_out + len(pairs) - len(selected)
    return _Answers(ordered, relations, redacted_text, left_out, pairs_left_out)


def _limit_pairs(plan: Plan, ranked: Sequence[EntityPair], free_bytes: int) -> Sequence[EntityPair]:
    """Return the best pairs that fit into a result."""
    longest = max(len(orjson.dumps(name)) for name in plan.tasks.relations)
    return ranked[: max(0, min(plan.limits.relations, free_bytes // (RELATION_BYTES + longest)))]


def _make_relations(
    names: Sequence[str], pairs: Iterable[EntityPair], order: Sequence[int]
) -> tuple[Relation, ...]:
    """Return pairs of entities, which are sorted in this order, by head, tail and label."""
    positions = {index: position for position, index in enumerate(order)}
    relations = [
        Relation(names[pair.relation], positions[pair.head], positions[pair.tail], pair.score) for pair in pairs
    ]
    return tuple(sorted(relations, key=itemgetter(1, 2, 0)))


def _limit_size(
    plan: Plan, grid: WindowGrid, spans: Sequence[Span], max_bytes: int, budget: Budget
) -> tuple[Sequence[Span], int]:
    """Return the best spans that fit into a result, and the number of those that do not."""
    text, starts, ends = plan.document.text, grid.text.starts, grid.text.ends
    if len(spans) <= SMALL_ENTITY_COUNT and (
        len(text) <= SHORT_ENTITY or all(ends[span.end - 1] - starts[span.start] <= SHORT_ENTITY for span in spans)
    ):
        return spans, 0
    fixed = ENTITY_BYTES + (EXPLANATION_BYTES if plan.options.explain else 0)
    label_bytes = [fixed + len(orjson.dumps(name)) for name in grid.prompts.names]
    free_bytes, selected = max_bytes, []
    ranked = sorted(range(len(spans)), key=lambda index: -spans[index].score)
    for index in budget.iterate(ranked[: plan.limits.entities]):
        span = spans[index]
        value = text[starts[span.start] : ends[span.end - 1]]
        free_bytes -= label_bytes[span.label] + len(orjson.dumps(value))
        if free_bytes < 0:
            break
        selected.append(index)
    return [spans[index] for index in sorted(selected)], len(spans) - len(selected)


def _explain_entity(
    grid: WindowGrid, score: float, explanation: SpanExplanation, window: tuple[int, int]
) -> Explanation:
    runners_up = tuple((grid.prompts.names[label], other_score) for label, other_score in explanation.runners_up)
    return Explanation(runners_up, window, estimate_confidence(score, grid.prompts.spec.calibration))


def _convert_offsets(text: str, ranges: Iterable[tuple[int, int]], unit: OffsetUnit) -> Mapping[int, int] | range:
    """Return a mapping of offsets in code points to offsets in the client's unit."""
    if unit == "codepoint" or text.isascii():
        return range(len(text) + 1)
    converted: dict[int, int] = {}
    before = total = 0
    for offset in sorted({offset for pair in ranges for offset in pair}):
        part = text[before:offset]
        total += len(part.encode()) if unit == "byte" else len(part.encode("utf-16-le")) // 2
        converted[offset], before = total, offset
    return converted
