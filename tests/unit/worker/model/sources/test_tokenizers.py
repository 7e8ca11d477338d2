"""Patterns and replacements of published tokenizers pass; those that run away on a text do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model.sources.tokenizers import MAX_GROWTH, Replacement, max_growth, runaway_reason

PUBLISHED = [
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
    " {2,}",
    r"[^(\s|[.,!?…])]+",
]  # fmt: skip
RUNAWAY = [
    "(a+)+$",
    "(a|a)+$",
    "(?:aa|a)*b",
    "(a{1,}){2,}",
    "((a)+)",
    "(x){50,200}",
    r"(a\))+",
    "a*a*a*a*b",
    "x" * 5_000,
]


@pytest.mark.parametrize("expression", PUBLISHED)
def test_published_patterns_pass(expression: str) -> None:
    """GPT-2's, Llama 3's, o200k's, DeepSeek's, T5's and BLOOM's."""
    assert runaway_reason(expression) == ""


@pytest.mark.parametrize("expression", RUNAWAY)
def test_patterns_that_take_exponential_time_do_not(expression: str) -> None:
    """A repeated group, or a chain of repetitions."""
    assert runaway_reason(expression)


@given(st.text(alphabet="ab()[]{}\\*+?|^,0123456789", max_size=40))
def test_any_text_for_a_pattern_is_judged(expression: str) -> None:
    """Even where it is no pattern at all."""
    assert isinstance(runaway_reason(expression), str)


def test_replacements_multiply_only_what_they_touch() -> None:
    """A table of letters, as cased models have one, does not grow a text; a chain that feeds itself does."""
    table = [Replacement(f"^{letter.lower()}", frozenset(letter), 2) for letter in "ABCDEFGHIJ"]
    assert max_growth(table) == 2
    assert max_growth([Replacement("aa", frozenset("a"), 2)] * 30) > MAX_GROWTH
    assert max_growth([]) == 1
