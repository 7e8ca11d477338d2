"""Scores of classes over windows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.tasks import ClassAggregation, Classification
from worker.text.classes import ClassScores
from worker.text.prompts.base import Prompt
from worker.text.windows import WindowPosition
from worker.text.words import WindowKind

TONE = Classification(labels={"good": None, "bad": None, "mixed": None})
TOPICS = Classification(labels={"sport": None, "war": None}, multi_label=True, threshold=0.5)
PROMPT = Prompt((), (), 0, [], (), (), (0, 1))
LARGE = WindowPosition(0, 9, WindowKind.LARGE, PROMPT)
SENTENCE = WindowPosition(0, 3, WindowKind.SENTENCE, PROMPT)
WINDOWS = st.lists(
    st.tuples(st.tuples(*[st.floats(0.01, 1)] * 3), st.tuples(*[st.floats(0, 1)] * 2)), min_size=1, max_size=5
)


@pytest.mark.parametrize(
    ("aggregation", "tone", "topics"),
    [
        ("mean", {"good": 0.5, "bad": 0.4, "mixed": 0.1}, {"sport": 0.5}),
        ("max", {"good": 0.5, "bad": 0.4375, "mixed": 0.0625}, {"sport": 0.8, "war": 0.6}),
    ],
)
def test_large_windows_count_the_same(
    aggregation: ClassAggregation, tone: dict[str, float], topics: dict[str, float]
) -> None:
    """Sentences, which are in them, do not count again."""
    scores = ClassScores({"tone": TONE, "topics": TOPICS}, aggregation)
    scores.add([[0.8, 0.1, 0.1], [0.8, 0.1]], LARGE)
    scores.add([[0.2, 0.7, 0.1], [0.2, 0.6]], LARGE)
    scores.add([[0.0, 0.0, 1.0], [1.0, 1.0]], SENTENCE)
    answers = scores.rank_classes()
    assert dict(answers["tone"]) == pytest.approx(tone)
    assert dict(answers["topics"]) == pytest.approx(topics)


@given(WINDOWS, st.sampled_from(["mean", "max"]))
def test_answers_are_ranked(
    windows: list[tuple[tuple[float, ...], tuple[float, ...]]], aggregation: ClassAggregation
) -> None:
    """Of one right class all are returned, and sum to 1; of several only those that reach the threshold."""
    scores = ClassScores({"tone": TONE, "topics": TOPICS}, aggregation)
    for tone, topics in windows:
        scores.add([[part / sum(tone) for part in tone], topics], LARGE)
    answers = scores.rank_classes()
    for ranked in answers.values():
        assert [answer.score for answer in ranked] == sorted((answer.score for answer in ranked), reverse=True)
    assert sum(answer.score for answer in answers["tone"]) == pytest.approx(1)
    assert {answer.label for answer in answers["tone"]} == set(TONE.labels)
    assert all(answer.score >= TOPICS.threshold for answer in answers["topics"])


def test_one_window_keeps_its_scores() -> None:
    """The answer for a text that fits the model is the model's."""
    scores = ClassScores({"tone": TONE, "topics": TOPICS}, "mean")
    scores.add([[0.25, 0.5, 0.25], [0.5, 0.75]], LARGE)
    answers = scores.rank_classes()
    assert answers["tone"] == (("bad", 0.5), ("good", 0.25), ("mixed", 0.25))
    assert answers["topics"] == (("war", 0.75), ("sport", 0.5))
