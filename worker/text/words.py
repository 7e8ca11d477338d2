"""A text as the model sees it, and the ranges of words in which a long one is read. Pure."""

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
from worker.shards.bounds import Budget
from worker.text.sentences import sentence_starts
from worker.text.written import Split, has_marks

MIN_OVERLAP_WORDS = 48
LONG_SENTENCE_WORDS = 48
PART_WORDS = 32
"""What seems one sentence of more words than the first may be text without full stops; it is also read in
half-overlapping parts of the second."""
DENSE = 6
"""Word pieces for each word above which a range is no running text but an attachment, say."""
ENCODED_AT_ONCE = 4096
"""Words that go to the tokenizer in one call, which nothing can interrupt."""
LONGEST_COMPOSED = 64
"""Characters of a word whose marks are composed with its letters."""


class Reading(StrEnum):
    """Why a window is read."""

    large = "large"
    sentence = "sentence"
    part = "part"


def by_pattern(word: str) -> Split:
    """Return a splitter by a regular expression for words, which has no groups."""
    return by_gaps(re.compile(f"({word})").split)


def by_gaps(cut: Callable[[str], list[Any]]) -> Split:
    """Return a splitter by what cuts a text into a gap, a word, a gap, ..., a gap."""

    def split(text: str) -> Words:
        parts = cut(text)  # a gap, a word, a gap, ..., a gap: without a match object for each
        at = array("i", accumulate(map(len, parts)))
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
    words: Sequence[str]
    pieces: Sequence[int]
    total: Sequence[int]
    ids: Sequence[int]
    spec: ModelSpec

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer, budget: Budget | None = None) -> Text:
        """Split and encode.

        A word without a piece (a variation selector, say) is left out: the model would not see it, and gliner,
        which numbers the words that it sees, would shift every entity after it.

        Raises:
            TooCostlyError, Dropped: by the budget.
        """
        budget = budget or Budget()
        split = tokenizer.split(text)
        budget.check()
        words = [*map(_composed, split.words)] if has_marks(text) else split.words
        ids, counts = _encoded(words, tokenizer, budget)
        if any(counts) and not all(counts):
            words, starts, ends = split
            split = Words(
                [*compress(words, counts)],
                array("i", compress(starts, counts)),
                array("i", compress(ends, counts)),
            )
            counts = [*filter(None, counts)]
        total = array("i", accumulate(counts, initial=0))
        return cls(text, split.starts, split.ends, split.words, counts, total, ids, tokenizer.spec)

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

    def ranges(
        self, room: int, close_reading: bool, most: int, budget: Budget
    ) -> list[tuple[int, int, Reading]] | None:
        """Return all windows of a long text: (first word, one past the last, why); None where they are over `most`.

        Raises:
            TooCostlyError, Dropped: by the budget.
        """
        starts = sentence_starts(self.text, self.starts, self.ends, budget)
        ranges: dict[tuple[int, int], Reading] = {}
        for window in self._large(room, starts, budget):
            ranges[window] = Reading.large
            if len(ranges) > most:
                return None
        for first, last in pairwise(chain(starts, (len(self.words),))) if close_reading else ():
            why = Reading.sentence if last - first <= LONG_SENTENCE_WORDS else Reading.part
            for part in budget.over(_parts(first, last)):
                if self.fits(*part, room) and not self._is_large(*part, room):
                    ranges.setdefault(part, why)
            if len(ranges) > most:
                return None
        return [(first, last, reading) for (first, last), reading in ranges.items()]

    def _is_large(self, first: int, last: int, room: int) -> bool:
        """Return whether a range, read closely, would be one more large window: base64 is nearly all such."""
        cost = self.cost(first, last)
        return 2 * cost > room and cost > DENSE * (last - first)

    def _large(self, room: int, starts: Sequence[int], budget: Budget) -> Iterator[tuple[int, int]]:
        """Overlapping windows as large as they can be; a word that fits no window has one to itself."""
        begin = 0
        for giant in (i for i, pieces in enumerate(budget.over(self.pieces)) if pieces > room):
            yield from self._overlapping(begin, giant, room, starts)
            yield giant, giant + 1
            begin = giant + 1
        yield from self._overlapping(begin, len(self.words), room, starts)

    def _overlapping(self, first: int, last: int, room: int, starts: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Cut words `first` to `last` at sentence starts where there is one in reach, else between words."""
        while first < last:
            reach = self.reach(first, last, room)
            if reach == last:
                yield first, last
                return
            length = reach - first
            overlap = min(max(MIN_OVERLAP_WORDS, 4 * self.spec.max_width), length // 2)
            if self.cost(first, reach) > DENSE * length:  # each window is expensive, and says little
                overlap = min(overlap, max(self.spec.max_width, length // 4))
            end = _latest(starts, reach, first + max(1, overlap + length // 4))
            yield first, end
            first = max(first + 1, _latest(starts, end - overlap, first + length // 8))


def _composed(word: str) -> str:
    """Return a word as vocabularies know it, é as one letter; composing long runs of marks takes quadratic time."""
    return word if word.isascii() or len(word) > LONGEST_COMPOSED else normalize("NFC", word)


def _encoded(words: Sequence[str], tokenizer: Tokenizer, budget: Budget) -> Encoded:
    if len(words) <= ENCODED_AT_ONCE:
        return tokenizer.encode(words)
    remaining = iter(words)
    ids, counts = array("i"), list[int]()
    while part := [*islice(remaining, ENCODED_AT_ONCE)]:
        encoded = tokenizer.encode(part)
        ids.extend(encoded.ids)
        counts += encoded.counts
        budget.check()
    return Encoded(ids, counts)


def _parts(first: int, last: int) -> Iterator[tuple[int, int]]:
    """A sentence, and if it is suspiciously long, overlapping parts of it."""
    yield first, last
    if last - first > LONG_SENTENCE_WORDS:
        for start in range(first, last - PART_WORDS // 2, PART_WORDS // 2):
            yield start, min(last, start + PART_WORDS)


def _latest(starts: Sequence[int], at_most: int, at_least: int) -> int:
    """The latest sentence start in a range, or the range's end if there is none."""
    i = bisect_right(starts, at_most) - 1
    return starts[i] if i >= 0 and starts[i] >= at_least else at_most
