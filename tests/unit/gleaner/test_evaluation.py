from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nervaluate import Evaluator

from gleaner.cli.reports import compute_schemes
from gleaner.evaluation import STEPS, Choice, Quality, Span, best, calibration, quality, sweep
from tests.support.judged import ADA, DOCUMENTS, judged
from worker.text.explanations import check_calibration


def test_precision_recall_and_f1_are_counted_by_hand() -> None:
    """An entity is right if it agrees in start, end and label."""
    assert quality(DOCUMENTS, 0.3) == Quality(gold=4, found=5, right=3)
    assert quality(DOCUMENTS, 0.3).precision == 3 / 5
    assert quality(DOCUMENTS, 0.3).recall == 3 / 4
    assert quality(DOCUMENTS, 0.3).f1 == pytest.approx(6 / 9)
    assert quality(DOCUMENTS, 0.5) == Quality(4, 3, 2)  # the score must be above the threshold
    assert quality(DOCUMENTS, {"city": 0.85}) == Quality(4, 2, 1)  # labels that are not named have 0.5
    assert (Quality(0, 0, 0).f1, Quality(2, 0, 0).precision, Quality(0, 2, 0).recall) == (1, 1, 1)


flat = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 3), st.sampled_from(["a", "b"]), st.integers(1, 99)), max_size=6
)


def documents(draws: list[tuple[int, int, str, int]]) -> dict[Span, float]:
    """Entities that do not overlap, with scores in hundredths."""
    predicted: dict[Span, float] = {}
    taken: set[int] = set()
    for start, length, label, score in draws:
        places = set(range(start, start + length))
        if not places & taken:
            taken |= places
            predicted[Span(start, start + length, label)] = score / 100
    return predicted


@given(st.lists(st.tuples(flat, flat), min_size=1, max_size=4))
def test_counting_agrees_with_counting_anew_and_with_the_library(draws: list[Any]) -> None:
    """At every threshold, of all labels and of one."""
    rows = [judged(list(documents(gold)), documents(predicted)) for gold, predicted in draws]
    for choice in sweep(rows, STEPS[::12]):
        assert choice.quality == quality(rows, choice.threshold)
        strict = compute_schemes(Evaluator, rows, choice.threshold, ["a", "b"])["all"]["strict"]
        assert (strict["gold"], strict["found"]) == (choice.quality.gold, choice.quality.found)
        if choice.quality.found and choice.quality.gold:
            assert strict["f1"] == round(choice.quality.f1, 4)
    for choice in sweep(rows, STEPS[::12], "a"):
        assert choice.quality == quality(rows, {"a": choice.threshold, "b": 1.0}) or any(
            span.label == "b" for row in rows for span in row.gold
        )


def test_the_best_threshold_is_the_middle_of_the_best() -> None:
    """Any of them is as good on these texts; the middle is the safest on others."""
    choices = sweep(DOCUMENTS, STEPS, "city")
    choice = best(choices)
    assert choice is not None
    assert choice.quality == Quality(1, 1, 1)
    assert 0.58 <= choice.threshold <= 0.61  # from 0.4, the wrong one's score, to 0.8, the right one's
    assert best(sweep([judged([ADA], {})], STEPS)) is None


def test_a_wanted_precision_is_kept_at_the_best_recall() -> None:
    """Or said to be out of reach."""
    wanted = best(sweep(DOCUMENTS, STEPS, "person"), precision=1.0)
    assert wanted is not None
    assert wanted.quality == Quality(3, 1, 1)
    assert wanted.threshold >= 0.6
    never = [Choice(0.5, Quality(3, 2, 1))]
    assert best(never, precision=0.9) is None


def test_a_calibration_rises_from_score_to_share() -> None:
    """Here seven of ten of the lower scores are right, and all of the higher ones."""
    predicted = {Span(n, n + 1, "x"): 0.3 + n / 10_000 for n in range(300)} | {
        Span(n, n + 1, "x"): 0.8 + n / 10_000 for n in range(300, 600)
    }
    right = [span for span in predicted if span.start >= 300 or span.start % 10 < 7]
    knots = calibration([judged(right, predicted)])
    assert all(low < high and below <= above for (low, below), (high, above) in pairwise(knots))
    assert knots[0][1] == pytest.approx(0.7, abs=0.02)
    assert knots[-1] == (pytest.approx(0.84, abs=0.02), 1.0)
    with pytest.raises(ValueError, match="too few"):
        calibration(DOCUMENTS)


def test_a_calibration_of_equal_scores_can_be_read_by_a_worker() -> None:
    """A model that gives most entities 1.0 has one knot there, whatever shares the bins behind it have."""
    predicted = {Span(n, n + 1, "x"): 0.5 + n / 1000 if n < 40 else 1.0 for n in range(400)}
    right = [span for span in predicted if span.start % 4]
    knots = calibration([judged(right, predicted)])
    assert [score for score, _ in knots].count(1.0) == 1
    assert check_calibration(knots) == tuple(knots)
