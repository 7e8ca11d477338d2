"""Turns values into a row of CSV that a spreadsheet shows and does not run, and that is one row for every reader.

Imports the standard library alone: the gateway and the command write the same cells by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""What a spreadsheet takes for a formula's beginning, in ASCII and full width, and what it skips before it."""
_QUOTED = re.compile('["\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]')
"""A quote, and every character at which some reader ends a line."""
BOM = "\ufeff".encode()
"""Before the first row: without it Excel reads UTF-8 as the system's old code page."""


def guard_cell(text: str) -> str:
    """Return the text with `'` before it where a spreadsheet would run it as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def write_row(cells: Iterable[object], delimiter: str = ",", *, safe: bool = True) -> str:
    """Return one row as RFC 4180 has it, its end included; None is an empty cell.

    Args:
        cells: texts and numbers; numbers stay as they are.
        delimiter: what stands between cells.
        safe: guard texts that a spreadsheet would run.
    """
    return delimiter.join(_written(cell, delimiter, safe) for cell in cells) + "\r\n"


def _written(cell: object, delimiter: str, safe: bool) -> str:
    if not isinstance(cell, str):
        return "" if cell is None else str(cell)
    text = guard_cell(cell) if safe else cell
    if delimiter in text or _QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text
