"""Windows -> padded arrays, as gliner's collator makes them, without its loop over every span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.contract import ModelSpec, Window

Arrays = Mapping[str, NDArray[Any]]
"""A model's inputs by gliner's names."""


class Encoding(Protocol):
    """A row in word pieces."""

    @property
    def ids(self) -> list[int]:
        """The pieces."""
        ...

    @property
    def word_ids(self) -> list[int | None]:
        """The word of each piece; None of special ones."""
        ...


class BatchTokenizer(Protocol):
    """A fast tokenizer that neither cuts nor pads."""

    def encode_batch(self, rows: list[list[str]], *, is_pretokenized: bool) -> Sequence[Encoding]:
        """Rows of words, special pieces added."""
        ...


@dataclass(frozen=True, slots=True)
class Layout:
    """How the model wants its rows.

    Attributes:
        pad_id: the piece that fills a row up.
        pad_left: fill up on the left.
        pooling: which pieces stand for a word: its `first`, its `last`, or (`mean`, `max`) all.
        span_width: longest span in words, where the model wants spans listed; else 0.
    """

    pad_id: int
    pad_left: bool
    pooling: str
    span_width: int


def collate(windows: Sequence[Window], spec: ModelSpec, layout: Layout, tokenizer: BatchTokenizer) -> Arrays:
    """The model's inputs for a micro-batch.

    Raises:
        RuntimeError: a row has not the pieces it was counted to have.
    """
    prompts = [_prompt(window, spec) for window in windows]
    rows = [[*prompt, *window.words] for prompt, window in zip(prompts, windows, strict=True)]
    encodings = [_Row.of(row, spec) for row in tokenizer.encode_batch(rows, is_pretokenized=True)]
    pieces = [encoding.ids for encoding in encodings]
    if [len(ids) for ids in pieces] != [window.pieces for window in windows]:
        raise RuntimeError("a window's word pieces were counted wrong")
    shape = len(windows), max(map(len, pieces))
    ids, mask, words = np.full(shape, layout.pad_id), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, encoding in enumerate(encodings):
        size = len(pieces[row])
        place = slice(shape[1] - size, None) if layout.pad_left else slice(size)
        ids[row, place] = pieces[row]
        mask[row, place] = 1
        words[row, place] = _words(encoding, len(prompts[row]), layout.pooling)
    lengths = np.array([[len(window.words)] for window in windows])
    arrays = {"input_ids": ids, "attention_mask": mask, "words_mask": words, "text_lengths": lengths}
    return {**arrays, **_spans(lengths, layout.span_width)} if layout.span_width else arrays


class _Row(NamedTuple):
    ids: list[int]
    word_ids: list[int | None]

    @classmethod
    def of(cls, encoding: Encoding, spec: ModelSpec) -> _Row:
        """A word of more pieces than a row has ends where the row does, before the special pieces at the end."""
        ids, words = encoding.ids, encoding.word_ids
        over = len(ids) - spec.max_pieces
        if over > 0:
            last = next(i for i in reversed(range(len(words))) if words[i] is not None) + 1
            del ids[last - over : last], words[last - over : last]
        return cls(ids, words)


def _prompt(window: Window, spec: ModelSpec) -> list[str]:
    """`<<ENT>> label <<ENT>> label <<SEP>>`; an empty label has no word of its own."""
    marked = (word for prompt in window.prompts for word in (spec.label_marker, prompt) if word)
    return [*marked, spec.text_marker]


def _words(encoding: _Row, prompt_words: int, pooling: str) -> NDArray[np.int64]:
    """The text's word, counted from 1, that each piece stands for; 0 for none.

    Words that the tokenizer makes nothing of, such as a variation selector alone, are not counted: gliner's way.
    """
    ids = np.array([-1 if word is None else word for word in encoding.word_ids])
    first = (ids >= 0) & (ids != np.concatenate([[-1], ids[:-1]]))
    words = np.where(ids >= 0, np.cumsum(first) - prompt_words, 0)
    words[words < 0] = 0
    if pooling == "first":
        words[~first] = 0
    elif pooling == "last":
        words[ids == np.concatenate([ids[1:], [-1]])] = 0
    return words


def _spans(lengths: NDArray[Any], width: int) -> dict[str, NDArray[Any]]:
    """Every start and width, and which of them end in the row."""
    starts = np.repeat(np.arange(int(lengths.max())), width)
    ends = starts + np.tile(np.arange(width), len(starts) // width)
    mask = ends[None] < lengths
    return {"span_idx": np.stack([starts, ends], axis=1)[None] * mask[..., None], "span_mask": mask}
