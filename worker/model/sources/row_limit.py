"""The number of tokens that a row may have. Pure."""

from __future__ import annotations

from math import inf
from typing import Any

from worker.model.errors import ModelBrokenError

POSITION_TABLES = ("position_embeddings", "embed_positions")
TOKENS_PER_WORD = 2
"""Tokens per word that a row may have. Running text takes 1.3 (English) to 1.8 (Finnish, Turkish); the rest is for
labels."""
LIMIT_STEP = 512
MAX_ROW_TOKENS = 4096
"""Most tokens of a row, however many words the model reads, if it states no lower limit."""
MIN_ROW_TOKENS = 32
"""Fewest tokens with which a row has room for labels and text."""


def row_tokens(max_words: int, stated: float, positions: float, wanted: int = 0) -> int:
    """Return the tokens that a row may have, prompt and special tokens included.

    By default twice as many as words, rounded up to 512. The cost of attention grows with the square of a row, and
    tokenizers of DeBERTa-v3, mDeBERTa and mT5 state no limit, those of ModernBERT one of 8,192: a word of 40 kB, or
    a hundred long labels, would be a row that no machine can run.

    Args:
        max_words: words that the model reads at once.
        stated: the tokenizer's limit; 10^30 where it has none.
        positions: positions that the encoder has embeddings for; infinite where it needs none.
        wanted: the operator's limit instead of the default; 0: none. It cannot raise the tokenizer's or the
            encoder's limit.

    Raises:
        ModelBrokenError: rows would be too short for any text.
    """
    default = min(MAX_ROW_TOKENS, max(1, -(-TOKENS_PER_WORD * max_words // LIMIT_STEP)) * LIMIT_STEP)
    limit = min(stated, positions, wanted or default)
    if not limit >= MIN_ROW_TOKENS:
        raise ModelBrokenError(
            f"the tokenizer's model_max_length or the encoder's positions allow {limit} tokens per row; labels and "
            f"text need at least {MIN_ROW_TOKENS}. Correct the model's configuration."
        )
    return int(limit)


def count_positions(config: Any, encoder: Any) -> float:
    """Return the number of positions that the encoder has embeddings for; infinite where positions are relative."""
    numbered = getattr(config, "position_embedding_type", "absolute") == "absolute"
    relative = not numbered or getattr(config, "relative_attention", False)
    limits = [inf if relative else getattr(config, "max_position_embeddings", inf)]
    for name, table in encoder.named_modules():
        if name.rpartition(".")[2] in POSITION_TABLES and hasattr(table, "weight"):
            filler = getattr(table, "padding_idx", None)  # RoBERTa counts from the position after the padding's
            limits.append(table.weight.shape[0] - (0 if filler is None else filler + 1))
    return min(limits)
