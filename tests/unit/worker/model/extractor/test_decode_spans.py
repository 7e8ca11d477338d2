"""Scores of all spans become answers."""

from __future__ import annotations

import numpy as np

from tests.unit.worker.model.extractor.windows import make_window
from worker.model.extractor.collate import RowTokens, collate_windows
from worker.model.extractor.decode_spans import SpanOutputs, decode_spans, list_slots
from worker.protocols import Pair, Window

ROWS = RowTokens(0, (99,), 256)


def make_outputs(window: Window, counts: list[int], scores: dict[tuple[int, int, int], float]) -> SpanOutputs:
    """Return logits for one row: those of (first word, width, query), and otherwise -5."""
    logits = np.full((1, len(window.words) + 1, 3, 8), -5, np.float32)
    for (start, width, query), logit in scores.items():
        logits[0, start, width, query] = logit
    return SpanOutputs(logits, counts, np.zeros((1, 0), np.float32))


def test_spans_of_a_label_do_not_overlap() -> None:
    """The best wins; another label may have the same words, if the window allows it."""
    window = make_window("a b c d", multi_label=True, flat=False, explain=True)
    batch = collate_windows([window], ROWS)
    scores = {(0, 1, 0): 2.0, (1, 1, 0): 3.0, (1, 1, 1): 1.0, (0, 0, 0): 0.5}
    [spans] = decode_spans(batch, make_outputs(window, [1], scores))
    assert [span[:3] for span in spans] == [(0, 1, 0), (1, 3, 0), (1, 3, 1)]
    assert spans[1].runners_up[0][0] == 1
    [none] = decode_spans(batch, make_outputs(window, [0], scores))
    assert [*none] == []


def test_of_too_many_candidates_the_best_are_considered() -> None:
    """And the number of the others is reported."""
    window = make_window("a b c d", max_candidates=2)
    scores = {(start, 0, 0): float(start + 1) for start in range(4)}
    [spans] = decode_spans(collate_windows([window], ROWS), make_outputs(window, [1], scores))
    assert [span.start for span in spans] == [2, 3]
    assert spans.left_out == 2


def test_each_counted_pair_is_a_relation() -> None:
    """Of the best head and the best tail, if both are above the threshold."""
    window = make_window("a b c d", 1, relations=1, flat=False)
    batch = collate_windows([window], ROWS)
    scores = {
        (0, 0, 0): 2.0, (2, 1, 0): 2.0,  # entities
        (0, 0, 1): 1.0, (2, 1, 2): 2.0,  # a pair
        (2, 0, 3): 1.0, (0, 0, 4): -0.1,  # one whose tail is below the threshold
    }  # fmt: skip
    outputs = make_outputs(window, [1, 2], scores)
    assert list_slots(batch.groups, outputs.counts) == [0, 1]
    [spans] = decode_spans(batch, outputs)
    [pair] = spans.pairs
    assert pair[:3] == Pair(0, (0, 1, 0), (2, 4, 0), 0.0)[:3]
    assert abs(pair.score - 1 / (1 + np.exp(-1))) < 1e-6
