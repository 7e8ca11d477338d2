"""Scores of pairs -> relations between a window's spans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from worker.model.relations import pairs
from worker.model.relations.pairs import add_pairs, rank_words
from worker.protocols import Pair, RelationPrompt, ShardRef, Span, Spans, Window

WINDOW = Window(
    ShardRef("job", 0), 0, ("Ada", "met", "Bob", "Li"), ("person", "city"), (0.5, 0.5),
    flat=True, multi_label=True, row_tokens=8, relations=(RelationPrompt("met", 0.5), RelationPrompt("in", 0.9)),
)  # fmt: skip
SPANS = [Span(0, 1, 0, 0.9), Span(2, 4, 1, 0.6), Span(2, 4, 0, 0.8)]
ADA, BOB, CITY = (0, 1, 0), (2, 4, 0), (2, 4, 1)


def score(*rows: tuple[int, tuple[int, int, int, int], tuple[float, float]]) -> dict[str, np.ndarray]:
    """Return (row, words of head and tail, logits) as the runtime does."""
    indexes, ends, logits = zip(*rows, strict=True) if rows else ((), np.zeros((0, 4)), np.zeros((0, 2)))
    return {"pair_rows": np.array(indexes), "pair_ends": np.array(ends), "pair_logits": np.array(logits)}


def find(window: Window, scores: dict[str, np.ndarray]) -> list[Pair]:
    """Return the pairs of one window."""
    [spans] = add_pairs([window], [SPANS], scores)
    assert list(spans) == SPANS
    return list(spans.pairs) if isinstance(spans, Spans) else []


def test_every_relation_has_its_threshold() -> None:
    """Of labels on the same words the best is the head or tail, as in gliner."""
    relations = find(WINDOW, score((0, (0, 0, 2, 3), (1.0, 1.0)), (0, (2, 3, 0, 0), (-1.0, 4.0))))
    assert [pair[:3] for pair in relations] == [(1, BOB, ADA), (0, ADA, BOB)]
    assert [pair.score for pair in relations] == pytest.approx([0.982, 0.731], abs=1e-3)


def test_head_and_tail_have_permitted_labels() -> None:
    """Of labels on the same words the best permitted one; a pair without any is left out."""
    live = RelationPrompt("in", 0.5, frozenset((0,)), frozenset((1,)))
    window = replace(WINDOW, relations=(live, replace(live, tails=frozenset((7,)))))
    relations = find(window, score((0, (0, 0, 2, 3), (1.0, 9.0)), (0, (2, 3, 0, 0), (1.0, 9.0))))
    assert [pair[:3] for pair in relations] == [(0, ADA, CITY)]


def test_pairs_are_of_spans_of_the_result() -> None:
    """Not of words that lost an overlap, nor of the same words; of equal pairs the best is kept."""
    relations = find(
        WINDOW,
        score(
            (0, (0, 1, 2, 3), (3.0, 0.0)),
            (0, (2, 3, 2, 3), (3.0, 0.0)),
            (0, (0, 0, 2, 3), (1.0, 0.0)),
            (0, (0, 0, 2, 3), (2.0, 0.0)),
        ),
    )
    assert [pair[:3] for pair in relations] == [(0, ADA, BOB)]
    assert relations[0].score == pytest.approx(0.881, abs=1e-3)


def test_rows_have_their_own_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that asks for no relation has none; of too many the best are kept, and the others counted."""
    monkeypatch.setattr(pairs, "MAX_PAIRS", 1)
    silent = replace(WINDOW, relations=())
    scores = score((1, (0, 0, 2, 3), (1.0, 0.0)), (1, (2, 3, 0, 0), (2.0, 0.0)))
    first, second = add_pairs([silent, WINDOW], [SPANS, Spans(SPANS, left_out=3)], scores)
    assert first is SPANS
    assert isinstance(second, Spans)
    assert [pair[:3] for pair in second.pairs] == [(0, BOB, ADA)]
    assert (second.left_out, second.pairs_left_out) == (3, 1)


def test_words_with_several_labels_are_ranked_once() -> None:
    """By their best score."""
    assert rank_words(SPANS) == [(0, 0), (2, 3)]


@pytest.mark.parametrize("tails", [None, frozenset((1,))])
def test_of_very_many_pairs_the_best_permitted_ones_are_kept(tails: frozenset[int] | None) -> None:
    """A hostile request has two million at threshold 0; those that no relation allows take no place of others."""
    count, relations = 60, 20
    spans = [Span(at, at + 1, at % 2, 0.9) for at in range(count)]
    window = replace(WINDOW, words=("a",) * count, relations=(RelationPrompt("any", 0.0, None, tails),) * relations)
    ends = [(head, head, tail, tail) for head in range(count) for tail in range(count) if head != tail]
    logits = np.random.default_rng(7).normal(size=(len(ends), relations))
    scores = {"pair_rows": np.zeros(len(ends), int), "pair_ends": np.array(ends), "pair_logits": logits}
    [answer] = add_pairs([window], [spans], scores)
    assert isinstance(answer, Spans)
    permitted = [index for index, end in enumerate(ends) if tails is None or end[2] % 2]
    best = sorted(logits[permitted].ravel(), reverse=True)[: pairs.MAX_PAIRS]
    expected = 1 / (1 + np.exp(-np.array(best)))
    assert [pair.score for pair in answer.pairs] == pytest.approx(expected, abs=1e-6)
    assert answer.pairs_left_out == len(permitted) * relations - pairs.MAX_PAIRS
