"""Rows before they are submitted, and their faults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.cli.files.rows import (
    Fault,
    InputError,
    Reading,
    Row,
    encoding_fault,
    find_undecoded,
    make_row,
    require_column,
)

VALUES = (
    st.none() | st.text() | st.integers() | st.floats() | st.booleans() | st.lists(st.text(max_size=3), max_size=2)
)


@given(st.dictionaries(st.sampled_from(["text", "id", "labels", "options", "other"]), VALUES))
def test_any_fields_are_a_row_or_a_fault(values: dict[str, Any]) -> None:
    """No value stops the command; a row's text is a text, and its id one line."""
    item = make_row(values, Reading(), "a, line 1", 1)
    if isinstance(item, Row):
        assert isinstance(item.text, str)
        assert len(item.id.splitlines()) == 1
        assert item.fault is None or item.text == ""
    else:
        assert str(item).startswith("a, line 1: ")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"text": "x"}, Row("7", "x")),
        ({"text": "x", "id": 0}, Row("0", "x")),
        ({"text": "x", "id": float("nan")}, Row("7", "x")),
        ({"text": None, "id": ""}, Row("7", "")),
        ({"text": float("nan")}, Row("7", "")),
    ],
)
def test_a_row_without_an_id_is_numbered(values: dict[str, Any], expected: Row) -> None:
    """Zero is an id; nothing, an empty text and NaN are none."""
    assert make_row(values, Reading(), "a", 7) == expected


def test_columns_are_those_that_were_named() -> None:
    """The column `id` counts only if no other was named."""
    reading = Reading(text_column="body", id_column="key")
    assert make_row({"body": "x", "key": "k", "id": "i"}, reading, "a", 1) == Row("k", "x")
    fault = make_row({"body": "x", "id": "i"}, reading, "a", 1)
    assert isinstance(fault, Fault)
    assert "no field 'key'" in fault.why


def test_a_long_value_is_shortened_in_its_message() -> None:
    """A whole document must not be printed on a terminal."""
    fault = make_row({"text": "x", "labels": "y" * 500}, Reading(), "a", 1)
    assert isinstance(fault, Fault)
    assert len(fault.why) < 300


@pytest.mark.parametrize("text", ["", "Zoë", "\ud800", "😀"])
def test_decoded_text_has_no_undecoded_byte(text: str) -> None:
    """Only the surrogates that decoding leaves for bytes from 0x80 count."""
    assert find_undecoded(text) is None


@given(st.binary(min_size=1))
def test_an_undecoded_byte_is_named(content: bytes) -> None:
    """The first one, in the form that a hex editor shows."""
    text = content.decode(errors="surrogateescape")
    byte = find_undecoded(text)
    assert (byte is None) == (content.decode(errors="ignore") == text)
    if byte is not None:
        assert bytes.fromhex(byte[2:]) in content
        assert byte in encoding_fault(byte, None)
        assert "koi8-r" in encoding_fault(byte, "koi8-r")


@pytest.mark.parametrize(
    ("reading", "header", "message"),
    [
        (Reading(), [], r"no column 'text'; choose one with --text-column \(columns: none\)"),
        (
            Reading(id_column="key"),
            ["text", "id"],
            r"no column 'key'; choose one with --id-column \(columns: text, id\)",
        ),
        (Reading(), ["text", "id", "id"], "the header has 'id' 2 times"),
        (Reading(text_column="a"), ["a", "a"], "the header has 'a' 2 times"),
    ],
)
def test_a_header_that_lacks_a_column_is_refused(reading: Reading, header: list[str], message: str) -> None:
    """Or has it twice."""
    with pytest.raises(InputError, match=f"t: {message}"):
        require_column(reading, header, "t")


def test_other_columns_may_occur_twice() -> None:
    """Only those that are read must be clear; the id's may be missing."""
    require_column(Reading(), ["text", "x", "x"], "t")


def test_a_fault_stands_in_for_its_document() -> None:
    """It keeps its id and says why it failed."""
    row = Fault("a, line 3", "broken", "3").as_row()
    assert (row.id, row.text, row.fault) == ("3", "", "a, line 3: broken")


def test_ids_stay_here() -> None:
    """A submitted document has no id, so that equal ids in one file do no harm."""
    assert Row("same", "text", ["x"]).to_document() == {"text": "text", "labels": ["x"]}
    assert Row("same", "text", options={"flat": False}).to_document() == {
        "text": "text",
        "options": {"flat": False},
    }
    assert Row("same", "").to_document() == {"text": ""}
