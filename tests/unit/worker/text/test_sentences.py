from __future__ import annotations

from itertools import pairwise

import pytest

from tests.support.engine import FakeEngine
from worker.text.sentences import find_sentence_starts

ENGINE = FakeEngine()


def cut(text: str) -> list[str]:
    """Return the sentences as text."""
    _, starts, ends = ENGINE.split(text)
    firsts = [*find_sentence_starts(text, starts, ends), len(starts)]
    return [text[starts[first] : ends[last - 1]] for first, last in pairwise(firsts)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One here. Two there.", ["One here.", "Two there."]),
        ("Really?! Yes… Good.", ["Really?!", "Yes…", "Good."]),
        ('She said "no." Then left.', ['She said "no."', "Then left."]),
        ("lower case. goes on", ["lower case.", "goes on"]),
        ("Dr. Smith met J. Doe of the U.S. Army.", ["Dr. Smith met J. Doe of the U.S. Army."]),
        ("Pi is 3.14 at example.com today.", ["Pi is 3.14 at example.com today."]),
        ("A title\n\nA text\nover two lines", ["A title", "A text\nover two lines"]),
        ("他来了。她走了。", ["他来了。", "她走了。"]),
        ("Great 🎉. Next 🚀!", ["Great 🎉.", "Next 🚀!"]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_text_is_cut_where_sentences_end(text: str, expected: list[str]) -> None:
    """Full stops after initials, abbreviations and inside numbers end nothing; blank lines and wide stops do."""
    assert expected == cut(text)


def test_sentences_cover_every_word_once() -> None:
    """No word is lost or doubled between sentences."""
    text = "A b. C d? E\n\nF g h. i (j.) K."
    _, starts, ends = ENGINE.split(text)

    firsts = find_sentence_starts(text, starts, ends)

    assert firsts[0] == 0
    assert sorted(set(firsts)) == [*firsts]
    assert firsts[-1] < len(starts)
