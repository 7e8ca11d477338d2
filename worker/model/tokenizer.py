"""A model's view of text and labels: words from its splitter, tokens from its tokenizers.

Safe to call from many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as BackendTokenizer

from worker.model import splitters
from worker.protocols import Encoded, ModelSpec

CACHED_WORDS = 16_384
"""Most recently used words whose tokens are cached: five of six words in mixed English texts, in some 4 MB."""
MAX_CALL = 4096
"""Characters of a word per call of the tokenizer, which cannot be interrupted."""
MAX_CACHED_WORD = 32
"""Characters of a word that is cached; longer ones hardly ever repeat."""


@dataclass(frozen=True, slots=True)
class LabelLayout:
    """The rows that a label encoder expects, one label in each.

    Attributes:
        tokenizer_json: its tokenizer, without truncation and padding, as serialised by `tokenizers`.
        pad_id: id of its padding token.
        longest: tokens that a row may have, special ones included; gliner cuts labels there, too.
    """

    tokenizer_json: str
    pad_id: int
    longest: int


class LabelTokenizer:
    """Encodes labels as a label encoder reads them. Safe to call from many threads at once.

    Attributes:
        reserved: strings that the tokenizer reads as special tokens, not as text.
    """

    def __init__(self, layout: LabelLayout) -> None:
        self._backend = BackendTokenizer.from_str(layout.tokenizer_json)
        self._pad_id = layout.pad_id
        self._counting = BackendTokenizer.from_str(layout.tokenizer_json)
        self._backend.enable_truncation(layout.longest)
        self.reserved = _list_reserved(self._backend)

    def count_tokens(self, labels: Sequence[str]) -> list[int]:
        """Return the number of tokens of each label, special ones aside, however long it is."""
        encoded = self._counting.encode_batch_fast([*labels], add_special_tokens=False)
        return [len(encoding.ids) for encoding in encoded]

    def encode(self, labels: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each label, special ones included, as many as a row may have."""
        return [encoding.ids for encoding in self._backend.encode_batch_fast([*labels])]

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows as one array of ids, and a mask of those that are not padding."""
        lengths = np.array([len(row) for row in rows])
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        ids = np.full(mask.shape, self._pad_id, np.int64)
        ids[mask > 0] = np.concatenate([np.asarray(row, np.int64) for row in rows])
        return ids, mask


class FastTokenizer:
    """`worker.protocols.Tokenizer` on a fast tokenizer.

    Args:
        spec: the model's limits.
        tokenizer_json: a tokenizer without truncation and padding, as JSON.
        word_pattern: a regular expression that matches a word, without groups; empty: `spec.splitter` cuts words.
        labels: the rows of labels, if the model reads them without the text.

    Attributes:
        split: returns the words of a text, as the model's splitter cuts them.
        reserved: strings that the labels' tokenizer reads as special tokens, not as text.

    Raises:
        ModelError: the splitter is not available.
    """

    def __init__(
        self, spec: ModelSpec, tokenizer_json: str, word_pattern: str, labels: LabelLayout | None = None
    ) -> None:
        self.spec = spec
        self._labels = LabelTokenizer(labels) if labels else None
        # Shared by all threads: encoding does not change it, and a copy per thread took 7 MB each with
        # gleaner-small. Truncation and padding do change it, and fail while another thread encodes.
        self._backend = BackendTokenizer.from_str(tokenizer_json)
        # A word has the same tokens in any context, and finding them takes a tokenizer 10 µs and more.
        self._cached_encode = lru_cache(CACHED_WORDS)(self._encode_word)
        self.split = splitters.make_splitter(spec.splitter, word_pattern)
        self.reserved = self._labels.reserved if self._labels else _list_reserved(self._backend)

    def encode(self, words: Sequence[str]) -> Encoded:
        """Return the words' tokens, without special tokens."""
        tokens = [
            self._cached_encode(word) if len(word) <= MAX_CACHED_WORD else self._encode_word(word) for word in words
        ]
        return Encoded([*chain.from_iterable(tokens)], [*map(len, tokens)])

    def count_label_tokens(self, labels: Sequence[str]) -> Sequence[int]:
        """Return the number of tokens of each label, special ones aside, however many."""
        return self._labels.count_tokens(labels) if self._labels else self.encode(labels).counts

    def _encode_word(self, word: str) -> tuple[int, ...]:
        """Return a word's tokens; those beyond the longest row may be missing."""
        tokens: list[int] = []
        for at in range(0, len(word), MAX_CALL):
            part = word[at : at + MAX_CALL]
            tokens += self._backend.encode((part,), is_pretokenized=True, add_special_tokens=False).ids
            if len(tokens) > self.spec.max_row_tokens:
                break
        return tuple(tokens)


def _list_reserved(backend: BackendTokenizer) -> tuple[str, ...]:
    added = backend.get_added_tokens_decoder().values()
    return tuple(sorted({token.content for token in added if token.content.strip()}))
