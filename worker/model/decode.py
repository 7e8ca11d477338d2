"""Scores of a forward pass -> the spans of each window. Pure: numpy in, spans out, whatever runtime ran the model.

The candidates are those of gliner's own decoders, found with a few array operations for the whole micro-batch: a
label's threshold, and that a row did not ask for it (threshold infinity), are one comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.protocols import Span, Spans, Window
from worker.text.spans import keep

Array = NDArray[Any]
Scores = Mapping[str, Array]
"""A model's outputs by gliner's names: `logits`."""

OTHERS = 3
"""Runner-up labels of an explained span."""
PACKED = 64
"""A window's spans beyond this many are kept in columns."""


class _Found(NamedTuple):
    """Candidates in columns: row, first word, word after the last, label, score, and index of their runners-up."""

    rows: Array
    starts: Array
    ends: Array
    labels: Array
    scores: Array
    at: Array


_Many = Mapping[int, int]
"""Candidates that rows had, of rows that had too many: the worst of them are left out."""


def decode(windows: Sequence[Window], scores: Scores, tagged: bool) -> list[Sequence[Span]]:
    """Return the spans of each window, by start, of the `max_candidates` best candidates that it asks for.

    Args:
        windows: the rows of the forward pass.
        scores: what the model returned.
        tagged: `logits` are of (row, word, label, start | end | inside); else of (row, first word, width, label).
    """
    found, many = _candidates(windows, scores, tagged)
    bounds = np.searchsorted(found.rows, np.arange(len(windows) + 1)).tolist()
    spans: list[Sequence[Span]] = []
    for row, window in enumerate(windows):
        part = slice(bounds[row], min(bounds[row + 1], bounds[row] + window.max_candidates))
        columns = (column[part].tolist() for column in (found.starts, found.ends, found.labels, found.scores))
        ranked = [Span(*values) for values in zip(*columns, strict=True)]
        kept = keep(ranked, window.flat, window.multi_label) if ranked else ranked
        if window.explain and kept:
            at = {span[:3]: place for span, place in zip(ranked, found.at[part].tolist(), strict=True)}
            kept = [_explained(span, row, at[span[:3]], window, scores, tagged) for span in kept]
        left_out = max(0, many.get(row, 0) - window.max_candidates)
        spans.append(Spans(kept, left_out) if left_out or len(kept) > PACKED else kept)
    return spans


def _candidates(windows: Sequence[Window], scores: Scores, tagged: bool) -> tuple[_Found, _Many]:
    """By row, the best first."""
    logits = scores["logits"]
    thresholds = _thresholds(windows, logits.shape[-2 if tagged else -1])
    lengths = np.array([len(window.words) for window in windows])
    most = np.array([window.max_candidates for window in windows])
    if tagged:
        found, many = _tagged(logits, thresholds, lengths, most)
    else:
        found, many = _dense(logits, thresholds, lengths, most)
    order = np.lexsort((-found.scores, found.rows))  # stable: equal scores stay in gliner's order
    return _Found(*(column[order] for column in found)), many


def _thresholds(windows: Sequence[Window], labels: int) -> Array:
    """Of each row and label slot, as 32-bit floats, which is how gliner compares."""
    thresholds = np.full((len(windows), labels), np.inf, np.float32)
    for row, window in enumerate(windows):
        thresholds[row, : len(window.thresholds)] = window.thresholds
    return thresholds


def _sigmoid(logits: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-logits.astype(np.float64))), np.float32)


def _above(logits: Array, thresholds: Array, real: Array, most: Array) -> tuple[tuple[Array, ...], Array, _Many]:
    """Return indexes of scores above their threshold, those scores, and how many rows with too many had.

    Only what may be above it goes through exp. Of a row with too many the best stay, and what is as good as the
    last of them: at threshold 0 a window has a hundred thousand, each of which is an object later on.
    """
    with np.errstate(divide="ignore"):
        least = np.log(thresholds) - np.log1p(-np.minimum(thresholds, 1.0))  # the threshold as a logit
    over = logits > least - np.float32(1e-3)
    over &= real
    many: dict[int, int] = {}
    if np.count_nonzero(over) > most.min():
        counts = over.sum(axis=tuple(range(1, over.ndim)))
        many = {row: int(counts[row]) for row in np.nonzero(counts > most)[0].tolist()}
    for row in many:
        above = logits[row][over[row]]
        over[row] &= logits[row] >= np.partition(above, -most[row])[-most[row]]
    places = np.nonzero(over)
    scores = _sigmoid(logits[places])
    sure = scores > np.broadcast_to(thresholds, logits.shape)[places]
    places = tuple(place[sure] for place in places)
    return places, scores[sure], many


def _dense(logits: Array, thresholds: Array, lengths: Array, most: Array) -> tuple[_Found, _Many]:
    _, words, widths, _ = logits.shape
    last = np.arange(words)[:, None] + np.arange(widths)
    real = last < lengths[:, None, None]
    places, scores, many = _above(logits, thresholds[:, None, None, :], real[..., None], most)
    rows, starts, widths, labels = places
    return _Found(rows, starts, starts + widths + 1, labels, scores, widths), many


def _tagged(logits: Array, thresholds: Array, lengths: Array, most: Array) -> tuple[_Found, _Many]:
    """Spans from a start to an end with no word between that is not inside; the score is the least of them all."""
    found: list[_Found] = []
    many: dict[int, int] = {}
    scores = _sigmoid(logits)
    over = scores > thresholds[:, None, :, None]
    over[..., 2] = scores[..., 2] >= thresholds[:, None, :]  # as gliner has it
    over &= (np.arange(logits.shape[1]) < lengths[:, None])[:, :, None, None]
    for row in range(len(logits)):
        of_row: list[_Found] = []
        held = count = 0
        for start, label in zip(*np.nonzero(over[row, :, :, 0] & over[row, :, :, 2]), strict=True):
            inside = over[row, start:, label, 2]
            reach = len(inside) if inside.all() else int(inside.argmin())
            ends = np.nonzero(over[row, start : start + reach, label, 1])[0]
            least = np.minimum.accumulate(scores[row, start : start + reach, label, 2])[ends]
            least = np.minimum(np.minimum(least, scores[row, start + ends, label, 1]), scores[row, start, label, 0])
            same = np.zeros_like(ends)
            of_row.append(_Found(same + row, same + start, start + ends + 1, same + label, least, same))
            count += len(ends)
            held += len(ends)
            if held > 4 * most[row]:  # as many as words times words times labels
                of_row = [_best(of_row, most[row])]
                held = most[row]
        found += of_row
        if count > most[row]:
            many[row] = count
    if not found:
        none = np.zeros(0, np.int64)
        return _Found(none, none, none, none, none.astype(np.float32), none), many
    return _Found(*_joined(found)), many


def _joined(found: Sequence[_Found]) -> Sequence[Array]:
    return [np.concatenate(columns) for columns in zip(*found, strict=True)]


def _best(found: Sequence[_Found], most: int) -> _Found:
    """Return the candidates of the highest scores, in their order."""
    columns = _joined(found)
    order = np.sort(np.argsort(-columns[4], kind="stable")[:most])
    return _Found(*(column[order] for column in columns))


def _explained(span: Span, row: int, at: int, window: Window, scores: Scores, tagged: bool) -> Span:
    """The span with its runner-up labels."""
    if tagged:
        words = _sigmoid(scores["logits"][row, span.start : span.end])
        by_label = np.minimum(words[:, :, 2].min(axis=0), np.minimum(words[0, :, 0], words[-1, :, 1]))
    else:
        by_label = _sigmoid(scores["logits"][row, span.start, at])
    ranked = np.argsort(-by_label[: len(window.prompts)], kind="stable").tolist()
    runners_up = [label for label in ranked if label != span.label][:OTHERS]
    return span._replace(runners_up=tuple((label, float(by_label[label])) for label in runners_up))
