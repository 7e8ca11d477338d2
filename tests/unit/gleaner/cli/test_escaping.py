"""Text of others on a terminal and in JSON lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.cli.escaping import dump_json, escape_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("a\u202eb", "a\\u202eb"),
        ("a\ud800b", "a\\ud800b"),
        ("Zoë 😀", "Zoë 😀"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    """No text moves the cursor, colours the terminal or reverses a line."""
    assert escape_text(text) == shown


def test_some_characters_may_be_kept() -> None:
    """A message of several lines keeps its line breaks."""
    assert escape_text("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@given(st.text(st.characters(codec=None)))
def test_json_is_one_line_and_means_the_same(text: str) -> None:
    """Whatever a text contains, its JSON has one line for every reader, and parses to the text."""
    line = dump_json({"text": text})

    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"text": text}
