"""Scores of a forward pass -> the spans of each window. Pure: numpy in, spans out, whatever runtime ran the model.

The candidates are those of gliner's own decoders, found with a few array operations for the whole micro-batch: a
label's threshold, and that a row did not ask for it (threshold infinity), are one comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.contract import Span, Window
from worker.spans import keep

Array = NDArray[Any]
Scores = Mapping[str, Array]
"""A model's outputs by gliner's names: `logits`; of some models `span_logits` with `span_idx` and `span_mask`."""

OTHERS = 3
"""Runner-up labels of an explained span."""


class _Found(NamedTuple):
    """Candidates, one each: row, first word, word after the last, label, score, and where `others` looks it up."""

    rows: Array
    starts: Array
    ends: Array
    labels: Array
    scores: Array
    at: Array


def decode(windows: Sequence[Window], scores: Scores, tagged: bool) -> list[list[Span]]:
    """The spans of each window, by start.

    Args:
        windows: the rows of the forward pass.
        scores: what the model returned.
        tagged: `logits` are of (row, word, label, start | end | inside); else of (row, first word, width, label).
    """
    found = _candidates(windows, scores, tagged)
    bounds = np.searchsorted(found.rows, np.arange(len(windows) + 1)).tolist()
    columns = [column.tolist() for column in (found.starts, found.ends, found.labels, found.scores)]
    spans = []
    for row, window in enumerate(windows):
        first, last = bounds[row], bounds[row + 1]
        ranked = [Span(*values) for values in zip(*(c[first:last] for c in columns), strict=True)]
        kept = keep(ranked, window.flat, window.multi_label) if ranked else ranked
        if window.explain and kept:
            at = {span[:3]: place for span, place in zip(ranked, found.at[first:last].tolist(), strict=True)}
            kept = [_explained(span, row, at[span[:3]], window, scores, tagged) for span in kept]
        spans.append(kept)
    return spans


def candidates(windows: Sequence[Window], scores: Scores, tagged: bool) -> dict[tuple[int, ...], float]:
    """Score of each (row, first word, word after the last, label) above its threshold, overlapping or not."""
    found = _candidates(windows, scores, tagged)
    keys = zip(*(column.tolist() for column in (found.rows, found.starts, found.ends, found.labels)), strict=True)
    return dict(zip(keys, found.scores.tolist(), strict=True))


def _candidates(windows: Sequence[Window], scores: Scores, tagged: bool) -> _Found:
    """By row, the best first."""
    logits = scores.get("span_logits", scores["logits"])
    thresholds = _thresholds(windows, logits.shape[-2 if logits is scores["logits"] and tagged else -1])
    lengths = np.array([len(window.words) for window in windows])
    if "span_logits" in scores:
        found = _listed(scores, thresholds)
    elif tagged:
        found = _tagged(logits, thresholds, lengths)
    else:
        found = _dense(logits, thresholds, lengths)
    order = np.lexsort((-found.scores, found.rows))  # stable: equal scores stay in gliner's order
    return _Found(*(column[order] for column in found))


def _thresholds(windows: Sequence[Window], labels: int) -> Array:
    """Of each row and label slot, as 32-bit floats, which is how gliner compares."""
    thresholds = np.full((len(windows), labels), np.inf, np.float32)
    for row, window in enumerate(windows):
        thresholds[row, : len(window.thresholds)] = window.thresholds
    return thresholds


def _sigmoid(logits: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-logits.astype(np.float64))), np.float32)


def _above(logits: Array, thresholds: Array) -> tuple[Array, ...]:
    """Indexes of scores above their threshold, and those scores; only what may be above it goes through exp."""
    with np.errstate(divide="ignore"):
        least = np.log(thresholds) - np.log1p(-np.minimum(thresholds, 1.0))  # the threshold as a logit
    places = np.nonzero(logits > least - np.float32(1e-3))
    scores = _sigmoid(logits[places])
    sure = scores > np.broadcast_to(thresholds, logits.shape)[places]
    return (*(place[sure] for place in places), scores[sure])


def _dense(logits: Array, thresholds: Array, lengths: Array) -> _Found:
    rows, starts, widths, labels, scores = _above(logits, thresholds[:, None, None, :])
    ends = starts + widths + 1
    found = _Found(rows, starts, ends, labels, scores, widths)
    return _Found(*(column[ends <= lengths[rows]] for column in found))


def _listed(scores: Scores, thresholds: Array) -> _Found:
    rows, places, labels, found = _above(scores["span_logits"], thresholds[:, None, :])
    index = scores["span_idx"][rows, places]
    candidates = _Found(rows, index[:, 0], index[:, 1] + 1, labels, found, places)
    return _Found(*(column[scores["span_mask"][rows, places].astype(bool)] for column in candidates))


def _tagged(logits: Array, thresholds: Array, lengths: Array) -> _Found:
    """Spans from a start to an end with no word between that is not inside; the score is the least of them all."""
    found: list[_Found] = []
    scores = _sigmoid(logits)
    over = scores > thresholds[:, None, :, None]
    over[..., 2] = scores[..., 2] >= thresholds[:, None, :]  # as gliner has it
    over &= (np.arange(logits.shape[1]) < lengths[:, None])[:, :, None, None]
    for row, start, label in zip(*np.nonzero(over[..., 0] & over[..., 2]), strict=True):
        inside = over[row, start:, label, 2]
        reach = len(inside) if inside.all() else int(inside.argmin())
        ends = np.nonzero(over[row, start : start + reach, label, 1])[0]
        least = np.minimum.accumulate(scores[row, start : start + reach, label, 2])[ends]
        least = np.minimum(np.minimum(least, scores[row, start + ends, label, 1]), scores[row, start, label, 0])
        same = np.zeros_like(ends)
        found.append(_Found(same + row, same + start, start + ends + 1, same + label, least, same))
    if not found:
        none = np.zeros(0, np.int64)
        return _Found(none, none, none, none, none.astype(np.float32), none)
    return _Found(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _explained(span: Span, row: int, at: int, window: Window, scores: Scores, tagged: bool) -> Span:
    """The span with its runner-up labels."""
    if "span_logits" in scores:
        by_label = _sigmoid(scores["span_logits"][row, at])
    elif tagged:
        words = _sigmoid(scores["logits"][row, span.start : span.end])
        by_label = np.minimum(words[:, :, 2].min(axis=0), np.minimum(words[0, :, 0], words[-1, :, 1]))
    else:
        by_label = _sigmoid(scores["logits"][row, span.start, at])
    ranked = np.argsort(-by_label[: len(window.prompts)], kind="stable").tolist()
    others = [label for label in ranked if label != span.label][:OTHERS]
    return span._replace(others=tuple((label, float(by_label[label])) for label in others))
