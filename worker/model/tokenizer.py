"""A model's view of text: words from its splitter, tokens from its tokenizer. Safe to call from many threads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from tokenizers import Tokenizer as BackendTokenizer

from worker.model import splitters
from worker.protocols import Encoded, ModelSpec

CACHED_WORDS = 16_384
"""Most recently used words whose tokens are cached: five of six words in mixed English texts, in some 4 MB."""
MAX_CALL = 4096
"""Characters of a word per call of the tokenizer, which cannot be interrupted."""
MAX_CACHED_WORD = 32
"""Characters of a word that is cached; longer ones hardly ever repeat."""


class FastTokenizer:
    """`worker.protocols.Tokenizer` on a fast tokenizer.

    Args:
        spec: the model's limits.
        tokenizer_json: a tokenizer without truncation and padding, as JSON.
        word_pattern: a regular expression that matches a word, without groups; empty: `spec.splitter` cuts words.

    Attributes:
        split: returns the words of a text, as the model's splitter cuts them.

    Raises:
        ModelError: the splitter is not available.
    """

    def __init__(self, spec: ModelSpec, tokenizer_json: str, word_pattern: str) -> None:
        self.spec = spec
        # Shared by all threads: encoding does not change it, and a copy per thread took 7 MB each with
        # gleaner-small. Truncation and padding do change it, and fail while another thread encodes.
        self._backend = BackendTokenizer.from_str(tokenizer_json)
        # A word has the same tokens in any context, and finding them takes a tokenizer 10 µs and more.
        self._cached_encode = lru_cache(CACHED_WORDS)(self._encode_word)
        self.split = splitters.make_splitter(spec.splitter, word_pattern)
        added = self._backend.get_added_tokens_decoder().values()
        self.reserved = tuple(sorted({token.content for token in added if token.content.strip()}))

    def encode(self, words: Sequence[str]) -> Encoded:
        """Return the words' tokens, without special tokens."""
        tokens = [
            self._cached_encode(word) if len(word) <= MAX_CACHED_WORD else self._encode_word(word) for word in words
        ]
        return Encoded([*chain.from_iterable(tokens)], [*map(len, tokens)])

    def _encode_word(self, word: str) -> tuple[int, ...]:
        """Return a word's tokens; those beyond the longest row may be missing."""
        tokens: list[int] = []
        for at in range(0, len(word), MAX_CALL):
            part = word[at : at + MAX_CALL]
            tokens += self._backend.encode((part,), is_pretokenized=True, add_special_tokens=False).ids
            if len(tokens) > self.spec.max_row_tokens:
                break
        return tuple(tokens)
