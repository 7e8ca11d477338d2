"""Classes of a document: the scores of its windows' classifications become one for each class. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.tasks import ClassAggregation, Classification, ClassScore
from worker.text.windows import WindowPosition
from worker.text.words import WindowKind


class ClassScores:
    """Aggregates the scores of classes over a document's large windows, which together are its text.

    Args:
        classifications: the document's questions.
        aggregation: `mean`, in which every window counts the same, or `max`.
    """

    def __init__(self, classifications: Mapping[str, Classification], aggregation: ClassAggregation) -> None:
        self._classifications = classifications
        self._aggregation = aggregation
        self._scores: list[list[float]] = [[0.0] * len(question.labels) for question in classifications.values()]
        self._windows = [0] * len(classifications)

    def add(self, classes: Sequence[Sequence[float]], position: WindowPosition) -> None:
        """Add a window's scores; those of a sentence, which are in a large window as well, are ignored."""
        if position.kind is not WindowKind.LARGE:
            return
        for index, scores in zip(position.prompt.classes, classes, strict=True):
            self._windows[index] += 1
            pairs = zip(self._scores[index], scores, strict=True)
            self._scores[index] = (
                [*map(max, pairs)] if self._aggregation == "max" else [total + score for total, score in pairs]
            )

    def rank_classes(self) -> dict[str, tuple[ClassScore, ...]]:
        """Return the classes of each classification, best first.

        With `multi_label` only those that reach the threshold; otherwise all, whose scores sum to 1.
        """
        answers = {}
        for index, (name, question) in enumerate(self._classifications.items()):
            scores, divisor = self._scores[index], 1.0
            if not question.multi_label:
                divisor = sum(scores)
            elif self._aggregation == "mean":
                divisor = self._windows[index]
            ranked = [
                ClassScore(label, score / (divisor or 1.0))
                for label, score in zip(question.labels, scores, strict=True)
            ]
            ranked.sort(key=lambda answer: -answer.score)
            answers[name] = tuple(
                answer for answer in ranked if not question.multi_label or answer.score >= question.threshold
            )
        return answers
