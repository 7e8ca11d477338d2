"""Why spans were kept: the windows' spans -> for each kept one its runners-up, its window, its confidence. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import pairwise
from typing import NamedTuple

from worker.protocols import CalibrationCurve, Span

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
    """Return why each of `kept` was, by everything that was seen; linear in both, however many labels share words.

    A label asked for in another pass than the span's own is a runner-up where it passed its threshold there.
    """
    by_words: dict[tuple[int, int], list[Sighting]] = {}
    for sighting in sightings:
        by_words.setdefault((sighting.span.start, sighting.span.end), []).append(sighting)
    views: dict[tuple[int, int], _View] = {}
    whys = []
    for span in kept:
        words = span.start, span.end
        if words not in views:
            views[words] = _view(by_words[words])
        ranked, windows = views[words]
        others = [other for other in ranked if other[0] != span.label][:RUNNERS_UP]
        whys.append(Reason(tuple(others), windows[span.label]))
    return whys


class _View(NamedTuple):
    """All that was seen on the same words: (label, score) of the best labels, and each kept label's best window."""

    ranked: list[tuple[int, float]]
    windows: dict[int, tuple[int, int]]


def _view(seen: Iterable[Sighting]) -> _View:
    scores: dict[int, float] = {}
    own: dict[int, float] = {}
    windows: dict[int, tuple[int, int]] = {}
    for sighting in seen:
        span = sighting.span
        if span.score > own.get(span.label, -1.0):
            own[span.label] = span.score
            windows[span.label] = sighting.first, sighting.last
        for label, score in ((span.label, span.score), *span.runners_up):
            scores[label] = max(score, scores.get(label, 0.0))
    best = nsmallest(RUNNERS_UP + 1, scores.items(), key=lambda other: (-other[1], other[0]))
    return _View(best, windows)


def confidence(score: float, calibration: CalibrationCurve) -> float | None:
    """How often entities of this score are right, between the two knots it lies between; None without knots."""
    if not calibration:
        return None
    scores = [knot[0] for knot in calibration]
    after = bisect_right(scores, score)
    if after in (0, len(calibration)):
        return calibration[min(after, len(calibration) - 1)][1]
    (low, below), (high, above) = calibration[after - 1 : after + 1]
    return below + (above - below) * (score - low) / (high - low)


def checked(knots: Sequence[Sequence[float]]) -> CalibrationCurve:
    """Knots as a model's calibration file has them.

    Raises:
        ValueError: they are not pairs of numbers from 0 to 1 that rise.
    """
    pairs = tuple((float(score), float(share)) for score, share in knots)
    within = all(0 <= value <= 1 for pair in pairs for value in pair)
    if not within or any(before[0] >= after[0] or before[1] > after[1] for before, after in pairwise(pairs)):
        raise ValueError("knots must be pairs of score and share, from 0 to 1, both rising")
    return pairs
