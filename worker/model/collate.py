"""Windows -> padded arrays like those of gliner's collator, without its loop over every span. Pure."""

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
    """The rows that a model expects.

    Attributes:
        before: ids of the special tokens at a row's beginning.
        after: ids of those at its end.
        pad_id: id of the padding token.
        pad_left: pad on the left.
        longest: tokens that a row may have.
        pooling: the tokens that stand for a word: its `first`, its `last`, or (`mean`, `max`) all.
        span_width: longest span in words, where spans are an input of the model; else 0.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    pad_id: int
    pad_left: bool
    longest: int
    pooling: str
    span_width: int


def collate_windows(windows: Sequence[Window], layout: Layout, exact: bool = False) -> Arrays:
    """Return the model's inputs for a micro-batch, padded to a multiple of a step.

    With `exact` it is padded to the longest row, as gliner does.

    Raises:
        RuntimeError: a row's tokens differ from the number counted when its text was cut.
    """
    longest = max(window.row_tokens for window in windows)
    shape = len(windows), longest if exact else min(row_length(longest), layout.longest)
    ids, mask, words = np.full(shape, layout.pad_id), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    special = len(layout.before) + len(layout.after)
    for row, window in enumerate(windows):
        # A word of more tokens than a row may have ends where the row does, before the special tokens.
        real = window.token_ids[: window.row_tokens - special]
        if len(real) + special != window.row_tokens or sum(window.tokens_per_word) != len(window.token_ids):
            raise RuntimeError("a window's tokens were counted wrong")
        first = shape[1] - window.row_tokens if layout.pad_left else 0
        ids[row, first : first + window.row_tokens] = [*layout.before, *real, *layout.after]
        mask[row, first : first + window.row_tokens] = 1
        begin = first + len(layout.before)
        words[row, begin : begin + len(real)] = _word_indexes(window, len(real), layout.pooling)
    lengths = np.array([[len(window.words)] for window in windows])
    arrays = {"input_ids": ids, "attention_mask": mask, "words_mask": words, "text_lengths": lengths}
    if not layout.span_width:
        return arrays
    slots = int(lengths.max()) if exact else int(word_slots(int(lengths.max())))
    return {**arrays, **_list_spans(lengths, slots, layout.span_width)}


def word_slots(words: Any) -> Any:
    """Return the padded number of words if the longest text has `words`; see `row_length` for why."""
    return (words + WORD_STEP - 1) // WORD_STEP * WORD_STEP


def _word_indexes(window: Window, tokens: int, pooling: str) -> NDArray[np.int64]:
    """Return the word of the text, counted from 1, that each token stands for; 0 for none.

    Like in gliner, words without tokens, such as a variation selector alone, are not counted.
    """
    counts = np.array(window.tokens_per_word)
    numbers = np.cumsum(counts > 0) - (len(counts) - len(window.words))
    words: NDArray[np.int64] = np.repeat(np.maximum(numbers, 0), counts)[:tokens]
    if pooling not in ("first", "last"):
        return words
    ends = np.cumsum(counts)
    begins = ends - counts
    present = (counts > 0) & (begins < tokens)
    chosen = begins[present] if pooling == "first" else np.minimum(ends[present], tokens) - 1
    pooled = np.zeros_like(words)
    pooled[chosen] = words[chosen]
    return pooled


def _list_spans(lengths: NDArray[Any], slots: int, width: int) -> dict[str, NDArray[Any]]:
    """Return every start and width, and a mask of those that end in the row."""
    starts = np.repeat(np.arange(slots), width)
    ends = starts + np.tile(np.arange(width), len(starts) // width)
    mask = ends[None] < lengths
    return {"span_idx": np.stack([starts, ends], axis=1)[None] * mask[..., None], "span_mask": mask}
