"""Scores of a forward pass -> the spans of each window. Pure: numpy in, spans out, for all runtimes.

The candidates are those of gliner's decoders, found with a few array operations for the whole micro-batch: a
label's threshold, and the absence of a label in a row (threshold infinity), are one comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from worker.model.relations.pairs import add_pairs
from worker.protocols import Span, Spans, Window
from worker.text.spans import select_spans

Array = NDArray[Any]
Scores = Mapping[str, Array]
"""A model's outputs: `logits`, as gliner names them; for relations also those of `worker.model.relations.pairs`."""

T = TypeVar("T")

RUNNERS_UP = 3
"""Runner-up labels of an explained span."""
PACKED = 64
"""Spans of a window above which they are stored in columns."""


class RowScores(NamedTuple):
    """Scores of some rows of a micro-batch: those with the same labels where labels are no part of the rows."""

    rows: Sequence[int]
    scores: Scores


class _Candidates(NamedTuple):
    """Columns of candidate spans: row, first word, word after the last, label, score, and index into the logits."""

    rows: Array
    starts: Array
    ends: Array
    labels: Array
    scores: Array
    at: Array


_Excess = Mapping[int, int]
"""Number of candidates of each row that had too many; the worst of them are left out."""


def read_rows(
    windows: Sequence[Window], parts: Sequence[RowScores], read: Callable[[Sequence[Window], Scores], Sequence[T]]
) -> list[T]:
    """Return the result of `read` for each window, in the windows' order; it is called with those of each part."""
    results: dict[int, T] = {}
    for rows, scores in parts:
        results.update(zip(rows, read([windows[row] for row in rows], scores), strict=True))
    return [results[row] for row in range(len(windows))]


def decode_scores(windows: Sequence[Window], scores: Scores, tagged: bool) -> list[Sequence[Span]]:
    """Return the spans of each window, by start, from its `max_candidates` best candidates.

    `logits` are of (row, word, label, start | end | inside) if `tagged`, else of (row, first word, width, label).
    """
    logits = scores["logits"]
    candidates, excess = _find_candidates(windows, logits, tagged)
    bounds = np.searchsorted(candidates.rows, np.arange(len(windows) + 1)).tolist()
    spans: list[Sequence[Span]] = []
    for row, window in enumerate(windows):
        part = slice(bounds[row], min(bounds[row + 1], bounds[row] + window.max_candidates))
        columns = (column[part].tolist() for column in candidates[1:5])
        ranked = [Span(*values) for values in zip(*columns, strict=True)]
        chosen = select_spans(ranked, window.flat, window.multi_label) if ranked else ranked
        if window.explain and chosen:
            at = {span[:3]: index for span, index in zip(ranked, candidates.at[part].tolist(), strict=True)}
            chosen = [
                _add_runners_up(span, _label_scores(span, logits[row], None if tagged else at[span[:3]]), window)
                for span in chosen
            ]
        left_out = max(0, excess.get(row, 0) - window.max_candidates)
        spans.append(Spans(chosen, left_out) if left_out or len(chosen) > PACKED else chosen)
    return add_pairs(windows, spans, scores) if "pair_rows" in scores else spans


def _find_candidates(windows: Sequence[Window], logits: Array, tagged: bool) -> tuple[_Candidates, _Excess]:
    """Return the candidates by row, the best first."""
    thresholds = _thresholds(windows, logits.shape[-2 if tagged else -1])
    lengths = np.array([len(window.words) for window in windows])
    limits = np.array([window.max_candidates for window in windows])
    find = _find_tagged if tagged else _find_dense
    candidates, excess = find(logits, thresholds, lengths, limits)
    order = np.lexsort((-candidates.scores, candidates.rows))  # stable: equal scores stay in gliner's order
    return _Candidates(*(column[order] for column in candidates)), excess


def _thresholds(windows: Sequence[Window], labels: int) -> Array:
    """Return the threshold of each row and label slot as 32-bit floats, in which gliner compares."""
    thresholds = np.full((len(windows), labels), np.inf, np.float32)
    for row, window in enumerate(windows):
        thresholds[row, : len(window.thresholds)] = window.thresholds
    return thresholds


def _sigmoid(logits: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-logits.astype(np.float64))), np.float32)


def select_above(
    logits: Array, thresholds: Array, real: Array, limits: Array
) -> tuple[tuple[Array, ...], Array, _Excess]:
    """Return indexes of scores above their threshold, those scores, and the counts of rows that had too many.

    Only scores that may be above it go through exp. Of a row with too many the best are taken, and those equal to
    the last of them: at threshold 0 a window has a hundred thousand, each of which becomes an object.
    """
    over = logits > _least_logits(thresholds)
    over &= real
    excess: dict[int, int] = {}
    if np.count_nonzero(over) > limits.min():
        counts = over.sum(axis=tuple(range(1, over.ndim)))
        excess = {row: int(counts[row]) for row in np.nonzero(counts > limits)[0].tolist()}
    for row in excess:
        above = logits[row][over[row]]
        over[row] &= logits[row] >= np.partition(above, -limits[row])[-limits[row]]
    indexes = np.nonzero(over)
    scores = _sigmoid(logits[indexes])
    sure = scores > np.broadcast_to(thresholds, logits.shape)[indexes]
    return tuple(index[sure] for index in indexes), scores[sure], excess


def _least_logits(thresholds: Array) -> Array:
    """Return logits below which no score is above its threshold, whatever the rounding."""
    with np.errstate(divide="ignore"):
        least: Array = np.log(thresholds) - np.log1p(-np.minimum(thresholds, 1.0)) - np.float32(1e-3)
    return least


def _find_dense(logits: Array, thresholds: Array, lengths: Array, limits: Array) -> tuple[_Candidates, _Excess]:
    _, words, widths, _ = logits.shape
    last = np.arange(words)[:, None] + np.arange(widths)
    real = last < lengths[:, None, None]
    indexes, scores, excess = select_above(logits, thresholds[:, None, None, :], real[..., None], limits)
    rows, starts, widths, labels = indexes
    return _Candidates(rows, starts, starts + widths + 1, labels, scores, widths), excess


def _find_tagged(logits: Array, thresholds: Array, lengths: Array, limits: Array) -> tuple[_Candidates, _Excess]:
    """Return spans from a start to an end with all words between inside; the score is the least of them all."""
    parts: list[_Candidates] = []
    excess: dict[int, int] = {}
    # Only labels with a start somewhere go through exp: of thousands few have one.
    columns = np.nonzero((logits[..., 0] > _least_logits(thresholds)[:, None]).any(axis=(0, 1)))[0]
    logits, thresholds = logits[:, :, columns], thresholds[:, columns]
    scores = _sigmoid(logits)
    over = scores > thresholds[:, None, :, None]
    over[..., 2] = scores[..., 2] >= thresholds[:, None, :]  # like gliner
    over &= (np.arange(logits.shape[1]) < lengths[:, None])[:, :, None, None]
    for row in range(len(logits)):
        of_row: list[_Candidates] = []
        pending = count = 0
        for start, label in zip(*np.nonzero(over[row, :, :, 0] & over[row, :, :, 2]), strict=True):
            inside = over[row, start:, label, 2]
            reach = len(inside) if inside.all() else int(inside.argmin())
            ends = np.nonzero(over[row, start : start + reach, label, 1])[0]
            least = np.minimum.accumulate(scores[row, start : start + reach, label, 2])[ends]
            least = np.minimum(np.minimum(least, scores[row, start + ends, label, 1]), scores[row, start, label, 0])
            same = np.zeros_like(ends)
            labels = same + columns[label]
            of_row.append(_Candidates(same + row, same + start, start + ends + 1, labels, least, same))
            count += len(ends)
            pending += len(ends)
            if pending > 4 * limits[row]:  # there may be words times words times labels
                of_row = [_select_best(of_row, limits[row])]
                pending = limits[row]
        parts += of_row
        if count > limits[row]:
            excess[row] = count
    if not parts:
        none = np.zeros(0, np.int64)
        return _Candidates(none, none, none, none, none.astype(np.float32), none), excess
    return _concatenate(parts), excess


def _concatenate(parts: Sequence[_Candidates]) -> _Candidates:
    return _Candidates(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _select_best(parts: Sequence[_Candidates], limit: int) -> _Candidates:
    """Return the candidates with the highest scores, in their order."""
    candidates = _concatenate(parts)
    order = np.sort(np.argsort(-candidates.scores, kind="stable")[:limit])
    return _Candidates(*(column[order] for column in candidates))


def _label_scores(span: Span, logits: Array, width_index: int | None) -> Array:
    """Return the score of every label on the span's words.

    Args:
        span: a span of the row.
        logits: of the row.
        width_index: index of the span's width in the logits; None where words are tagged.
    """
    if width_index is not None:
        return _sigmoid(logits[span.start, width_index])
    words = _sigmoid(logits[span.start : span.end])
    least: Array = np.minimum(words[:, :, 2].min(axis=0), np.minimum(words[0, :, 0], words[-1, :, 1]))
    return least


def _add_runners_up(span: Span, scores: Array, window: Window) -> Span:
    """Return the span with its runner-up labels, by the scores of all label slots on its words."""
    ranked = np.argsort(-scores[: len(window.prompts)], kind="stable").tolist()
    labels = [label for label in ranked if label != span.label][:RUNNERS_UP]
    return span._replace(runners_up=tuple((label, float(scores[label])) for label in labels))
