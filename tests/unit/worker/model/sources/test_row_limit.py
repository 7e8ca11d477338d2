"""The number of tokens that a row may have."""

from __future__ import annotations

from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.model.errors import ModelBrokenError
from worker.model.sources.row_limit import LIMIT_STEP, MAX_ROW_TOKENS, MIN_ROW_TOKENS, count_positions, row_tokens

NO_LIMIT = 1e30


@pytest.mark.parametrize(
    ("words", "tokens"),
    [(48, 512), (256, 512), (257, 1024), (384, 1024), (512, 1024), (768, 1536), (1024, 2048), (2048, 4096)],
)
def test_a_model_without_a_limit_gets_one_by_its_words(words: int, tokens: int) -> None:
    """Twice as many tokens as words, rounded up to 512."""
    assert row_tokens(words, NO_LIMIT, float("inf")) == tokens


def test_the_lowest_limit_counts() -> None:
    """The operator's limit takes the place of the one by words, never of the tokenizer's or the positions'."""
    assert row_tokens(384, 512, float("inf")) == 512
    assert row_tokens(384, 8192, 8192) == 1024  # ModernBERT's tokenizer
    assert row_tokens(48, NO_LIMIT, 512) == 512
    assert row_tokens(384, NO_LIMIT, float("inf"), wanted=300) == 300
    assert row_tokens(384, NO_LIMIT, float("inf"), wanted=2000) == 2000
    assert row_tokens(384, 512, float("inf"), wanted=2000) == 512
    assert row_tokens(384, NO_LIMIT, 514, wanted=2000) == 514


@given(words=st.integers(1, 10**6))
def test_a_limit_by_words_is_bounded(words: int) -> None:
    """However many words a configuration claims, a row is no longer than a machine can run."""
    tokens = row_tokens(words, NO_LIMIT, inf)
    assert tokens <= MAX_ROW_TOKENS
    assert tokens % LIMIT_STEP == 0
    assert tokens >= 2 * words or tokens == MAX_ROW_TOKENS


@given(
    words=st.integers(1, 5000),
    stated=st.integers(0, 9000),
    positions=st.integers(0, 9000),
    wanted=st.integers(0, 9000),
)
def test_no_setting_raises_a_models_own_limit(words: int, stated: int, positions: int, wanted: int) -> None:
    """A row is never longer than tokenizer, positions and operator allow, nor too short for any text."""
    try:
        tokens = row_tokens(words, stated, positions, wanted)
    except ModelBrokenError:
        assert min(stated, positions, wanted or inf) < MIN_ROW_TOKENS
        return
    assert MIN_ROW_TOKENS <= tokens <= min(stated, positions, wanted or inf)


def test_a_row_without_room_is_refused() -> None:
    """A tokenizer that says 5 is a mistake in its configuration; the message names where to look."""
    with pytest.raises(ModelBrokenError, match="model_max_length"):
        row_tokens(384, 5, 512)


@pytest.mark.parametrize(
    ("tables", "config", "count"),
    [
        ({}, {}, inf),
        ({}, {"max_position_embeddings": 512}, 512),
        ({}, {"max_position_embeddings": 512, "position_embedding_type": "relative_key"}, inf),
        ({}, {"max_position_embeddings": 512, "relative_attention": True}, inf),
        ({"position_embeddings": torch.nn.Embedding(64, 2)}, {"max_position_embeddings": 512}, 64),
        ({"position_embeddings": torch.nn.Embedding(66, 2, padding_idx=1)}, {"relative_attention": True}, 64),
        ({"word_embeddings": torch.nn.Embedding(9, 2), "embed_positions": torch.nn.ReLU()}, {}, inf),
    ],
)
def test_positions_are_those_of_the_tables(
    tables: dict[str, torch.nn.Module], config: dict[str, Any], count: float
) -> None:
    """A table may be shorter than the configuration says; RoBERTa's begins after its padding token."""
    assert count_positions(SimpleNamespace(**config), torch.nn.ModuleDict(tables)) == count
