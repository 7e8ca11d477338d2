"""Splits and encodes a text as the model does, and divides a long one into ranges of words. Pure."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, chain, compress, islice, pairwise
from typing import Any
from unicodedata import normalize

from worker.protocols import Encoded, ModelSpec, Tokenizer, Words
from worker.text.bounds import Budget
from worker.text.combining_marks import Split, has_marks
from worker.text.sentences import find_sentence_starts

MIN_OVERLAP_WORDS = 48
LONG_SENTENCE_WORDS = 48
PART_WORDS = 32
"""A sentence of more than `LONG_SENTENCE_WORDS` may be text without full stops; it is also read in half-overlapping
parts of `PART_WORDS`."""
MAX_DENSITY = 6
"""Tokens per word above which a range is not running text but, for example, an encoded attachment."""
ENCODE_BATCH_WORDS = 4096
"""Words that are passed to the tokenizer in one call, which cannot be interrupted."""
MAX_COMPOSED_CHARACTERS = 64
"""Length of a word up to which its marks are composed with its letters."""


class WindowKind(StrEnum):
    """The reason why a range of words is a window."""

    LARGE = "large"
    SENTENCE = "sentence"
    PART = "part"


WordRange = tuple[int, int, WindowKind]
"""First word, index after the last word, and why they are read."""


def make_pattern_splitter(word: str) -> Split:
    """Return a splitter by a regular expression for words, without groups."""
    return make_gap_splitter(re.compile(f"({word})").split)


def make_gap_splitter(cut: Callable[[str], list[Any]]) -> Split:
    """Return a splitter by a function that cuts a text into a gap, a word, a gap, ..., a gap."""

    def split_text(text: str) -> Words:
        parts = cut(text)  # without a match object for each word
        offsets = array("i", accumulate(map(len, parts)))
        return Words(parts[1::2], offsets[:-1:2], offsets[1::2])

    return split_text


@dataclass(frozen=True, slots=True)
class Text:
    """A text in the model's words and tokens.

    Attributes:
        starts: offset at which each word begins.
        ends: offset at which each word ends.
        tokens_per_word: number of tokens of each word.
        token_offsets: number of tokens before each word, and of all words.
        token_ids: the tokens.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    words: Sequence[str]
    tokens_per_word: Sequence[int]
    token_offsets: Sequence[int]
    token_ids: Sequence[int]
    spec: ModelSpec

    @classmethod
    def encode(cls, text: str, tokenizer: Tokenizer, budget: Budget | None = None) -> Text:
        """Split and encode a text.

        A word without a token (for example, a variation selector) is left out: the model would not see it, and
        gliner, which numbers the words that it sees, would shift every entity after it.
        """
        budget = budget or Budget()
        split = tokenizer.split(text)
        budget.check()
        words = [*map(_compose_marks, split.words)] if has_marks(text) else split.words
        ids, counts = _encode_words(words, tokenizer, budget)
        if any(counts) and not all(counts):
            words, starts, ends = split
            split = Words(
                [*compress(words, counts)],
                array("i", compress(starts, counts)),
                array("i", compress(ends, counts)),
            )
            counts = [*filter(None, counts)]
        offsets = array("i", accumulate(counts, initial=0))
        return cls(text, split.starts, split.ends, split.words, counts, offsets, ids, tokenizer.spec)

    def count_tokens(self, first: int, last: int) -> int:
        """Return the tokens of a range of words."""
        return self.token_offsets[last] - self.token_offsets[first]

    def fits_row(self, first: int, last: int, free_tokens: int) -> bool:
        """Return whether a range of words fits one row with `free_tokens` left for text."""
        return last - first <= self.spec.max_words and self.count_tokens(first, last) <= free_tokens

    def find_reach(self, first: int, last: int, free_tokens: int) -> int:
        """Return the furthest end, up to `last`, of a window that starts at `first`."""
        by_tokens = bisect_right(self.token_offsets, self.token_offsets[first] + free_tokens, lo=first) - 1
        return min(last, first + self.spec.max_words, by_tokens)

    def list_ranges(
        self, free_tokens: int, sentence_pass: bool, max_ranges: int, budget: Budget
    ) -> list[WordRange] | None:
        """Return the ranges of all windows of a long text, or None if there are more than `max_ranges`."""
        starts = find_sentence_starts(self.text, self.starts, self.ends, budget)
        ranges: dict[tuple[int, int], WindowKind] = {}
        for window in self._cut_large(free_tokens, starts, budget):
            ranges[window] = WindowKind.LARGE
            if len(ranges) > max_ranges:
                return None
        for first, last in pairwise(chain(starts, (len(self.words),))) if sentence_pass else ():
            kind = WindowKind.SENTENCE if last - first <= LONG_SENTENCE_WORDS else WindowKind.PART
            for part in budget.iterate(_split_sentence(first, last)):
                if self.fits_row(*part, free_tokens) and not self._is_large(*part, free_tokens):
                    ranges.setdefault(part, kind)
            if len(ranges) > max_ranges:
                return None
        return [(first, last, kind) for (first, last), kind in ranges.items()]

    def _is_large(self, first: int, last: int, free_tokens: int) -> bool:
        """Return whether a sentence would be one more large window: base64 consists of almost nothing else."""
        tokens = self.count_tokens(first, last)
        return 2 * tokens > free_tokens and tokens > MAX_DENSITY * (last - first)

    def _cut_large(self, free_tokens: int, starts: Sequence[int], budget: Budget) -> Iterator[tuple[int, int]]:
        """Yield overlapping windows as large as possible; an oversized word is a window by itself."""
        begin = 0
        counts = budget.iterate(self.tokens_per_word)
        for oversized in (i for i, tokens in enumerate(counts) if tokens > free_tokens):
            yield from self._cut_overlapping(begin, oversized, free_tokens, starts)
            yield oversized, oversized + 1
            begin = oversized + 1
        yield from self._cut_overlapping(begin, len(self.words), free_tokens, starts)

    def _cut_overlapping(
        self, first: int, last: int, free_tokens: int, starts: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """Cut words `first` to `last` at sentence starts if one is in reach, otherwise between words."""
        while first < last:
            reach = self.find_reach(first, last, free_tokens)
            if reach == last:
                yield first, last
                return
            length = reach - first
            overlap = min(max(MIN_OVERLAP_WORDS, 4 * self.spec.max_width), length // 2)
            if self.count_tokens(first, reach) > MAX_DENSITY * length:  # each window is expensive, and says little
                overlap = min(overlap, max(self.spec.max_width, length // 4))
            end = _find_latest_start(starts, reach, first + max(1, overlap + length // 4))
            yield first, end
            first = max(first + 1, _find_latest_start(starts, end - overlap, first + length // 8))


def _compose_marks(word: str) -> str:
    """Return a word as vocabularies have it, é as one letter; composing long runs of marks takes quadratic time."""
    return word if word.isascii() or len(word) > MAX_COMPOSED_CHARACTERS else normalize("NFC", word)


def _encode_words(words: Sequence[str], tokenizer: Tokenizer, budget: Budget) -> Encoded:
    if len(words) <= ENCODE_BATCH_WORDS:
        return tokenizer.encode(words)
    remaining = iter(words)
    ids, counts = array("i"), list[int]()
    while part := [*islice(remaining, ENCODE_BATCH_WORDS)]:
        encoded = tokenizer.encode(part)
        ids.extend(encoded.ids)
        counts += encoded.counts
        budget.check()
    return Encoded(ids, counts)


def _split_sentence(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield a sentence and, if it is suspiciously long, overlapping parts of it."""
    yield first, last
    if last - first > LONG_SENTENCE_WORDS:
        for start in range(first, last - PART_WORDS // 2, PART_WORDS // 2):
            yield start, min(last, start + PART_WORDS)


def _find_latest_start(starts: Sequence[int], at_most: int, at_least: int) -> int:
    """Return the latest sentence start in a range, or the end of the range if there is none."""
    i = bisect_right(starts, at_most) - 1
    return starts[i] if i >= 0 and starts[i] >= at_least else at_most
