"""A text in words and tokens, and the ranges that it is read in."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine import SPEC, FakeEngine
from worker.text.bounds import Budget
from worker.text.words import Text, WindowKind

WORDS = st.lists(st.sampled_from(["Ada", "went", "home", ".", "x" * 60, "x" * 400, "\n\n", "é"]), max_size=120)


def encode(words: list[str]) -> Text:
    """Encode a text for a model with short rows."""
    return Text.encode(" ".join(words), FakeEngine(spec=replace(SPEC, max_words=24, max_width=4)))


@given(WORDS)
def test_words_and_tokens_are_those_of_the_text(words: list[str]) -> None:
    """Each word is the text between its offsets; offsets of tokens are sums of their counts."""
    text = encode(words)
    assert [text.text[a:b] for a, b in zip(text.starts, text.ends, strict=True)] == list(text.words)
    assert text.count_tokens(0, len(text.words)) == sum(text.tokens_per_word) == len(text.token_ids)


@given(WORDS, st.integers(4, 60), st.booleans())
def test_ranges_cover_every_word_and_fit_a_row(words: list[str], free_tokens: int, sentence_pass: bool) -> None:
    """But a word that no row can hold, which is a range by itself."""
    text = encode(words)
    ranges = text.list_ranges(free_tokens, sentence_pass, 10_000, Budget()) or []
    covered = {i for first, last, _ in ranges for i in range(first, last)}
    assert covered == set(range(len(text.words)))
    for first, last, _ in ranges:
        assert text.fits_row(first, last, free_tokens) or (
            last == first + 1 and text.tokens_per_word[first] > free_tokens
        )
    kinds = {kind for _, _, kind in ranges}
    assert sentence_pass or kinds <= {WindowKind.LARGE}


@given(WORDS, st.integers(4, 60))
def test_a_window_reaches_as_far_as_it_fits(words: list[str], free_tokens: int) -> None:
    """Another word would be too many words or tokens."""
    text = encode(words)
    for first in range(len(text.words)):
        reach = text.find_reach(first, len(text.words), free_tokens)
        assert reach == first or text.fits_row(first, reach, free_tokens)
        assert reach == len(text.words) or not text.fits_row(first, reach + 1, free_tokens)


def test_more_ranges_than_allowed_are_none() -> None:
    """Before they are listed."""
    text = encode(["word", "."] * 60)
    assert text.list_ranges(20, sentence_pass=True, max_ranges=5, budget=Budget()) is None
