"""A text as the model sees it, and the ranges of words in which a long one is read. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, compress

from worker.contract import ModelSpec, Tokenizer, Words
from worker.sentences import sentences

MIN_OVERLAP_WORDS = 48
LONG_SENTENCE_WORDS = 48
PART_WORDS = 32
"""What seems one sentence of more words than the first may be text without full stops; it is also read in
half-overlapping parts of the second."""


class Reading(StrEnum):
    """Why a window is read."""

    large = "large"
    sentence = "sentence"
    part = "part"


Split = Callable[[str], Words]


def by_pattern(word: str) -> Split:
    """Cuts a text into words by a regular expression, which has no groups."""
    cut = re.compile(f"({word})").split

    def split(text: str) -> Words:
        parts = cut(text)  # a gap, a word, a gap, ..., a gap: without a match object for each
        at = [*accumulate(map(len, parts))]
        return Words(parts[1::2], at[:-1:2], at[1::2])

    return split


@dataclass(frozen=True, slots=True)
class Text:
    """A text in the model's words and word pieces.

    Attributes:
        starts: where each word begins.
        ends: where each word ends.
        pieces: word pieces of each word.
        total: word pieces of all words before each word, and of all words.
        ids: the pieces.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    words: tuple[str, ...]
    pieces: tuple[int, ...]
    total: tuple[int, ...]
    ids: Sequence[int]
    spec: ModelSpec

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer) -> Text:
        """Split and encode.

        A word without a piece (a variation selector, say) is left out: the model would not see it, and gliner,
        which numbers the words that it sees, would shift every entity after it.
        """
        found = tokenizer.split(text)
        ids, counts = tokenizer.encode(found.words)
        if any(counts) and not all(counts):
            words, starts, ends = found
            found = Words([*compress(words, counts)], [*compress(starts, counts)], [*compress(ends, counts)])
            counts = [*filter(None, counts)]
        total = tuple(accumulate(counts, initial=0))
        return cls(text, found.starts, found.ends, tuple(found.words), tuple(counts), total, ids, tokenizer.spec)

    def cost(self, first: int, last: int) -> int:
        """Word pieces of a range of words."""
        return self.total[last] - self.total[first]

    def fits(self, first: int, last: int, room: int) -> bool:
        """Whether a range of words is one row, `room` word pieces being left for text."""
        return last - first <= self.spec.max_words and self.cost(first, last) <= room

    def reach(self, first: int, last: int, room: int) -> int:
        """The furthest end of a window that starts at `first`."""
        by_pieces = bisect_right(self.total, self.total[first] + room, lo=first) - 1
        return min(last, first + self.spec.max_words, by_pieces)

    def ranges(self, room: int, close_reading: bool) -> list[tuple[int, int, Reading]]:
        """All windows of a long text: (first word, one past the last, why)."""
        found = sentences(self.text, [*zip(self.starts, self.ends, strict=True)])
        starts = [first for first, _ in found]
        ranges: dict[tuple[int, int], Reading] = {}
        begin = 0
        for giant in (i for i, pieces in enumerate(self.pieces) if pieces > room):
            ranges |= dict.fromkeys(self._overlapping(begin, giant, room, starts), Reading.large)
            ranges[giant, giant + 1] = Reading.large
            begin = giant + 1
        ranges |= dict.fromkeys(self._overlapping(begin, len(self.words), room, starts), Reading.large)
        for first, last in found if close_reading else ():
            for part in _parts(first, last):
                if self.fits(*part, room):
                    short = last - first <= LONG_SENTENCE_WORDS
                    ranges.setdefault(part, Reading.sentence if short else Reading.part)
        return [(first, last, reading) for (first, last), reading in ranges.items()]

    def _overlapping(self, first: int, last: int, room: int, starts: list[int]) -> Iterator[tuple[int, int]]:
        """Cut words `first` to `last` at sentence starts where there is one in reach, else between words."""
        while first < last:
            reach = self.reach(first, last, room)
            if reach == last:
                yield first, last
                return
            length = reach - first
            overlap = min(max(MIN_OVERLAP_WORDS, 4 * self.spec.max_width), length // 2)
            end = _latest(starts, reach, first + max(1, overlap + length // 4))
            yield first, end
            first = max(first + 1, _latest(starts, end - overlap, first + length // 8))


def _parts(first: int, last: int) -> Iterator[tuple[int, int]]:
    """A sentence, and if it is suspiciously long, overlapping parts of it."""
    yield first, last
    if last - first > LONG_SENTENCE_WORDS:
        for start in range(first, last - PART_WORDS // 2, PART_WORDS // 2):
            yield start, min(last, start + PART_WORDS)


def _latest(starts: list[int], at_most: int, at_least: int) -> int:
    """The latest sentence start in a range, or the range's end if there is none."""
    i = bisect_right(starts, at_most) - 1
    return starts[i] if i >= 0 and starts[i] >= at_least else at_most
