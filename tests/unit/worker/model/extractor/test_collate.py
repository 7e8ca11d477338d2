"""Rows of an extractor: the places of words and markers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.worker.model.extractor.windows import make_window
from worker.model.extractor.collate import Group, RowTokens, collate_windows
from worker.protocols import ClassPrompt

ROWS = RowTokens(pad_id=0, full_stop=(99,), longest=64)
TONE = ClassPrompt("tone", ("good", "bad", "none"), (None, None, None), False)


def test_words_and_markers_have_their_places() -> None:
    """`( [P] entities ( [E] a [E] b ) ) [SEP] ( [P] r ( [R] head [R] tail ) ) [SEP] ...` and then the words."""
    batch = collate_windows([make_window("Ada went", 2, 1, (TONE,)), make_window("Bob.", 0, 0, (TONE,))], ROWS)
    assert batch.groups == (Group(0, None, 1, 0, 2), Group(0, 0, 12, 2, 2))
    assert batch.arrays["markers"].tolist() == [[4, 6, 15, 17], [0] * 4]
    assert batch.arrays["marker_counts"].tolist() == [4, 0]
    assert batch.arrays["classes"].tolist() == [[26, 28, 30], [4, 6, 8]]
    assert batch.arrays["words"].tolist() == [[35, 36, 37], [13, 0, 0]]
    assert batch.arrays["word_counts"].tolist() == [3, 1]
    assert batch.arrays["input_ids"].shape == (2, 40)
    assert batch.arrays["attention_mask"].sum(axis=1).tolist() == [38, 14]
    assert batch.arrays["input_ids"][0, 37] == 99


@pytest.mark.parametrize(("text", "words"), [("Is it", 3), ("It is.", 2), ("Is it !", 3), ("who ?", 2)])
def test_a_text_ends_with_a_full_stop(text: str, words: int) -> None:
    """Unless it has an end."""
    assert collate_windows([make_window(text)], ROWS).arrays["word_counts"].tolist() == [words]


def test_a_row_is_no_longer_than_the_model_reads() -> None:
    """A word of too many tokens is cut; the full stop stays."""
    window = make_window("word", 1)
    long = replace(window, token_ids=range(1, 110), tokens_per_word=(*window.tokens_per_word[:-1], 100))
    batch = collate_windows([long], ROWS)
    assert batch.arrays["input_ids"].shape == (1, 64)
    assert batch.arrays["input_ids"][0, 63] == 99
    assert batch.arrays["words"].tolist() == [[9, 63]]


def test_wrong_counts_are_refused() -> None:
    """Scores of other words would be read."""
    window = make_window("Ada went")
    with pytest.raises(RuntimeError, match="tokens"):
        collate_windows([replace(window, token_ids=[1])], ROWS)
    with pytest.raises(RuntimeError, match="schemas"):
        collate_windows([replace(window, prompts=("a",))], ROWS)
