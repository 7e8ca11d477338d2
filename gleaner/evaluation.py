"""Quality of predicted entities, and the best thresholds, from documents with gold entities and scores. Pure.

Entities are predicted once, at a low threshold; a higher one keeps those with a higher score. That is exact for one
threshold for all labels. Thresholds of labels are chosen separately: if labels compete for the same words, a run
with the chosen thresholds may differ slightly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import add
from typing import Any, NamedTuple

STEPS = tuple(step / 100 for step in range(5, 100))
"""Thresholds that are tried for a label."""
_MIN_POINT_ENTITIES = 30
"""Minimum number of entities behind a point of a calibration curve."""
_MAX_POINTS = 40


class Span(NamedTuple):
    """An entity: code points `start` up to, not including, `end`."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A document with its gold and its predicted entities.

    Attributes:
        gold: the correct entities.
        found: the entities that the model predicted, with their scores.
    """

    gold: frozenset[Span]
    found: Mapping[Span, float]


@dataclass(frozen=True, slots=True)
class Quality:
    """Counts, precision, recall and F1. An entity is right if its start, end and label are.

    Attributes:
        gold: number of correct entities.
        found: number of predicted entities.
        right: number of entities in both.
    """

    gold: int
    found: int
    right: int

    @property
    def precision(self) -> float:
        """Share of the predicted entities that are right; 1 if there is none."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the gold entities that were predicted; 1 if there is none."""
        return self.right / self.gold if self.gold else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.right / (self.gold + self.found) if self.gold + self.found else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return counts and shares, rounded to four digits."""
        return {
            "gold": self.gold,
            "found": self.found,
            "right": self.right,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
        }


class Choice(NamedTuple):
    """A threshold and its quality."""

    threshold: float
    quality: Quality


def kept(document: Judged, threshold: float | Mapping[str, float]) -> set[Span]:
    """Return the entities whose score is above the threshold, or above their label's (0.5 if it has none)."""
    default, by_label = (0.5, threshold) if isinstance(threshold, Mapping) else (threshold, {})
    return {span for span, score in document.found.items() if score > by_label.get(span.label, default)}


def quality(documents: Iterable[Judged], threshold: float | Mapping[str, float]) -> Quality:
    """Return the quality at one threshold, or at one threshold per label."""
    gold = predicted = right = 0
    for document in documents:
        above = kept(document, threshold)
        gold, predicted, right = (
            gold + len(document.gold), predicted + len(above), right + len(above & document.gold)
        )  # fmt: skip
    return Quality(gold, predicted, right)


def sweep(documents: Iterable[Judged], thresholds: Iterable[float], label: str | None = None) -> list[Choice]:
    """Return the quality at each threshold, of all labels or of one."""
    gold = 0
    pairs: list[tuple[float, bool]] = []
    for document in documents:
        gold += sum(label in (None, span.label) for span in document.gold)
        predicted = ((span, score) for span, score in document.found.items() if label in (None, span.label))
        pairs += [(score, span in document.gold) for span, score in predicted]
    pairs.sort()
    scores = [score for score, _ in pairs]
    right = [0, *accumulate(is_right for _, is_right in pairs)]
    is_below = [(threshold, bisect_right(scores, threshold)) for threshold in thresholds]
    return [Choice(threshold, Quality(gold, len(pairs) - at, right[-1] - right[at])) for threshold, at in is_below]


def best(choices: Sequence[Choice], precision: float | None = None) -> Choice | None:
    """Return the choice with the best F1, the middle one if several are equally good.

    Args:
        choices: by rising threshold.
        precision: if set, return the best recall among the choices with at least this precision instead.

    Returns:
        None if no choice has a right entity, or none has that precision.
    """
    if precision is None:
        ranked = [(choice.quality.f1, choice) for choice in choices]
    else:
        precise = (choice for choice in choices if choice.quality.found and choice.quality.precision >= precision)
        ranked = [(choice.quality.recall, choice) for choice in precise]
    ranked = [(rank, choice) for rank, choice in ranked if choice.quality.right]
    top = max((rank for rank, _ in ranked), default=None)
    equals = [choice for rank, choice in ranked if rank == top]
    return equals[len(equals) // 2] if equals else None


def calibration(documents: Iterable[Judged]) -> list[tuple[float, float]]:
    """Fit an isotonic calibration curve; return its (score, precision) points, both rising.

    Entities are binned by score into bins of equal size; neighbouring bins that do not rise are pooled, as are
    those whose rounded scores are equal (a confident model gives the same score to many entities).

    Raises:
        ValueError: there are too few entities.
    """
    pairs = sorted((score, span in doc.gold) for doc in documents for span, score in doc.found.items())
    if len(pairs) < 2 * _MIN_POINT_ENTITIES:
        raise ValueError(
            f"{len(pairs)} predicted entities are too few; at least {2 * _MIN_POINT_ENTITIES} are needed"
        )
    size = max(_MIN_POINT_ENTITIES, len(pairs) // _MAX_POINTS)
    pools: list[_Pool] = []
    for first in range(0, len(pairs) - size + 1, size):
        part = pairs[first:] if len(pairs) - first < 2 * size else pairs[first : first + size]
        pools.append(_Pool(len(part), sum(score for score, _ in part), sum(right for _, right in part)))
        while len(pools) > 1 and not pools[-2].is_below(pools[-1]):
            last = pools.pop()
            pools[-1] = _Pool(*map(add, pools[-1], last))
    return [(pool.score, round(pool.right / pool.entities, 4)) for pool in pools]


class _Pool(NamedTuple):
    """Entities of neighbouring scores."""

    entities: int
    scores: float
    right: int

    @property
    def score(self) -> float:
        return round(self.scores / self.entities, 4)

    def is_below(self, other: _Pool) -> bool:
        return self.score < other.score and self.right * other.entities < other.right * self.entities
