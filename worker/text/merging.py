"""The windows' spans become the document's result: gathered as they arrive, combined, shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from worker.protocols import Failed, Outcome, Span, Spans
from worker.shards.bounds import Budget
from worker.text.adjacent import Key, merge_adjacent
from worker.text.explanations import Reason, Sighting, confidence, reasons
from worker.text.redaction import Found, redact
from worker.text.spans import Seen, Sight, combine
from worker.text.windows import Plan
from worker.text.words import Reading

_ORDER = itemgetter(0, 1, 3)
"""Entities are sorted by start, end, label."""
SEEN_AN_ENTITY = 2
"""Spans that are combined for each entity that a document may have: overlapping windows see most entities twice."""
ENTITY_BYTES = 64
EXPLANATION_BYTES = 256
"""About what an entity and its explanation take as JSON, texts aside."""
SURELY_SMALL = 200
SHORT = 1000
"""Entities up to this many are not weighed where each has no more characters than that."""


class Findings:
    """The outcomes of a plan's windows; of too many spans only the best stay.

    Attributes:
        failed: the first window that failed.
        left_out: spans that passed their threshold and were left out.
    """

    def __init__(self, plan: Plan) -> None:
        self.failed: Failed | None = None
        self.left_out = 0
        self.held = 0
        self._most = SEEN_AN_ENTITY * plan.limits.entities
        self._spans: list[Sequence[Span]] = []

    @classmethod
    def of(cls, plan: Plan, outcomes: Iterable[Outcome]) -> Findings:
        """Return all outcomes of a plan's windows, in their order."""
        findings = cls(plan)
        for outcome in outcomes:
            findings.add(outcome)
        return findings

    def add(self, outcome: Outcome) -> None:
        """Take what became of the next window."""
        if isinstance(outcome, Failed):
            self.failed = self.failed or outcome
            self._spans.clear()
        if self.failed or isinstance(outcome, Failed):
            return
        self._spans.append(outcome)
        self.held += len(outcome)
        if isinstance(outcome, Spans):
            self.left_out += outcome.left_out
        if self.held > 2 * self._most:
            self._leave_out()

    def by_window(self) -> Sequence[Sequence[Span]]:
        """Return the spans of each window, in the windows' order."""
        if self.held > self._most:
            self._leave_out()
        return self._spans

    def _leave_out(self) -> None:
        """Leave out the spans of the lowest scores; of equal ones those that came last."""
        scores = sorted((span.score for spans in self._spans for span in spans), reverse=True)
        least = scores[self._most - 1]
        ties = self._most - sum(score > least for score in scores[: self._most])
        kept: list[Sequence[Span]] = []
        for spans in self._spans:
            best = []
            for span in spans:
                if span.score > least or (span.score == least and ties > 0):
                    ties -= span.score == least
                    best.append(span)
            kept.append(Spans(best))
        self.left_out += self.held - self._most
        self.held = self._most
        self._spans = kept


def merge_windows(
    plan: Plan, findings: Findings, attempts: int, budget: Budget | None = None, most_bytes: int | None = None
) -> DocumentResult:
    """Turn the windows' outcomes into the document's result; one failed window fails the document.

    Args:
        plan: how it was read.
        findings: what its windows found.
        attempts: how often its shard was begun.
        budget: checked on the way.
        most_bytes: size that its entities may have as JSON; a plan's limit by default.

    Raises:
        TooCostlyError, Dropped: by the budget.
    """
    failed, limit = findings.failed, plan.limits.document_bytes
    error = DocumentError(failed.code, failed.detail) if failed else plan.refused
    entities: tuple[Entity, ...] = ()
    redacted, left_out = None, 0
    if error is None and plan.read is not None:
        most_bytes = limit if most_bytes is None else min(limit, most_bytes)
        entities, redacted, left_out = _entities(plan, findings, most_bytes, budget or Budget())
        if left_out and plan.options.redaction:
            detail = "More entities pass the thresholds than a result can hold, and what is left out is not hidden."
            error = DocumentError(DocumentErrorCode.TOO_MANY_ENTITIES, f"{detail} Raise the thresholds.")
    text = plan.document.text if plan.options.return_text else None
    if error is not None:
        return failure(plan, error, attempts)
    warnings = plan.warnings
    if left_out:
        warnings = (
            *warnings,
            f"{left_out} spans of the lowest scores were left out; a higher threshold has fewer.",
        )
    return DocumentResult(
        plan.document.index,
        plan.document.id,
        DocumentStatus.SUCCEEDED,
        entities=entities,
        windows=len(plan.windows),
        truncated=plan.truncated,
        warnings=warnings,
        attempts=attempts,
        text=text,
        redacted_text=redacted,
    )


def failure(plan: Plan, error: DocumentError, attempts: int) -> DocumentResult:
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


def size_of(result: DocumentResult) -> int:
    """Return about how many bytes a result's entities take as JSON."""
    return sum(
        ENTITY_BYTES + len(entity.text) + len(entity.label) + (EXPLANATION_BYTES if entity.explain else 0)
        for entity in result.entities
    )


def _spans(plan: Plan, found: Sequence[Sequence[Span]], budget: Budget) -> tuple[Sequence[Span], list[Sighting]]:
    """The windows' spans in the document's words and labels: those that count, and, to explain them, all."""
    explain = plan.options.explain
    place = plan.place(0)
    if len(plan.windows) == 1 and len(place.labels) == len(plan.names):  # nothing moves
        [spans] = found
        return spans, [Sighting(span, place.first, place.last) for span in spans if explain]
    seen, sightings = [], []
    end = plan.last_word
    for at, spans in enumerate(budget.over(found)):
        if not spans:
            continue
        place = plan.place(at)
        for span in budget.over(spans):
            left = span.start == 0 and place.first > 0
            right = place.first + span.end == place.last and place.last < end
            sight = Sight.at_edge if left or right else Sight.inside
            if place.reading is Reading.sentence:
                sight = Sight.alone
            others = tuple((place.labels[label], score) for label, score in span.runners_up)
            moved = Span(
                place.first + span.start, place.first + span.end, place.labels[span.label], span.score, others
            )
            seen.append(Seen(moved, sight, left, right))
            if explain:
                sightings.append(Sighting(moved, place.first, place.last))
    return combine(seen, plan.options.flat, plan.options.multi_label, budget), sightings


def _entities(
    plan: Plan, findings: Findings, most_bytes: int, budget: Budget
) -> tuple[tuple[Entity, ...], str | None, int]:
    """The document's entities, its text without them where that was asked for, and how many spans were left out."""
    spans, sightings = _spans(plan, findings.by_window(), budget)
    text, unit, redaction = plan.document.text, plan.options.offset_unit, plan.options.redaction
    weakest: Mapping[Key, Span] = {}
    if plan.options.merge_adjacent:
        spans, weakest = merge_adjacent(spans, text, plan.starts, plan.ends, budget)
    spans, over = _bounded(plan, spans, most_bytes, budget)
    left_out = findings.left_out + over
    if left_out and redaction:
        return (), None, left_out
    budget.check()  # from here on each loop is over no more than a document may have
    first, last, names = plan.starts, plan.ends, plan.names
    ends = [(first[span.start], last[span.end - 1]) for span in spans]
    whys = reasons([weakest.get(span[:3], span) for span in spans], sightings) if plan.options.explain else []
    windows = [(first[why.window[0]], last[why.window[1] - 1]) for why in whys]
    at = _positions(text, [*windows, *ends], unit)
    entities = [
        Entity(at[start], at[end], text[start:end], names[span.label], span.score)
        for (start, end), span in zip(ends, spans, strict=True)
    ]
    if whys:
        entities = [
            entity._replace(explain=_explanation(plan, entity.score, why, (at[window[0]], at[window[1]])))
            for entity, why, window in zip(entities, whys, windows, strict=True)
        ]
    shown = None
    if redaction:
        found = [Found(*end, names[span.label], span.score) for end, span in zip(ends, spans, strict=True)]
        redacted = redact(text, found, redaction, unit, plan.redact_key, budget)
        shown = redacted.text
        at = _positions(shown, redacted.places, unit)
        entities = [
            entity._replace(text=shown[start:end], redacted=(at[start], at[end]))
            for entity, (start, end) in zip(entities, redacted.places, strict=True)
        ]
    return tuple(sorted(entities, key=_ORDER)), shown, left_out


def _bounded(plan: Plan, spans: Sequence[Span], most_bytes: int, budget: Budget) -> tuple[Sequence[Span], int]:
    """The spans that a result has room for, those of the highest scores, and how many it has none for."""
    text, starts, ends = plan.document.text, plan.starts, plan.ends
    if len(spans) <= SURELY_SMALL and (
        len(text) <= SHORT or all(ends[span.end - 1] - starts[span.start] <= SHORT for span in spans)
    ):
        return spans, 0
    fixed = ENTITY_BYTES + (EXPLANATION_BYTES if plan.options.explain else 0)
    names = [fixed + len(orjson.dumps(name)) for name in plan.names]
    left, kept = most_bytes, []
    ranked = sorted(range(len(spans)), key=lambda at: -spans[at].score)
    for at in budget.over(ranked[: plan.limits.entities]):
        span = spans[at]
        value = text[starts[span.start] : ends[span.end - 1]]
        left -= names[span.label] + len(orjson.dumps(value))
        if left < 0:
            break
        kept.append(at)
    return [spans[at] for at in sorted(kept)], len(spans) - len(kept)


def _explanation(plan: Plan, score: float, why: Reason, window: tuple[int, int]) -> Explanation:
    runners_up = tuple((plan.names[label], other) for label, other in why.runners_up)
    return Explanation(runners_up, window, confidence(score, plan.calibration))


def _positions(text: str, places: Iterable[tuple[int, int]], unit: OffsetUnit) -> Mapping[int, int] | range:
    """Code point positions -> positions in the client's unit."""
    if unit == "codepoint" or text.isascii():
        return range(len(text) + 1)
    at: dict[int, int] = {}
    before = position = 0
    for place in sorted({place for pair in places for place in pair}):
        part = text[before:place]
        position += len(part.encode()) if unit == "byte" else len(part.encode("utf-16-le")) // 2
        at[place], before = position, place
    return at
