"""Merges adjacent spans of a label into one span. Pure.

Some models, such as NuNER_Zero, mark each word of a long entity; their model cards merge adjacent spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from worker.protocols import Span, SpanKey
from worker.text.bounds import Budget


class MergedSpans(NamedTuple):
    """Spans after merging, and the part with the lowest score of each that was merged."""

    spans: list[Span]
    weakest: dict[SpanKey, Span]


@dataclass(slots=True)
class _Range:
    """Words that spans of one or more labels cover, and the ranges nested in them."""

    start: int
    end: int
    spans: list[Span]
    nested: list[_Range] = field(default_factory=list)

    @property
    def labels(self) -> list[int]:
        return sorted(span.label for span in self.spans)


def merge_adjacent(
    spans: Iterable[Span], text: str, starts: Sequence[int], ends: Sequence[int], budget: Budget | None = None
) -> MergedSpans:
    """Merge spans of the same labels that are separated only by blanks and at most one line break.

    A merged span has the lowest score of its parts. Nested spans are merged only with those in the same outer span,
    and not if they would become equal to it. So flat spans stay flat, nested ones nested, and merging again changes
    nothing. No span may straddle another; `starts` and `ends` are the offsets of the text's words.
    """
    budget = budget or Budget()
    merged = MergedSpans([], {})
    waiting = [_Range(-1, -1, [], _nest_spans(spans, budget))]
    while waiting:
        outer = waiting.pop()
        for run in _group_runs(budget.iterate(outer.nested), text, starts, ends):
            start, end = run[0].start, run[-1].end
            if len(run) == 1 or (start, end) == (outer.start, outer.end):
                merged.spans.extend(chain.from_iterable(part.spans for part in run))
                waiting += run
            else:
                nested = [*chain.from_iterable(part.nested for part in run)]
                waiting.append(_Range(start, end, [], nested))
                for label in run[0].labels:
                    parts = (span for part in run for span in part.spans if span.label == label)
                    weakest = min(parts, key=lambda span: span.score)
                    merged.spans.append(Span(start, end, label, weakest.score))
                    merged.weakest[start, end, label] = weakest
    return merged


def _nest_spans(spans: Iterable[Span], budget: Budget) -> list[_Range]:
    """Return the outermost ranges, in order, each with those nested in it."""
    ranges: dict[tuple[int, int], _Range] = {}
    for span in budget.iterate(spans):
        ranges.setdefault((span.start, span.end), _Range(span.start, span.end, [])).spans.append(span)
    outermost: list[_Range] = []
    around: list[_Range] = []
    for part in sorted(ranges.values(), key=lambda part: (part.start, -part.end)):
        while around and around[-1].end < part.end:
            around.pop()
        (around[-1].nested if around else outermost).append(part)
        around.append(part)
    return outermost


def _group_runs(
    parts: Iterable[_Range], text: str, starts: Sequence[int], ends: Sequence[int]
) -> list[list[_Range]]:
    """Return the ranges in order, grouped by those that are to be merged."""
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
    """Return whether an entity may continue after the gap: a blank line ends it, as it ends a sentence."""
    return not gap or (gap.isspace() and gap.count("\n") <= 1 and "\u2029" not in gap)
