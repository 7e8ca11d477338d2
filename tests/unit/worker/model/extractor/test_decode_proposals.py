"""Proposed spans become answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.unit.worker.model.extractor.windows import make_window
from worker.model.extractor.collate import RowTokens, collate_windows
from worker.model.extractor.decode_proposals import BoundaryOutputs, Proposals, Rules, decode_proposals

BATCH = collate_windows(
    [make_window("x", 0), make_window("a b c d", relations=1, flat=False, explain=True)], RowTokens(0, (99,), 256)
)
RULES = Rules("flat", 0.5)
PROPOSALS = Proposals(
    rows=[1],
    spans=np.array([[[[0, 2], [1, 3], [3, 4]], [[0, 2], [0, 0], [0, 0]], *[[[0, 0]] * 3] * 2]]),
    scores=np.array([[[0.7, 0.8, 0.6], [0.4, np.nan, np.nan], *[[0.9] * 3] * 2]], np.float32),
    absent=np.zeros((1, 4), np.float32),
    expected=np.zeros((1, 4), np.float32),
    pairs=np.array([[0, 0, 1, 3, 3, 4], [0, 0, 3, 4, 1, 3], [7, 0, 0, 1, 2, 3]]),
    pair_scores=np.array([0.9, 0.4, 0.9], np.float32),
)


def decode(proposals: Proposals, rules: Rules = RULES) -> list[tuple[int, ...]]:
    """Return the spans of the second window; the first asks for nothing."""
    logits = np.zeros((2, 0), np.float32)
    nothing, spans = decode_proposals(BATCH, BoundaryOutputs(logits, [proposals]), rules)
    assert not nothing
    return [span[:3] for span in spans]


def test_the_best_total_of_spans_that_do_not_overlap_is_taken() -> None:
    """The rule is the model's: another one may allow more."""
    assert decode(PROPOSALS) == [(1, 3, 0), (3, 4, 0)]
    assert decode(PROPOSALS, Rules("longest", 0.5)) == [(1, 3, 0), (3, 4, 0)]


def test_the_model_may_abstain_or_expect_more() -> None:
    """Whatever the threshold."""
    assert decode(replace(PROPOSALS, absent=np.array([[0.6, 0, 0, 0]], np.float32))) == []
    expected = np.array([[0, 1, 1, 1]], np.float32)
    assert decode(replace(PROPOSALS, absent=np.array([[0.6, 0, 0, 0]], np.float32), expected=expected)) == [
        (0, 2, 1)
    ]


def test_relations_are_linked_and_runners_up_listed() -> None:
    """Those of other rows are not this row's."""
    _, spans = decode_proposals(BATCH, BoundaryOutputs(np.zeros((2, 0), np.float32), [PROPOSALS]), RULES)
    assert [pair[:3] for pair in spans.pairs] == [(0, (1, 3, 0), (3, 4, 0))]
    assert [span.runners_up for span in spans] == [(), ()]
