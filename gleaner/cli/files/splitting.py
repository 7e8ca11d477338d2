"""A text that is too large for one document -> several, cut between paragraphs; offsets go on from part to part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from gleaner.cli.files.rows import OffsetUnit, Row

PART_BYTES: Final = 1_000_000
"""A gateway takes 1 MiB in one document unless it is set otherwise."""
_END: Final = r"(?:\r\n|\r(?!\n)|\n)"
_CUTS: Final = tuple(map(re.compile, (rf"{_END}[ \t]*{_END}", _END, r"[.!?。！？]\s", r"\s")))  # noqa: RUF001
"""Where a text is cut, best first: paragraphs, lines, sentences, words."""


def split_row(row: Row, unit: OffsetUnit) -> Iterator[Row]:
    """Yield the row, or its parts, each with what is added to its offsets; together they are the text.

    Args:
        row: a document; its parts are called `ID#1`, `ID#2` and so on.
        unit: what offsets count.
    """
    if len(row.text) <= PART_BYTES // 4 or _size(row.text, "byte") <= PART_BYTES:
        yield row
        return
    at, base, number = 0, row.base, 0
    while at < len(row.text):
        end = _cut(row.text, at)
        part, number = row.text[at:end], number + 1
        where = f"{row.where}, part {number}"
        marked = row.marked and number == 1
        yield replace(row, id=f"{row.id}#{number}", text=part, base=base, where=where, marked=marked)
        at, base = end, base + _size(part, unit)


def _cut(text: str, start: int) -> int:
    """Return where the part ends that begins here."""
    window = text[start : start + PART_BYTES]
    if not window.isascii():
        window = window.encode(errors="surrogatepass")[:PART_BYTES].decode(errors="ignore")
    if start + len(window) >= len(text):
        return len(text)
    for cut in _CUTS:
        ends = [match.end() for match in cut.finditer(window, len(window) // 2)]
        if ends and ends[-1] < len(window):  # one at the window's end may go on behind it, as \r\n
            return start + ends[-1]
    return start + len(window)


def _size(text: str, unit: OffsetUnit) -> int:
    if unit == "codepoint" or text.isascii():
        return len(text)
    if unit == "byte":
        return len(text.encode(errors="surrogatepass"))
    return len(text) + sum(letter > "\uffff" for letter in text)
