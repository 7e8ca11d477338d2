"""Steps of decoding that both architectures share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.worker.model.extractor.windows import make_window
from worker.model.extractor.decode import (
    Edge,
    choose_spans,
    group_labels,
    label_thresholds,
    link_edges,
    rank_runners_up,
    score_classes,
)
from worker.protocols import ClassPrompt, Pair, RelationPrompt, Span


def test_thresholds_of_missing_labels_are_infinite() -> None:
    """A row with fewer labels has no spans of the others."""
    thresholds = label_thresholds([make_window("a", 1), make_window("a", 2)], 3)
    assert thresholds.tolist() == [[0.5, np.inf, np.inf], [0.5, 0.5, np.inf]]


def test_the_full_stop_is_no_part_of_an_entity() -> None:
    """The library puts it after the text."""
    spans = [Span(1, 3, 0, 0.9), Span(2, 3, 1, 0.99), Span(0, 1, 1, 0.8)]
    chosen = choose_spans(spans, make_window("Ada Lovelace"))
    assert chosen == {Span(0, 1, 1, 0.8): spans[2], Span(1, 2, 0, 0.9): spans[0]}


def test_labels_are_grouped() -> None:
    """In their order."""
    spans = [Span(0, 1, 1, 0.9), Span(0, 1, 0, 0.8), Span(2, 3, 1, 0.7)]
    assert [*group_labels(spans)] == [[spans[0], spans[2]], [spans[1]]]


def test_an_edge_links_the_entities_with_most_of_its_words() -> None:
    """Of a label that the relation allows; without one it is left out, and an entity is not related to itself."""
    spans = [Span(0, 2, 0, 0.9), Span(4, 5, 1, 0.8), Span(4, 6, 0, 0.7)]
    window = make_window("a b c d e f", 2, relations=0)
    relations = (RelationPrompt("any", 0.5), RelationPrompt("typed", 0.5, tails=frozenset((1,))))
    window = make_window("a b c d e f", 2, relations=2)
    object.__setattr__(window, "relations", relations)
    edges = [
        Edge(0, (0, 1), (4, 6), 0.6),
        Edge(0, (0, 2), (4, 6), 0.7),
        Edge(1, (0, 2), (4, 7), 0.9),
        Edge(0, (2, 4), (4, 6), 0.9),
        Edge(0, (0, 1), (1, 2), 0.9),
    ]
    assert link_edges(edges, spans, window) == [
        Pair(0, (0, 2, 0), (4, 6, 0), 0.7),
        Pair(1, (0, 2, 0), (4, 5, 1), 0.9),
    ]


def test_equal_shares_of_words_are_decided_by_the_score() -> None:
    """Also among thousands of entities and edges, each range of which is searched for once."""
    spans = [Span(0, 2, 0, 0.4), Span(1, 3, 0, 0.8), Span(5, 6, 1, 0.9)]
    window = make_window("a b c d e f", 2, relations=1)
    assert link_edges([Edge(0, (1, 2), (5, 6), 0.6)] * 3, spans, window) == [Pair(0, (1, 3, 0), (5, 6, 1), 0.6)]
    assert link_edges([Edge(0, (0, 1), (5, 6), 0.6)], [], window) == []


def test_classes_are_scored_together_or_one_by_one() -> None:
    """The scores of a single class sum to 1."""
    single = ClassPrompt("one", ("a", "b"), (None, None), False)
    several = ClassPrompt("many", ("a", "b", "c"), (None,) * 3, True)
    window = make_window("text", classes=(single, several))
    first, second = score_classes(window, np.array([0.0, np.log(3), 0.0, 100.0, -200.0], np.float32))
    assert first == pytest.approx([0.25, 0.75])
    assert second == pytest.approx([0.5, 1, 0])


def test_runners_up_are_ranked() -> None:
    """NaN is no score."""
    span = rank_runners_up(Span(0, 1, 1, 0.9), np.array([0.2, 0.9, np.nan, 0.4, 0.1, 0.3]))
    assert span.runners_up == ((3, 0.4), (5, 0.3), (0, 0.2))
