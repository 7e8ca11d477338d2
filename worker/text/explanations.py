"""Explains spans: their runner-up labels, the window that found them, and a calibrated confidence. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import nsmallest
from itertools import pairwise

from worker.protocols import CalibrationCurve, Span
from worker.text.spans import SpanCandidate

MAX_RUNNERS_UP = 3


@dataclass(frozen=True, slots=True)
class SpanExplanation:
    """Why the model found a span.

    Attributes:
        runners_up: (label, score) of the labels that came next on the same words, best first.
        window: the words that the model read at once when it gave the span its score.
    """

    runners_up: tuple[tuple[int, float], ...]
    window: tuple[int, int]


def explain_spans(spans: Iterable[Span], candidates: Iterable[SpanCandidate]) -> list[SpanExplanation]:
    """Return an explanation of each span; linear in both arguments, however many labels share words.

    A label asked for in another pass than the span's is a runner-up if it passed its threshold there.
    """
    by_words: dict[tuple[int, int], list[SpanCandidate]] = {}
    for candidate in candidates:
        by_words.setdefault((candidate.span.start, candidate.span.end), []).append(candidate)
    rank_labels = cache(lambda words: _rank_labels(by_words[words]))
    explanations = []
    for span in spans:
        ranked, windows = rank_labels((span.start, span.end))
        runners_up = [(label, score) for label, score in ranked if label != span.label][:MAX_RUNNERS_UP]
        explanations.append(SpanExplanation(tuple(runners_up), windows[span.label]))
    return explanations


def _rank_labels(
    candidates: Iterable[SpanCandidate],
) -> tuple[list[tuple[int, float]], dict[int, tuple[int, int]]]:
    """Return (label, score) of the best labels on the same words, and the best window of each label found there."""
    scores: dict[int, float] = {}
    best: dict[int, float] = {}
    windows: dict[int, tuple[int, int]] = {}
    for candidate in candidates:
        span = candidate.span
        if span.score > best.get(span.label, -1.0):
            best[span.label] = span.score
            windows[span.label] = candidate.window
        for label, score in ((span.label, span.score), *span.runners_up):
            scores[label] = max(score, scores.get(label, 0.0))
    return nsmallest(MAX_RUNNERS_UP + 1, scores.items(), key=lambda pair: (-pair[1], pair[0])), windows


def estimate_confidence(score: float, curve: CalibrationCurve) -> float | None:
    """Return the share of entities of this score that are right, interpolated; None for an empty curve."""
    if not curve:
        return None
    after = bisect_right([point[0] for point in curve], score)
    if after in (0, len(curve)):
        return curve[min(after, len(curve) - 1)][1]
    (low, below), (high, above) = curve[after - 1 : after + 1]
    return below + (above - below) * (score - low) / (high - low)


def check_calibration(knots: Sequence[Sequence[float]]) -> CalibrationCurve:
    """Return the knots of a model's calibration file as a curve.

    Raises:
        ValueError: they are not rising pairs of numbers from 0 to 1.
    """
    pairs = tuple((float(score), float(share)) for score, share in knots)
    in_range = all(0 <= value <= 1 for pair in pairs for value in pair)
    if not in_range or any(before[0] >= after[0] or before[1] > after[1] for before, after in pairwise(pairs)):
        raise ValueError("knots must be pairs of score and share, from 0 to 1, both rising")
    return pairs
