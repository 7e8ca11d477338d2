"""Proposed spans of GLiNER2.5 -> the answers of each window. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from gliner2.inference.overlap import resolve_overlaps
from gliner2.models.boundary.engine import BoundaryExtractor
from numpy.typing import NDArray

from worker.model.extractor.collate import Batch
from worker.model.extractor.decode import (
    Edge,
    choose_spans,
    group_labels,
    label_thresholds,
    link_edges,
    rank_runners_up,
    score_classes,
)
from worker.model.relations.pairs import keep_best
from worker.protocols import Span, Spans, Window

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Proposals:
    """Scored spans of some rows, and scored pairs of them.

    A row's queries are its labels; then the head and the tail of each relation.

    Attributes:
        rows: indexes of the rows in the micro-batch.
        spans: first word and word after the last, of (row, query, candidate).
        scores: of (row, query, candidate); NaN where there is no candidate.
        absent: probability that no span answers the query, of (row, query).
        expected: number of spans that the model expects at least, of (row, query).
        pairs: columns of (index of the row here, relation, head's first word, word after its last, the tail's).
        pair_scores: of each pair.
    """

    rows: Sequence[int]
    spans: Array
    scores: Array
    absent: Array
    expected: Array
    pairs: Array
    pair_scores: Array


@dataclass(frozen=True, slots=True)
class BoundaryOutputs:
    """Scores of a micro-batch: of classes as logits of (row, class), and of spans."""

    class_logits: Array
    proposals: Sequence[Proposals]


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings of a model that decide which of its proposals are answers.

    Attributes:
        overlaps: `flat`, `nested` or `longest`: the overlaps allowed between spans of one label.
        abstention: probability that no span answers a query above which there is none.
    """

    overlaps: str
    abstention: float


def decode_proposals(batch: Batch, outputs: BoundaryOutputs, rules: Rules) -> list[Spans]:
    """Return the answers to each window."""
    answers = [
        Spans((), classes=score_classes(window, logits))
        for window, logits in zip(batch.windows, outputs.class_logits, strict=True)
    ]
    for proposals in outputs.proposals:
        windows = [batch.windows[row] for row in proposals.rows]
        above = _find_above(windows, proposals, rules)
        for index, (row, window) in enumerate(zip(proposals.rows, windows, strict=True)):
            ranked = _rank_spans(proposals, above, index)
            considered = ranked[: window.max_candidates]
            selected = [span for spans in group_labels(considered) for span in _resolve_overlaps(spans, rules)]
            chosen = choose_spans(selected, window)
            edges = _find_edges(proposals, index, window)
            pairs, pairs_left_out = keep_best(link_edges(edges, [*chosen], window))
            spans = [*chosen]
            if window.explain:
                spans = [_add_runners_up(span, whole, proposals, index) for span, whole in chosen.items()]
            left_out, classes = len(ranked) - len(considered), answers[row].classes
            answers[row] = Spans(spans, left_out, pairs, classes, pairs_left_out)
    return answers


def _find_above(windows: Sequence[Window], proposals: Proposals, rules: Rules) -> Array:
    """Return a mask of the candidates that count: those above the threshold, and as many as the model expects."""
    scores = proposals.scores
    thresholds = label_thresholds(windows, scores.shape[1])
    with np.errstate(invalid="ignore"):
        above = scores >= thresholds[..., None]
    order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1)
    above |= (rank < proposals.expected[..., None]) & np.isfinite(thresholds)[..., None] & ~np.isnan(scores)
    result: Array = above & (proposals.absent <= rules.abstention)[..., None]
    return result


def _rank_spans(proposals: Proposals, above: Array, index: int) -> list[Span]:
    """Return a row's candidates, the best first."""
    queries, candidates = np.nonzero(above[index])
    scores = proposals.scores[index, queries, candidates]
    order = np.argsort(-scores, kind="stable")
    ends = proposals.spans[index, queries, candidates][order].tolist()
    columns = zip(ends, queries[order].tolist(), scores[order].tolist(), strict=True)
    return [Span(start, end, label, score) for (start, end), label, score in columns]


def _resolve_overlaps(spans: Sequence[Span], rules: Rules) -> Sequence[Span]:
    resolved: Sequence[Span] = resolve_overlaps(
        spans,
        rules.overlaps,
        score=lambda span: span.score,
        start=lambda span: span.start,
        end=lambda span: span.end,
    )
    return resolved


def _add_runners_up(span: Span, whole: Span, proposals: Proposals, index: int) -> Span:
    """Return the span with its runner-up labels: of those for which the model proposed the same words."""
    same = (proposals.spans[index] == (whole.start, whole.end)).all(axis=-1)
    scores = np.where(same, proposals.scores[index], np.nan)
    return rank_runners_up(span, np.fmax.reduce(scores, axis=-1))


def _find_edges(proposals: Proposals, index: int, window: Window) -> list[Edge]:
    """Return a row's relations, of those between the same or contained words the one that the library keeps."""
    mask = proposals.pairs[:, 0] == index
    edges = []
    by_relation: defaultdict[int, list[Edge]] = defaultdict(list)
    columns = zip(proposals.pairs[mask, 1:].tolist(), proposals.pair_scores[mask].tolist(), strict=True)
    for (relation, *ends), score in columns:
        if score >= np.float32(window.relations[relation].threshold):
            by_relation[relation].append(Edge(relation, (ends[0], ends[1]), (ends[2], ends[3]), score))
    for same in by_relation.values():
        edges += _drop_repeated(same, window)
    return edges


def _drop_repeated(edges: Sequence[Edge], window: Window) -> list[Edge]:
    """Return the edges that the library keeps of a relation."""
    words = [*window.words, "."]
    offsets = [*accumulate((len(word) + 1 for word in words), initial=0)]  # as if blanks were between all words
    words_at = {(offsets[start], offsets[end] - 1): (start, end) for edge in edges for start, end in edge[1:3]}

    def describe(start: int, end: int) -> tuple[str, int, int, float]:
        return " ".join(words[start:end]), offsets[start], offsets[end] - 1, 1.0

    described = [
        {"score": edge.score, "head": describe(*edge.head), "tail": describe(*edge.tail)} for edge in edges
    ]
    return [
        Edge(edges[0].relation, words_at[edge["head"][1:3]], words_at[edge["tail"][1:3]], edge["score"])
        for edge in BoundaryExtractor._deduplicate_relation_edges(described)
    ]
