"""Scores of pairs -> the relations between the spans of each window. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.protocols import Pair, Span, SpanKey, Spans, Window

MAX_PAIRS = 2048
"""Relations of a window that are kept, those of the highest scores."""

Array = NDArray[Any]
_SpansByWords = Mapping[tuple[int, int], Sequence[Span]]


def add_pairs(
    windows: Sequence[Window], spans_by_window: Sequence[Sequence[Span]], scores: Mapping[str, Array]
) -> list[Sequence[Span]]:
    """Return the windows' spans with the pairs whose score is above their relation's threshold.

    Args:
        windows: the micro-batch.
        spans_by_window: the spans of each window, overlaps resolved.
        scores: `pair_rows` (pair), `pair_ends` (pair, 4), `pair_logits` (pair, relation); pairs ordered by row.
    """
    bounds = np.searchsorted(scores["pair_rows"], np.arange(len(windows) + 1)).tolist()
    results: list[Sequence[Span]] = []
    for row, (window, spans) in enumerate(zip(windows, spans_by_window, strict=True)):
        part = slice(bounds[row], bounds[row + 1])
        if not window.relations or part.start == part.stop:
            results.append(spans)
            continue
        pairs = _find_pairs(window, spans, scores["pair_ends"][part], scores["pair_logits"][part])
        best_pairs = nlargest(MAX_PAIRS, pairs, key=attrgetter("score"))
        left_out = spans.left_out if isinstance(spans, Spans) else 0
        results.append(Spans(spans, left_out, best_pairs, pairs_left_out=len(pairs) - len(best_pairs)))
    return results


def rank_words(spans: Iterable[Span]) -> list[tuple[int, int]]:
    """Return the first and last word of spans, the best first; of those with several labels once."""
    ranked = sorted(spans, key=lambda span: -span.score)
    return [*dict.fromkeys((span.start, span.end - 1) for span in ranked)]


def _find_pairs(window: Window, spans: Sequence[Span], ends: Array, logits: Array) -> list[Pair]:
    """Return the pairs of spans; of equal ones, which some models score twice, the best."""
    by_words: dict[tuple[int, int], list[Span]] = {}
    for span in sorted(spans, key=lambda span: -span.score):
        by_words.setdefault((span.start, span.end - 1), []).append(span)
    thresholds = np.array([relation.threshold for relation in window.relations], np.float32)
    with np.errstate(over="ignore"):
        scores = (1.0 / (1.0 + np.exp(-logits[:, : len(thresholds)].astype(np.float64)))).astype(np.float32)
    best: dict[tuple[int, SpanKey, SpanKey], float] = {}
    for index, relation in zip(*(column.tolist() for column in np.nonzero(scores > thresholds)), strict=True):
        key = _connect_spans(window, relation, ends[index].tolist(), by_words)
        if key is not None:
            best[key] = max(float(scores[index, relation]), best.get(key, 0.0))
    return [Pair(*key, score) for key, score in best.items()]


def _connect_spans(
    window: Window, relation: int, ends: Sequence[int], by_words: _SpansByWords
) -> tuple[int, SpanKey, SpanKey] | None:
    """Return the relation and its spans, of those on the same words the best of a permitted label."""
    allowed = window.relations[relation]
    head = _choose_span(by_words.get((ends[0], ends[1]), ()), allowed.heads)
    tail = _choose_span(by_words.get((ends[2], ends[3]), ()), allowed.tails)
    if head is None or tail is None or head[:2] == tail[:2]:
        return None
    return relation, head, tail


def _choose_span(ranked: Iterable[Span], labels: frozenset[int] | None) -> SpanKey | None:
    return next((span[:3] for span in ranked if labels is None or span.label in labels), None)
