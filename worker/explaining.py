"""Why spans were kept: the windows' spans -> for each kept one its runners-up, its window, its confidence. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from worker.contract import Knots, Span

RUNNERS_UP = 3


@dataclass(frozen=True, slots=True)
class Sighting:
    """A span in the document's words and labels, and the window that saw it: words `first` up to `last`."""

    span: Span
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a span was kept.

    Attributes:
        runners_up: (label, score) of the labels that came next on the same words, best first.
        window: the words the model saw at once when it gave the span its score.
    """

    runners_up: tuple[tuple[int, float], ...]
    window: tuple[int, int]


def reasons(kept: Iterable[Span], sightings: Iterable[Sighting]) -> list[Reason]:
    """Why each of `kept` was, by everything that was seen.

    A label asked for in another pass than the span's own is a runner-up where it passed its threshold there.
    """
    seen: dict[tuple[int, int], list[Sighting]] = {}
    for sighting in sightings:
        seen.setdefault((sighting.span.start, sighting.span.end), []).append(sighting)
    return [_reason(span, seen[span.start, span.end]) for span in kept]


def _reason(span: Span, seen: Sequence[Sighting]) -> Reason:
    best = max((one for one in seen if one.span.label == span.label), key=lambda one: one.span.score)
    others: dict[int, float] = {}
    for one in seen:
        for label, score in ((one.span.label, one.span.score), *one.span.others):
            others[label] = max(score, others.get(label, 0.0))
    others.pop(span.label, None)
    ranked = sorted(others.items(), key=lambda other: (-other[1], other[0]))
    return Reason(tuple(ranked[:RUNNERS_UP]), (best.first, best.last))


def confidence(score: float, calibration: Knots) -> float | None:
    """How often entities of this score are right, between the two knots it lies between; None without knots."""
    if not calibration:
        return None
    scores = [knot[0] for knot in calibration]
    after = bisect_right(scores, score)
    if after in (0, len(calibration)):
        return calibration[min(after, len(calibration) - 1)][1]
    (low, below), (high, above) = calibration[after - 1 : after + 1]
    return below + (above - below) * (score - low) / (high - low)


def checked(knots: Sequence[Sequence[float]]) -> Knots:
    """Knots as a model's calibration file has them.

    Raises:
        ValueError: they are not pairs of numbers from 0 to 1 that rise.
    """
    pairs = tuple((float(score), float(share)) for score, share in knots)
    within = all(0 <= value <= 1 for pair in pairs for value in pair)
    if not within or any(before[0] >= after[0] or before[1] > after[1] for before, after in pairwise(pairs)):
        raise ValueError("knots must be pairs of score and share, from 0 to 1, both rising")
    return pairs
