"""Entities in pieces become whole: spans of one label that stand next to each other -> one span. Pure.

Some models, NuNER_Zero first, mark each word of a long entity; their cards merge what is adjacent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from worker.protocols import Span
from worker.shards.bounds import Budget

Key = tuple[int, int, int]
"""First word, word after the last, and label of a span."""


class Merged(NamedTuple):
    """Spans after merging, and of each that was merged its part of the lowest score."""

    spans: list[Span]
    weakest: dict[Key, Span]


@dataclass(slots=True)
class _Range:
    """Words that spans of one or more labels cover, and the ranges inside of them."""

    start: int
    end: int
    spans: list[Span]
    inside: list[_Range] = field(default_factory=list)

    @property
    def labels(self) -> list[int]:
        return sorted(span.label for span in self.spans)


def merge_adjacent(
    spans: Iterable[Span], text: str, starts: Sequence[int], ends: Sequence[int], budget: Budget | None = None
) -> Merged:
    """Merge spans of the same labels between which there are only blanks, and at most one line break.

    A merged span has the lowest score of its parts. Of nested spans only those are merged that lie in the same
    outer span, and not where they would become that. So flat spans stay flat, nested ones nested, and to merge
    again changes nothing.

    Args:
        spans: none of them straddles another.
        text: the document's text.
        starts: where each of its words begins.
        ends: where each ends.
        budget: checked on the way.

    Raises:
        TooCostlyError, Dropped: by the budget.
    """
    budget = budget or Budget()
    merged = Merged([], {})
    outer = _Range(-1, -1, [], _nested(spans, budget))
    waiting = [outer]
    while waiting:
        within = waiting.pop()
        for run in _runs(budget.over(within.inside), text, starts, ends):
            start, end = run[0].start, run[-1].end
            if len(run) == 1 or (start, end) == (within.start, within.end):
                merged.spans.extend(chain.from_iterable(part.spans for part in run))
                waiting += run
            else:
                inside = [*chain.from_iterable(part.inside for part in run)]
                waiting.append(_Range(start, end, [], inside))
                for label in run[0].labels:
                    parts = (span for part in run for span in part.spans if span.label == label)
                    weakest = min(parts, key=lambda span: span.score)
                    merged.spans.append(Span(start, end, label, weakest.score))
                    merged.weakest[start, end, label] = weakest
    return merged


def _nested(spans: Iterable[Span], budget: Budget) -> list[_Range]:
    """Return the outermost ranges, in order, each with those inside of it."""
    ranges: dict[tuple[int, int], _Range] = {}
    for span in budget.over(spans):
        ranges.setdefault((span.start, span.end), _Range(span.start, span.end, [])).spans.append(span)
    outermost: list[_Range] = []
    around: list[_Range] = []
    for part in sorted(ranges.values(), key=lambda part: (part.start, -part.end)):
        while around and around[-1].end < part.end:
            around.pop()
        (around[-1].inside if around else outermost).append(part)
        around.append(part)
    return outermost


def _runs(parts: Iterable[_Range], text: str, starts: Sequence[int], ends: Sequence[int]) -> list[list[_Range]]:
    """Return the ranges, in order, those that are to be merged together."""
    runs: list[list[_Range]] = []
    for part in parts:
        before = runs[-1][-1] if runs else None
        if (
            before is not None
            and before.end <= part.start
            and _is_blank(text[ends[before.end - 1] : starts[part.start]])
            and before.labels == part.labels
        ):
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _is_blank(gap: str) -> bool:
    """Return whether an entity may go on after this: a blank line ends one, as it does a sentence."""
    return not gap or (gap.isspace() and gap.count("\n") <= 1 and "\u2029" not in gap)
