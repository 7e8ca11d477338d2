"""How a model sees text: its splitter's words and its tokenizer's pieces, from many threads at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from tokenizers import Tokenizer as BackendTokenizer

from worker.protocols import Encoded, ModelSpec, Words
from worker.text import splitters

WORDS_KEPT = 16_384
"""Words whose pieces are kept, those used last: five of six in mixed English texts, for some 4 MB."""
LONGEST_CALL = 4096
"""Characters of a word in one call of the tokenizer, which nothing can interrupt."""
LONGEST_KEPT = 32
"""Characters of a word that is kept; what is longer comes once."""


class FastTokenizer:
    """`worker.protocols.Tokenizer` on a fast tokenizer.

    Args:
        spec: the model's limits.
        pieces: a tokenizer that neither cuts nor pads, as JSON.
        word: a regular expression for words, without groups; empty: the splitter says what they are.
        splitter: its name.

    Raises:
        ModelError: the splitter cannot be had here.
    """

    def __init__(self, spec: ModelSpec, pieces: str, word: str, splitter: str) -> None:
        self._spec = spec
        # One for all threads: encoding changes nothing in it, and one a thread took 7 MB each with gleaner-small.
        # What does change it, truncation and padding, fails while another thread encodes.
        self._backend = BackendTokenizer.from_str(pieces)
        # A word has the same pieces in any company, and finding them takes a tokenizer 10 µs and more.
        self._kept = lru_cache(WORDS_KEPT)(self._pieces)
        self._split = splitters.make(splitter, word)
        added = self._backend.get_added_tokens_decoder().values()
        self.reserved = tuple(sorted({token.content for token in added if token.content.strip()}))

    @property
    def spec(self) -> ModelSpec:
        """The model's limits."""
        return self._spec

    def split(self, text: str) -> Words:
        """The words that the model's splitter sees."""
        return self._split(text)

    def encode(self, words: Sequence[str]) -> Encoded:
        """The words' pieces, special tokens aside."""
        pieces = [self._kept(word) if len(word) <= LONGEST_KEPT else self._pieces(word) for word in words]
        return Encoded([*chain.from_iterable(pieces)], [*map(len, pieces)])

    def _pieces(self, word: str) -> tuple[int, ...]:
        """Return a word's pieces; of one that no row has room for, its beginning's."""
        pieces: list[int] = []
        for at in range(0, len(word), LONGEST_CALL):
            part = word[at : at + LONGEST_CALL]
            pieces += self._backend.encode((part,), is_pretokenized=True, add_special_tokens=False).ids
            if len(pieces) > self._spec.max_row_tokens:
                break
        return tuple(pieces)
