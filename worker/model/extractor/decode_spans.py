"""Scores of all spans of GLiNER2 -> the answers of each window. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.model.decode import select_above
from worker.model.extractor.collate import Batch, Group
from worker.model.extractor.decode import (
    Edge,
    choose_spans,
    group_labels,
    label_thresholds,
    link_edges,
    rank_runners_up,
    score_classes,
    sigmoid,
)
from worker.model.relations.pairs import keep_best
from worker.protocols import Span, Spans
from worker.text.spans import select_spans

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class SpanOutputs:
    """Scores of a micro-batch.

    A row's queries are its labels; then, for each relation, head and tail of each pair that the model counts.

    Attributes:
        logits: of (row, first word, width, query); of spans beyond the row's end and of missing queries arbitrary.
        counts: for each group the number of its answers that the model counts; 0 of labels means none at all.
        class_logits: of (row, class).
    """

    logits: Array
    counts: Sequence[int]
    class_logits: Array


def list_slots(groups: Sequence[Group], counts: Sequence[int]) -> list[int]:
    """Return the index of the first query of each group in its row."""
    slots: list[int] = []
    used: defaultdict[int, int] = defaultdict(int)
    for group, count in zip(groups, counts, strict=True):
        slots.append(used[group.row])
        used[group.row] += group.size * (min(count, 1) if group.relation is None else count)
    return slots


def decode_spans(batch: Batch, outputs: SpanOutputs) -> list[Spans]:
    """Return the answers to each window: of each label the spans of the best scores that do not overlap."""
    lengths = batch.arrays["word_counts"]
    ranked, left_out = _rank_spans(batch, outputs, lengths)
    edges = _find_edges(batch, outputs, lengths)
    answers: list[Spans] = []
    for row, window in enumerate(batch.windows):
        selected = [span for spans in group_labels(ranked[row]) for span in select_spans(spans, True, False)]
        chosen = choose_spans(selected, window)
        pairs, pairs_left_out = keep_best(link_edges(edges[row], [*chosen], window))
        spans = [*chosen]
        if window.explain:
            logits = outputs.logits[row, ..., : len(window.prompts)]
            spans = [
                rank_runners_up(span, sigmoid(logits[whole.start, whole.end - whole.start - 1]))
                for span, whole in chosen.items()
            ]
        classes = score_classes(window, outputs.class_logits[row])
        answers.append(Spans(spans, left_out.get(row, 0), pairs, classes, pairs_left_out))
    return answers


def _rank_spans(batch: Batch, outputs: SpanOutputs, lengths: Array) -> tuple[list[list[Span]], Mapping[int, int]]:
    """Return each row's candidates, the best first, and how many were left out of those that had too many."""
    rows, words, widths, queries = outputs.logits.shape
    ranked: list[list[Span]] = [[] for _ in range(rows)]
    if not outputs.logits.size:
        return ranked, {}
    thresholds = label_thresholds(batch.windows, queries)
    for group, count in zip(batch.groups, outputs.counts, strict=True):
        if group.relation is None and not count:
            thresholds[group.row] = np.inf
    last = np.arange(words)[:, None] + np.arange(widths)
    real = last < lengths[:, None, None]
    limits = np.array([window.max_candidates for window in batch.windows])
    at_least = np.maximum(np.nextafter(thresholds, -np.inf), 0)
    indexes, scores, excess = select_above(outputs.logits, at_least[:, None, None, :], real[..., None], limits)
    columns = np.stack((*indexes, np.arange(len(scores))))[:, np.lexsort((-scores, indexes[0]))]
    for row, start, width, label, at in columns.T.tolist():
        if len(ranked[row]) < limits[row]:
            ranked[row].append(Span(start, start + width + 1, label, float(scores[at])))
    return ranked, {row: max(0, count - int(limits[row])) for row, count in excess.items()}


def _find_edges(batch: Batch, outputs: SpanOutputs, lengths: Array) -> list[list[Edge]]:
    """Return each row's relations: of each pair that the model counts the best head and the best tail."""
    edges: list[list[Edge]] = [[] for _ in batch.windows]
    slots = list_slots(batch.groups, outputs.counts)
    for group, count, slot in zip(batch.groups, outputs.counts, slots, strict=True):
        if group.relation is None or not count:
            continue
        logits = outputs.logits[group.row, : lengths[group.row], :, slot : slot + 2 * count]
        words, widths, queries = logits.shape
        real = np.arange(words)[:, None] + np.arange(widths) < words
        flat = np.where(real[..., None], sigmoid(logits), 0).reshape(-1, queries)
        best = flat.argmax(axis=0)
        scores = flat[best, np.arange(queries)].tolist()
        ranges = [(at // widths, at // widths + at % widths + 1) for at in best.tolist()]
        threshold = np.float32(batch.windows[group.row].relations[group.relation].threshold)
        for first in range(0, queries, 2):
            score = min(scores[first], scores[first + 1])
            if score >= threshold:
                edges[group.row].append(Edge(group.relation, ranges[first], ranges[first + 1], score))
    return edges
