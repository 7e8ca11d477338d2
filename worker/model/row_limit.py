"""A model's stated limits -> the number of tokens that a row may have. Pure.

The cost of attention grows with the square of a row. Tokenizers of DeBERTa-v3, mDeBERTa and mT5 state no limit,
those of ModernBERT one of 8,192: a word of 40 kB, or a hundred long labels, would be a row that no machine can run.
"""

from __future__ import annotations

from worker.model.errors import ModelBrokenError

WORD_TOKENS = 2
"""Tokens per word that a row may have. Running text takes 1.3 (English) to 1.8 (Finnish, Turkish); the rest is for
labels."""
STEP = 512
LONGEST = 4096
"""Most tokens of a row, however many words the model reads, if it states no lower limit."""
LEAST = 32
"""Fewest tokens with which a row has room for labels and text."""


def default_row_tokens(max_words: int) -> int:
    """Return the limit of a model that reads `max_words` words: twice as many tokens, rounded up to 512.

    512 for 256 words, 1,024 for 384 and 512, 1,536 for 768, 2,048 for 1,024.
    """
    return min(LONGEST, max(1, -(-WORD_TOKENS * max_words // STEP)) * STEP)


def row_tokens(max_words: int, stated: float, positions: float, wanted: int = 0) -> int:
    """Return the tokens that a row may have, prompt and special tokens included.

    Args:
        max_words: words that the model reads at once.
        stated: the tokenizer's limit; 10^30 where it has none.
        positions: positions that the encoder has embeddings for; infinite where it needs none.
        wanted: the operator's limit instead of `default_row_tokens`; 0: none. It cannot raise the tokenizer's or
            the encoder's limit.

    Raises:
        ModelBrokenError: rows would be too short for any text.
    """
    limit = min(stated, positions, wanted or default_row_tokens(max_words))
    if not limit >= LEAST:
        raise ModelBrokenError(
            f"the tokenizer's model_max_length or the encoder's positions allow {limit} tokens per row; labels and "
            f"text need at least {LEAST}. Correct the model's configuration."
        )
    return int(limit)
