"""Split a text that is too large for one document between paragraphs; offsets continue from part to part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from gleaner.cli.files.rows import OffsetUnit, Row

PART_BYTES: Final = 1_000_000
"""A gateway accepts 1 MiB in one document by default."""
_END: Final = r"(?:\r\n|\r(?!\n)|\n)"
_CUTS: Final = tuple(map(re.compile, (rf"{_END}[ \t]*{_END}", _END, r"[.!?。！？]\s", r"\s")))  # noqa: RUF001
"""Ends at which a text may be cut, best first: paragraphs, lines, sentences, words."""


def split_row(row: Row, unit: OffsetUnit) -> Iterator[Row]:
    """Yield the row, or its parts with their base offsets; together the parts are the text.

    Args:
        row: a document; its parts get the ids `ID#1`, `ID#2` and so on.
        unit: unit of the offsets.
    """
    if len(row.text) <= PART_BYTES // 4 or _measure_text(row.text, "byte") <= PART_BYTES:
        yield row
        return
    at, base, number = 0, row.base, 0
    while at < len(row.text):
        end = _find_cut(row.text, at)
        part, number = row.text[at:end], number + 1
        where = f"{row.where}, part {number}"
        marked = row.marked and number == 1
        yield replace(row, id=f"{row.id}#{number}", text=part, base=base, where=where, marked=marked)
        at, base = end, base + _measure_text(part, unit)


def _find_cut(text: str, start: int) -> int:
    """Return the end of the part that starts at `start`."""
    window = text[start : start + PART_BYTES]
    if not window.isascii():
        window = window.encode(errors="surrogatepass")[:PART_BYTES].decode(errors="ignore")
    if start + len(window) >= len(text):
        return len(text)
    for cut in _CUTS:
        ends = [match.end() for match in cut.finditer(window, len(window) // 2)]
        if ends and ends[-1] < len(window):  # an end at the window's edge may continue behind it, as \r\n
            return start + ends[-1]
    return start + len(window)


def _measure_text(text: str, unit: OffsetUnit) -> int:
    if unit == "codepoint" or text.isascii():
        return len(text)
    if unit == "byte":
        return len(text.encode(errors="surrogatepass"))
    return len(text) + sum(letter > "\uffff" for letter in text)
