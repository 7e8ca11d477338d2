"""Values read from gliner's objects: special tokens, thresholds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from worker.model import gliner_loader


@pytest.mark.parametrize(
    ("value", "threshold"),
    [(None, None), (0.3, 0.3), (0, 0.0), (1, 1.0), (True, None), ("0.3", None), (1.5, None), (-0.1, None)],
)
def test_a_default_threshold_is_a_share(value: object, threshold: float | None) -> None:
    """Any other value of a configuration is ignored."""
    assert gliner_loader._default_threshold(SimpleNamespace(default_threshold=value)) == threshold
    assert gliner_loader._default_threshold(SimpleNamespace()) is None


class RowTokenizer:
    """A tokenizer that puts these tokens around a word of two."""

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        self.before, self.after = before, after

    def __call__(self, rows: list[list[str]], *, is_split_into_words: bool) -> Any:
        """Encode one row of one word."""
        assert is_split_into_words
        assert len(rows) == len(rows[0]) == 1
        words = [None] * len(self.before) + [0, 0] + [None] * len(self.after)

        class Encoding(dict[str, Any]):
            def word_ids(self, row: int) -> list[int | None]:
                return words

        return Encoding(input_ids=[[*self.before, 77, 78, *self.after]])


@pytest.mark.parametrize(("before", "after"), [((1,), (2,)), ((), ()), ((5, 6), (7,)), ((), (2,))])
def test_special_tokens_are_those_around_the_words(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """On either side, or none."""
    assert gliner_loader._special_tokens(RowTokenizer(before, after), "word") == (before, after)
