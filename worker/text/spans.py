"""Combines the spans of many windows into those of one document, and resolves overlaps. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from worker.protocols import Span
from worker.text.bounds import Budget


class SpanContext(IntEnum):
    """How much context the window showed; of overlapping spans the lower value wins, then the higher score."""

    SENTENCE = 0  # the window is one sentence: the library's own result for that sentence
    INSIDE = 1  # the window has context on both sides
    AT_EDGE = 2  # the span touches a place where the text was cut


@dataclass(frozen=True, slots=True)
class SpanCandidate:
    """A span in the document's words and labels, with its context and whether an end of it is a cut.

    `window` has the first word of the window that found it, and the index after the last.
    """

    span: Span
    context: SpanContext
    cut_left: bool = False
    cut_right: bool = False
    window: tuple[int, int] = (0, 0)


def combine_candidates(
    candidates: Iterable[SpanCandidate], flat: bool, multi_label: bool, budget: Budget | None = None
) -> list[Span]:
    """Merge the spans of all windows.

    A span that ends at its window's cut is dropped if another window has a span across that cut. Equal spans keep
    the best score. Overlapping ones are resolved by the model's greedy rule.
    """
    budget = budget or Budget()
    whole = _drop_truncated(list(candidates), flat, budget)
    best: dict[tuple[int, int, int], tuple[SpanContext, float]] = {}
    for candidate in budget.iterate(whole):
        start, end, label, score = candidate.span[:4]
        context, best_score = best.get((start, end, label), (candidate.context, score))
        best[start, end, label] = (min(context, candidate.context), max(best_score, score))
    ranked = sorted(best.items(), key=lambda pair: (pair[1][0], -pair[1][1]))
    return select_spans([Span(*key, score) for key, (_, score) in ranked], flat, multi_label, budget)


def _drop_truncated(candidates: Sequence[SpanCandidate], flat: bool, budget: Budget) -> list[SpanCandidate]:
    """Leave out spans that were truncated by their window: another window has a longer span that contains them.

    Between sentences the longer one may itself be the mistake ("Tim Cook. Ada Lovelace"). A sentence's span yields
    only to a better score, and not to one that also takes words from a complete span of the other sentence.
    """
    firm = {
        word
        for candidate in candidates
        if candidate.context is SpanContext.SENTENCE and not (candidate.cut_left or candidate.cut_right)
        for word in range(candidate.span.start, candidate.span.end)
    }
    cuts = sorted(
        {c.span.start for c in candidates if c.cut_left} | {c.span.end for c in candidates if c.cut_right}
    )
    across: defaultdict[tuple[int, int], list[Span]] = defaultdict(list)
    for candidate in budget.iterate(candidates if cuts else ()):
        start, end, label = candidate.span[:3]
        for cut in cuts[bisect_right(cuts, start) : bisect_left(cuts, end)]:
            across[cut, -1 if flat else label].append(candidate.span)

    def is_truncated(candidate: SpanCandidate, cut: int) -> bool:
        start, end, label, score = candidate.span[:4]
        longer = [s for s in across.get((cut, -1 if flat else label), ()) if s.start <= start and end <= s.end]
        if candidate.context is SpanContext.SENTENCE:
            longer = [s for s in longer if s.score > score and firm.isdisjoint(range(s.start, s.end))]
        return bool(longer)

    return [
        candidate
        for candidate in budget.iterate(candidates)
        if not (candidate.cut_left and is_truncated(candidate, candidate.span.start))
        and not (candidate.cut_right and is_truncated(candidate, candidate.span.end))
    ]


def select_spans(ranked: Sequence[Span], flat: bool, multi_label: bool, budget: Budget | None = None) -> list[Span]:
    """Return the model's greedy selection among overlapping spans, in time linear in their number.

    gliner compares every candidate with every selected span, which takes hours for a long text at threshold 0.

    Args:
        ranked: candidates, best first.
        flat: selected spans share no word; otherwise they may nest, but not straddle each other.
        multi_label: the same words may be selected under several labels.
        budget: none for a single window, whose candidates are bounded.

    Returns:
        The selected spans by start.
    """
    taken = _FlatSpans() if flat else _NestedSpans()
    selected = []
    for span in budget.iterate(ranked) if budget else ranked:
        is_taken = (span.start, span.end) in taken.ranges
        if (is_taken and multi_label) or (not is_taken and taken.can_add(span.start, span.end)):
            taken.add(span.start, span.end)
            selected.append(span)
    selected.sort(key=lambda span: span.start)
    return selected


class _FlatSpans:
    def __init__(self) -> None:
        self.ranges: set[tuple[int, int]] = set()
        self._words: set[int] = set()

    def can_add(self, start: int, end: int) -> bool:
        return self._words.isdisjoint(range(start, end))

    def add(self, start: int, end: int) -> None:
        self.ranges.add((start, end))
        self._words.update(range(start, end))


class _NestedSpans:
    def __init__(self) -> None:
        self.ranges: set[tuple[int, int]] = set()
        self._first_start: dict[int, int] = {}  # by end
        self._last_end: dict[int, int] = {}  # by start

    def can_add(self, start: int, end: int) -> bool:
        return all(
            self._first_start.get(at, start) >= start and self._last_end.get(at, end) <= end
            for at in range(start + 1, end)
        )

    def add(self, start: int, end: int) -> None:
        self.ranges.add((start, end))
        self._first_start[end] = min(start, self._first_start.get(end, start))
        self._last_end[start] = max(end, self._last_end.get(start, end))
