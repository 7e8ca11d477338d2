"""How good found entities are, and which thresholds would be best: documents with gold and scores -> numbers. Pure.

Entities are found once, at a low threshold; a higher one keeps those with a higher score. That is exact for one
threshold of all labels. Thresholds of labels are chosen label by label: where labels compete for the same words, a
run with the chosen ones may differ a little.
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
_KNOT_ENTITIES = 30
"""Entities behind a knot of a calibration: fewer would say little."""
_KNOTS = 40


class Span(NamedTuple):
    """An entity: code points `start` up to, not including, `end`."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A document.

    Attributes:
        gold: the entities that are right.
        found: the entities that the model found, with their scores.
    """

    gold: frozenset[Span]
    found: Mapping[Span, float]


@dataclass(frozen=True, slots=True)
class Quality:
    """Counts, and what follows from them. An entity is right if start, end and label are.

    Attributes:
        gold: entities that were to be found.
        found: entities that were.
        right: those in both.
    """

    gold: int
    found: int
    right: int

    @property
    def precision(self) -> float:
        """The share of the found that are right; 1 where none was found."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """The share of the gold that was found; 1 where there was none."""
        return self.right / self.gold if self.gold else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.right / (self.gold + self.found) if self.gold + self.found else 1.0

    def to_json(self) -> dict[str, Any]:
        """Counts and shares."""
        return {
            "gold": self.gold,
            "found": self.found,
            "right": self.right,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
        }


class Choice(NamedTuple):
    """A threshold and what it gives."""

    threshold: float
    quality: Quality


def kept(document: Judged, threshold: float | Mapping[str, float]) -> set[Span]:
    """The entities above a threshold, or above their label's (0.5 where it has none), as the model counts them."""
    common, own = (0.5, threshold) if isinstance(threshold, Mapping) else (threshold, {})
    return {span for span, score in document.found.items() if score > own.get(span.label, common)}


def quality(documents: Iterable[Judged], threshold: float | Mapping[str, float]) -> Quality:
    """What a threshold, or one a label, gives."""
    gold = found = right = 0
    for document in documents:
        above = kept(document, threshold)
        gold, found, right = gold + len(document.gold), found + len(above), right + len(above & document.gold)
    return Quality(gold, found, right)


def sweep(documents: Iterable[Judged], thresholds: Iterable[float], label: str | None = None) -> list[Choice]:
    """What each threshold gives; of one label alone, if named."""
    gold = 0
    pairs: list[tuple[float, bool]] = []
    for document in documents:
        gold += sum(label in (None, span.label) for span in document.gold)
        own = ((span, score) for span, score in document.found.items() if label in (None, span.label))
        pairs += [(score, span in document.gold) for span, score in own]
    pairs.sort()
    scores = [score for score, _ in pairs]
    right = [0, *accumulate(is_right for _, is_right in pairs)]
    below = [(threshold, bisect_right(scores, threshold)) for threshold in thresholds]
    return [Choice(threshold, Quality(gold, len(pairs) - at, right[-1] - right[at])) for threshold, at in below]


def best(choices: Sequence[Choice], precision: float | None = None) -> Choice | None:
    """The choice with the best F1, of equally good ones the middle.

    Args:
        choices: by rising threshold.
        precision: the best recall among those with this precision instead.

    Returns:
        None where no choice finds anything right, or none has that precision.
    """
    if precision is None:
        ranked = [(one.quality.f1, one) for one in choices]
    else:
        enough = (one for one in choices if one.quality.found and one.quality.precision >= precision)
        ranked = [(one.quality.recall, one) for one in enough]
    ranked = [(rank, one) for rank, one in ranked if one.quality.right]
    top = max((rank for rank, _ in ranked), default=None)
    equals = [one for rank, one in ranked if rank == top]
    return equals[len(equals) // 2] if equals else None


def calibration(documents: Iterable[Judged]) -> list[tuple[float, float]]:
    """What scores are worth: knots (score, share that is right), both rising, with straight lines between them.

    Isotonic regression: bins of equally many entities by score, neighbours that do not rise pooled; so are those
    whose scores are the same as written, as many are of a model that is sure of itself.

    Raises:
        ValueError: too few entities to say.
    """
    pairs = sorted((score, span in one.gold) for one in documents for span, score in one.found.items())
    if len(pairs) < 2 * _KNOT_ENTITIES:
        raise ValueError(f"{len(pairs)} found entities are too few; {2 * _KNOT_ENTITIES} are the least")
    size = max(_KNOT_ENTITIES, len(pairs) // _KNOTS)
    pools: list[_Pool] = []
    for first in range(0, len(pairs) - size + 1, size):
        part = pairs[first:] if len(pairs) - first < 2 * size else pairs[first : first + size]
        pools.append(_Pool(len(part), sum(score for score, _ in part), sum(right for _, right in part)))
        while len(pools) > 1 and not pools[-2].below(pools[-1]):
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

    def below(self, other: _Pool) -> bool:
        return self.score < other.score and self.right * other.entities < other.right * self.entities
