"""The most tokens of a row."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker.model.row_limit import LONGEST, STEP, default_row_tokens, row_tokens

from jobs.schema import Document
from tests.support.engine import small_engine
from worker.batching.batcher import MicroBatcher
from worker.model.errors import ModelBrokenError
from worker.protocols import ShardRef, row_length
from worker.settings import WorkerSettings
from worker.text.windows import JobContext, cut_document

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
    tokens = default_row_tokens(words)
    assert tokens <= LONGEST
    assert tokens % STEP == 0
    assert tokens >= 2 * words or tokens == LONGEST


def test_a_row_without_room_is_refused() -> None:
    """A tokenizer that says 5 is a mistake in its configuration; the message names where to look."""
    with pytest.raises(ModelBrokenError, match="model_max_length"):
        row_tokens(384, 5, 512)


def test_a_setting_below_128_is_refused() -> None:
    """A typing error in the setting does not make a worker that refuses every text."""
    with pytest.raises(ValueError, match="at least 128"):
        WorkerSettings(max_row_tokens=64)
    assert WorkerSettings(max_row_tokens=128).max_row_tokens == 128


@pytest.mark.parametrize(("labels", "weight"), [(1, 1.0), (4, 1.0), (8, 2.0), (10, 2.5)])
def test_labels_of_a_token_model_count(labels: int, weight: float) -> None:
    """A row that asks for more labels than the warm-up measured takes more of a micro-batch's budget."""
    engine = small_engine(max_row_tokens=200)
    engine.spec = replace(engine.spec, labels_included=4)
    [window] = cut_document(
        Document(0, "0", "Anna met Bo."),
        JobContext(ShardRef("job", 0), {f"label {i}": None for i in range(labels)}),
        engine,
    ).windows

    assert window.weight == weight
    assert window.cost == row_length(ceil(window.row_tokens * weight))


def test_a_micro_batch_has_fewer_rows_of_many_labels() -> None:
    """The cost of a token model's scorer, words times labels, is within the budget."""
    engine = small_engine(max_words=20, max_row_tokens=200)
    engine.spec = replace(engine.spec, labels_included=2)
    texts = [f"Anna met Bo in place {i}." for i in range(8)]
    plans = [
        cut_document(
            Document(i, str(i), text),
            JobContext(ShardRef("job", 0), {f"label {n}": None for n in range(8)}),
            engine,
        )
        for i, text in enumerate(texts)
    ]
    windows = [window for plan in plans for window in plan.windows]
    budget = 2 * windows[0].cost
    batcher = MicroBatcher(engine, budget)
    future = batcher.submit("job", windows)
    with batcher:
        future.result(timeout=10)

    assert {len(rows) for rows in engine.forwards} == {2}
