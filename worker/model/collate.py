"""Windows -> padded arrays, as gliner's collator makes them, without its loop over every span. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.protocols import Window, row_length

WORD_STEP = 16
Arrays = Mapping[str, NDArray[Any]]
"""A model's inputs by gliner's names."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the model wants its rows.

    Attributes:
        before: special pieces at a row's beginning.
        after: ... and at its end.
        pad_id: the piece that fills a row up.
        pad_left: fill up on the left.
        longest: pieces that a row may have.
        pooling: which pieces stand for a word: its `first`, its `last`, or (`mean`, `max`) all.
        span_width: longest span in words, where the model wants spans listed; else 0.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    pad_id: int
    pad_left: bool
    longest: int
    pooling: str
    span_width: int


def collate(windows: Sequence[Window], layout: Layout, exact: bool = False) -> Arrays:
    """Return the model's inputs for a micro-batch.

    Args:
        windows: its rows.
        layout: how the model wants them.
        exact: pad to the longest row, as gliner does, not to a whole step.

    Raises:
        RuntimeError: a row has not the pieces it was counted to have.
    """
    longest = max(window.row_tokens for window in windows)
    shape = len(windows), longest if exact else min(row_length(longest), layout.longest)
    ids, mask, words = np.full(shape, layout.pad_id), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    special = len(layout.before) + len(layout.after)
    for row, window in enumerate(windows):
        # A word of more pieces than a row has ends where the row does, before the special pieces.
        real = window.token_ids[: window.row_tokens - special]
        if len(real) + special != window.row_tokens or sum(window.tokens_per_word) != len(window.token_ids):
            raise RuntimeError("a window's word pieces were counted wrong")
        first = shape[1] - window.row_tokens if layout.pad_left else 0
        ids[row, first : first + window.row_tokens] = [*layout.before, *real, *layout.after]
        mask[row, first : first + window.row_tokens] = 1
        begin = first + len(layout.before)
        words[row, begin : begin + len(real)] = _words(window, len(real), layout.pooling)
    lengths = np.array([[len(window.words)] for window in windows])
    arrays = {"input_ids": ids, "attention_mask": mask, "words_mask": words, "text_lengths": lengths}
    if not layout.span_width:
        return arrays
    slots = int(lengths.max()) if exact else int(word_slots(int(lengths.max())))
    return {**arrays, **_spans(lengths, slots, layout.span_width)}


def word_slots(words: Any) -> Any:
    """Words that a micro-batch has room for, where its longest text has so many; for the reason of `row_length`."""
    return (words + WORD_STEP - 1) // WORD_STEP * WORD_STEP


def _words(window: Window, pieces: int, pooling: str) -> NDArray[np.int64]:
    """The text's word, counted from 1, that each piece stands for; 0 for none.

    Words that the tokenizer makes nothing of, such as a variation selector alone, are not counted: gliner's way.
    """
    counts = np.array(window.tokens_per_word)
    numbers = np.cumsum(counts > 0) - (len(counts) - len(window.words))
    words: NDArray[np.int64] = np.repeat(np.maximum(numbers, 0), counts)[:pieces]
    if pooling not in ("first", "last"):
        return words
    ends = np.cumsum(counts)
    begins = ends - counts
    seen = (counts > 0) & (begins < pieces)
    chosen = begins[seen] if pooling == "first" else np.minimum(ends[seen], pieces) - 1
    alone = np.zeros_like(words)
    alone[chosen] = words[chosen]
    return alone


def _spans(lengths: NDArray[Any], slots: int, width: int) -> dict[str, NDArray[Any]]:
    """Return every start and width, and which of them end in the row."""
    starts = np.repeat(np.arange(slots), width)
    ends = starts + np.tile(np.arange(width), len(starts) // width)
    mask = ends[None] < lengths
    return {"span_idx": np.stack([starts, ends], axis=1)[None] * mask[..., None], "span_mask": mask}
