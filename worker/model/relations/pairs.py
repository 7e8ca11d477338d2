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
        pairs, ignored = _find_pairs(window, spans, scores["pair_ends"][part], scores["pair_logits"][part])
        best_pairs, pairs_left_out = keep_best(pairs)
        left_out = spans.left_out if isinstance(spans, Spans) else 0
        results.append(Spans(spans, left_out, best_pairs, pairs_left_out=ignored + pairs_left_out))
    return results


def keep_best(pairs: Sequence[Pair]) -> tuple[list[Pair], int]:
    """Return at most `MAX_PAIRS` pairs, the best first, and the number of the others."""
    best = nlargest(MAX_PAIRS, pairs, key=attrgetter("score"))
    return best, len(pairs) - len(best)


def rank_words(spans: Iterable[Span]) -> list[tuple[int, int]]:
    """Return the first and last word of spans, the best first; of those with several labels once."""
    ranked = sorted(spans, key=lambda span: -span.score)
    return [*dict.fromkeys((span.start, span.end - 1) for span in ranked)]


def _find_pairs(window: Window, spans: Sequence[Span], ends: Array, logits: Array) -> tuple[list[Pair], int]:
    """Return pairs of spans that the relations allow, and the number of candidates that were not considered.

    Of equal pairs, which some models score twice, the best is returned. At threshold 0 there are two million
    candidates, each of which would become an object: all but the best are ruled out before.
    """
    words, numbers = np.unique(ends.reshape(-1, 2), axis=0, return_inverse=True)
    numbers = numbers.reshape(-1, 2)
    heads = _choose_spans(words, spans, [relation.heads for relation in window.relations])
    tails = _choose_spans(words, spans, [relation.tails for relation in window.relations])
    thresholds = np.array([relation.threshold for relation in window.relations], np.float32)
    with np.errstate(over="ignore"):
        scores = (1.0 / (1.0 + np.exp(-logits[:, : len(thresholds)].astype(np.float64)))).astype(np.float32)
    above = scores > thresholds
    above &= (heads != None)[numbers[:, 0]] & (tails != None)[numbers[:, 1]]  # noqa: E711  # element by element
    above &= (numbers[:, 0] != numbers[:, 1])[:, None]
    indexes, relations = np.nonzero(above)
    considered = _find_best(scores[indexes, relations], 2 * MAX_PAIRS)
    best: dict[tuple[int, SpanKey, SpanKey], float] = {}
    for index, relation in zip(indexes[considered].tolist(), relations[considered].tolist(), strict=True):
        head, tail = numbers[index]
        key = relation, heads[head, relation], tails[tail, relation]
        best[key] = max(float(scores[index, relation]), best.get(key, 0.0))
    return [Pair(*key, score) for key, score in best.items()], len(indexes) - len(considered)


def _find_best(scores: Array, limit: int) -> Array:
    """Return the indexes of the highest scores, in order."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    return np.sort(np.argpartition(-scores, limit)[:limit])


def _choose_spans(words: Array, spans: Sequence[Span], allowed: Sequence[frozenset[int] | None]) -> Array:
    """Return for (range of words, relation) the best span there that has an allowed label; None where none has."""
    by_words: dict[tuple[int, int], list[Span]] = {}
    for span in sorted(spans, key=lambda span: -span.score):
        by_words.setdefault((span.start, span.end - 1), []).append(span)
    chosen = np.full((len(words), len(allowed)), None, object)
    for index, (first, last) in enumerate(words.tolist()):
        by_labels = {labels: _choose_span(by_words.get((first, last), ()), labels) for labels in set(allowed)}
        for relation, labels in enumerate(allowed):
            chosen[index, relation] = by_labels[labels]
    return chosen


def _choose_span(ranked: Iterable[Span], labels: frozenset[int] | None) -> SpanKey | None:
    return next((span[:3] for span in ranked if labels is None or span.label in labels), None)
