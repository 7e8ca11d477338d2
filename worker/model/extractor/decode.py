"""Scores of a forward pass -> the spans of each window, the relations between them, and its classes. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.protocols import Pair, Span, SpanKey, Window
from worker.text.spans import select_spans

Array = NDArray[Any]
RUNNERS_UP = 3
"""Runner-up labels of an explained span."""


class Edge(NamedTuple):
    """A relation that the model sees between two ranges of words, which need not be entities."""

    relation: int
    head: tuple[int, int]
    tail: tuple[int, int]
    score: float


def sigmoid(logits: Array) -> Array:
    """Return scores of logits."""
    with np.errstate(over="ignore"):
        result: Array = 1.0 / (1.0 + np.exp(-logits))
    return result


def label_thresholds(windows: Sequence[Window], queries: int) -> Array:
    """Return the threshold of each (row, query) in 32 bits, in which scores are; infinite where it is no label."""
    thresholds = np.full((len(windows), queries), np.inf, np.float32)
    for row, window in enumerate(windows):
        thresholds[row, : len(window.prompts)] = window.thresholds
    return thresholds


def choose_spans(selected: Iterable[Span], window: Window) -> dict[Span, Span]:
    """Return the entities among the spans that were selected for each label, by start, and the spans they were.

    A full stop that follows the text is no part of an entity. Spans of different labels overlap as the window
    allows.
    """
    last = len(window.words)
    ranked = sorted((span for span in selected if span.start < last), key=lambda span: -span.score)
    clipped = {span._replace(end=min(span.end, last)): span for span in ranked}
    return {span: clipped[span] for span in select_spans([*clipped], window.flat, window.multi_label)}


def group_labels(ranked: Iterable[Span]) -> Iterable[list[Span]]:
    """Return the spans of each label."""
    by_label: defaultdict[int, list[Span]] = defaultdict(list)
    for span in ranked:
        by_label[span.label].append(span)
    return by_label.values()


def rank_runners_up(span: Span, scores: Array) -> Span:
    """Return the span with its runner-up labels, by the scores of all labels on its words; NaN is no score."""
    ranked = np.argsort(-scores, kind="stable").tolist()
    labels = [label for label in ranked if label != span.label and not np.isnan(scores[label])][:RUNNERS_UP]
    return span._replace(runners_up=tuple((label, float(scores[label])) for label in labels))


def link_edges(edges: Iterable[Edge], spans: Sequence[Span], window: Window) -> list[Pair]:
    """Return the edges between entities that the relations allow, the best of each pair; others are left out."""
    entities = _Entities(spans)
    best: dict[tuple[int, SpanKey, SpanKey], float] = {}
    for edge in edges:
        relation = window.relations[edge.relation]
        head, tail = (
            entities.find(start, min(end, len(window.words)), labels)
            for (start, end), labels in ((edge.head, relation.heads), (edge.tail, relation.tails))
        )
        if head is not None and tail is not None and head[:2] != tail[:2]:
            key = (edge.relation, head, tail)
            best[key] = max(edge.score, best.get(key, 0.0))
    return [Pair(relation, head, tail, score) for (relation, head, tail), score in best.items()]


class _Entities:
    """Finds entities by words, each range once: there may be thousands of entities and of edges."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._keys: list[SpanKey] = [span[:3] for span in spans]
        columns = np.array([span[:4] for span in spans]).reshape(-1, 4).T
        self._starts, self._ends, self._labels, self._scores = columns
        self._nearest: dict[tuple[int, int, frozenset[int] | None], SpanKey | None] = {}

    def find(self, start: int, end: int, labels: frozenset[int] | None) -> SpanKey | None:
        """Return the entity that has most of its words in common with these; of equal ones that of the best score.

        Only entities of these labels count; None is any.
        """
        key = start, end, labels
        if key not in self._nearest:
            self._nearest[key] = self._find_nearest(*key)
        return self._nearest[key]

    def _find_nearest(self, start: int, end: int, labels: frozenset[int] | None) -> SpanKey | None:
        common = np.minimum(end, self._ends) - np.maximum(start, self._starts)
        shares = np.where(common > 0, common, 0) / (np.maximum(end, self._ends) - np.minimum(start, self._starts))
        if labels is not None:
            shares[~np.isin(self._labels, [*labels])] = 0
        if not shares.any():
            return None
        nearest = np.nonzero(shares == shares.max())[0]
        return self._keys[int(nearest[self._scores[nearest].argmax()])]


def score_classes(window: Window, logits: Array) -> list[list[float]]:
    """Return the score of each class of each classification, from the row's logits of all classes in turn."""
    scores, first = [], 0
    for question in window.classes:
        part = logits[first : first + len(question.labels)].astype(np.float64)
        first += len(question.labels)
        if question.multi_label:
            scores.append(sigmoid(part).tolist())
        else:
            exponentials = np.exp(part - part.max())
            scores.append((exponentials / exponentials.sum()).tolist())
    return scores
