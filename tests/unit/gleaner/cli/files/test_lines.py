"""Lines with their numbers, and lines that are read again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.cli.files import lines
from gleaner.cli.files.lines import Lines, TextLine, read_lines
from gleaner.cli.files.rows import Fault, InputError


def make_lines(text: str) -> Lines:
    """Return the lines of a text."""
    stream = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline="")
    return Lines(stream, "a.txt")


@given(st.text(st.sampled_from("ab\n\r\u2028"), max_size=30))
def test_lines_are_the_text_and_none_is_empty(text: str) -> None:
    """Nothing is lost, whatever the line ends; a separator of Unicode ends no line."""
    read = list(make_lines(text))
    assert "".join(read) == text
    assert all(read)


@given(st.text(st.sampled_from("ab\n\r"), max_size=30), st.data())
def test_lines_that_are_returned_are_read_again(text: str, data: st.DataObject) -> None:
    """With the same numbers, however many are returned."""
    expected = list(make_lines(text))
    reader = make_lines(text)
    for line in reader:
        assert line == expected[reader.number - 1]
        if len(reader.record) > 1 and data.draw(st.booleans()):
            count = data.draw(st.integers(0, len(reader.record)))
            reader.unread_lines(count)
            reader.begin_record()
            if count:
                assert reader.read_line() == expected[reader.number - 1]
    assert reader.number == len(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\rb\nc", ["a\r", "b\n", "c"]), ("a\nb\rc\n", ["a\n", "b\rc\n"]), ("a\r\nb\r\n", ["a\r\n", "b\r\n"])],
)
def test_lines_end_like_the_first(text: str, expected: list[str]) -> None:
    """A carriage return in a file of line feeds is text."""
    assert list(make_lines(text)) == expected


def test_a_record_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the line where it begins."""
    monkeypatch.setattr(lines, "RECORD_CHARACTERS", 10)
    reader = make_lines("12345\n" * 3)
    reader.begin_record()
    reader.read_line()
    with pytest.raises(InputError, match=r"a.txt, line 1: the record is longer"):
        reader.read_line()


def test_blank_lines_count_and_undecodable_ones_are_faults(tmp_path: Path) -> None:
    """Reading goes on after them."""
    (tmp_path / "a").write_bytes(b"one\n\n \t\nZo\xeb\nlast")
    first, fault, last = read_lines(tmp_path / "a", None, "a")
    assert first == TextLine("one\n", 1, "a, line 1")
    assert isinstance(fault, Fault)
    assert str(fault).startswith("a, line 4: not UTF-8 (byte 0xeb)")
    assert last == TextLine("last", 5, "a, line 5")
