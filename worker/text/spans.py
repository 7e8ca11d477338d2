"""Spans of many windows -> one document's spans: what a cut spoilt goes, the best of what overlaps stays. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from worker.protocols import Span
from worker.shards.bounds import Budget


class Sight(IntEnum):
    """How well the window saw a span; where spans overlap, the better sight wins, then the higher score."""

    alone = 0  # the window is one sentence: the library's own answer for that sentence
    inside = 1  # the window has context on both sides
    at_edge = 2  # the span touches a place where the text was cut


@dataclass(frozen=True, slots=True)
class Seen:
    """A span in the document's words and labels, with how it was seen and which of its ends are cuts."""

    span: Span
    sight: Sight
    cut_left: bool = False
    cut_right: bool = False


def combine(seen: Iterable[Seen], flat: bool, multi_label: bool, budget: Budget | None = None) -> list[Span]:
    """Merge what all windows saw.

    A span that ends where its window was cut is dropped if another window saw a span run on over that place.
    Spans found twice keep their best score. Of overlapping ones, the model's own greedy rule decides.

    Raises:
        TooCostlyError, Dropped: by the budget.
    """
    budget = budget or Budget()
    whole = _without_cut(list(seen), flat, budget)
    best: dict[tuple[int, int, int], tuple[Sight, float]] = {}
    for item in budget.over(whole):
        start, end, label, score = item.span[:4]
        sight, known = best.get((start, end, label), (item.sight, score))
        best[start, end, label] = (min(sight, item.sight), max(known, score))
    ranked = sorted(best.items(), key=lambda pair: (pair[1][0], -pair[1][1]))
    return keep([Span(*key, score) for key, (_, score) in ranked], flat, multi_label, budget)


def _without_cut(seen: Sequence[Seen], flat: bool, budget: Budget) -> list[Seen]:
    """Leave out spans whose end is only the window's: another window saw a longer one, all of this one in it.

    Between sentences the longer one may itself be the mistake ("Tim Cook. Ada Lovelace"). A sentence's span yields
    only to a better score, and not to one that also takes words from a span well inside the other sentence.
    """
    firm = {
        word
        for item in seen
        if item.sight is Sight.alone and not (item.cut_left or item.cut_right)
        for word in range(item.span.start, item.span.end)
    }
    cuts = sorted({item.span.start for item in seen if item.cut_left} | {i.span.end for i in seen if i.cut_right})
    across: defaultdict[tuple[int, int], list[Span]] = defaultdict(list)
    for item in budget.over(seen if cuts else ()):
        start, end, label = item.span[:3]
        for place in cuts[bisect_right(cuts, start) : bisect_left(cuts, end)]:
            across[place, -1 if flat else label].append(item.span)

    def spoilt(item: Seen, place: int) -> bool:
        start, end, label, score = item.span[:4]
        longer = [s for s in across.get((place, -1 if flat else label), ()) if s.start <= start and end <= s.end]
        if item.sight is Sight.alone:
            longer = [s for s in longer if s.score > score and firm.isdisjoint(range(s.start, s.end))]
        return bool(longer)

    return [
        item
        for item in budget.over(seen)
        if not (item.cut_left and spoilt(item, item.span.start))
        and not (item.cut_right and spoilt(item, item.span.end))
    ]


def keep(ranked: Sequence[Span], flat: bool, multi_label: bool, budget: Budget | None = None) -> list[Span]:
    """The model's greedy choice among overlapping spans, best first, in time linear in their number.

    gliner compares every candidate with every kept span, which takes hours for a long text at threshold 0.

    Args:
        ranked: candidates, the preferred first.
        flat: kept spans share no word; otherwise they may nest, but not straddle each other.
        multi_label: the same words may be kept under several labels.
        budget: checked on the way.

    Returns:
        The kept spans by start.
    """
    chosen = _Flat() if flat else _Nested()
    kept = []
    for span in budget.over(ranked) if budget else ranked:
        taken = (span.start, span.end) in chosen.ranges
        if (taken and multi_label) or (not taken and chosen.fits(span.start, span.end)):
            chosen.add(span.start, span.end)
            kept.append(span)
    kept.sort(key=lambda span: span.start)
    return kept


class _Flat:
    def __init__(self) -> None:
        self.ranges: set[tuple[int, int]] = set()
        self._words: set[int] = set()

    def fits(self, start: int, end: int) -> bool:
        return self._words.isdisjoint(range(start, end))

    def add(self, start: int, end: int) -> None:
        self.ranges.add((start, end))
        self._words.update(range(start, end))


class _Nested:
    def __init__(self) -> None:
        self.ranges: set[tuple[int, int]] = set()
        self._first_start: dict[int, int] = {}  # by end
        self._last_end: dict[int, int] = {}  # by start

    def fits(self, start: int, end: int) -> bool:
        return all(
            self._first_start.get(at, start) >= start and self._last_end.get(at, end) <= end
            for at in range(start + 1, end)
        )

    def add(self, start: int, end: int) -> None:
        self.ranges.add((start, end))
        self._first_start[end] = min(start, self._first_start.get(end, start))
        self._last_end[start] = max(end, self._last_end.get(start, end))
