"""The condition for using a runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.engine import SPEC, FakeEngine
from worker.model.selection.parity import (
    MARGINS,
    build_mixed_batches,
    build_timing_batches,
    describe_disagreement,
    row_scores,
)
from worker.protocols import ShardRef, Window

WINDOWS = [
    Window(ShardRef("job", 0), 0, ("a",) * words, ("x",) * labels, (0.5,) * labels, True, False, 9)
    for words, labels in ((5, 2), (2, 3))
]


@pytest.mark.parametrize("tagged", [False, True])
def test_only_scores_of_a_rows_own_words_and_labels_are_compared(tagged: bool) -> None:
    """Scores of padding, of spans beyond the end and of other rows' label slots are ignored."""
    logits = np.random.default_rng(1).normal(size=(2, 8, 3, 3) if tagged else (2, 8, 4, 3)).astype(np.float32)
    rows = row_scores(WINDOWS, {"logits": logits}, tagged)
    other = logits.copy()
    if tagged:
        other[0, 5:], other[0, :, 2:], other[1, 2:] = 9, 9, 9
    else:
        other[0, 5:], other[0, ..., 2:], other[1, 2:], other[1, 1, 1:], other[0, 4, 1:] = 9, 9, 9, 9, 9

    assert describe_disagreement([rows], [row_scores(WINDOWS, {"logits": other}, tagged)], "fp32") is None
    assert [row.size for row in rows] == ([5 * 2 * 3, 2 * 3 * 3] if tagged else [(4 + 4 + 3 + 2 + 1) * 2, 3 * 3])


@pytest.mark.parametrize("precision", MARGINS)
def test_a_score_may_differ_by_the_margin_of_its_precision(precision: str) -> None:
    """A single score that differs by more, or is NaN, is enough to refuse a runtime."""
    expected = [[np.linspace(0.1, 0.8, 50)]]
    margin = MARGINS[precision]

    assert describe_disagreement(expected, [[expected[0][0] + 0.9 * margin]], precision) is None
    for wrong in (expected[0][0][7] + 1.1 * margin, np.nan):
        scores = expected[0][0].copy()
        scores[7] = wrong
        assert "1 of 50 scores differ" in (describe_disagreement(expected, [[scores]], precision) or "")


def test_short_texts_are_next_to_one_four_times_as_long() -> None:
    """Also in a model that reads few words at once."""
    for engine in (FakeEngine(), FakeEngine(replace(SPEC, max_words=48))):
        batches = build_mixed_batches(engine)
        mixed = [batch for batch in batches if len(batch) > 1]
        for batch in mixed:
            lengths = sorted(len(window.words) for window in batch)
            assert len(batch) >= 5
            assert lengths[-1] >= 4 * lengths[len(lengths) // 2]
            assert len({window.prompts for window in batch}) > 2
        assert len(batches) == 2 * len(mixed)
        assert build_timing_batches(engine)
