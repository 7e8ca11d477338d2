"""Writes CSV rows that no spreadsheet runs as formulas and that are one row for every reader.

The client has a copy in `gleaner.cli.files.writers`: it is installed without the service. A test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""Characters that begin a formula in a spreadsheet, in ASCII and full width, and those skipped before it."""
_QUOTED = re.compile('["\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]')
"""Characters that require quotes: a quote, and every character at which some reader ends a line."""
BOM = "\ufeff".encode()
"""Written before the first row: without it Excel reads UTF-8 as the system's legacy code page."""


def guard_cell(text: str) -> str:
    """Return the text, with `'` before it if a spreadsheet would run it as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def write_row(cells: Iterable[object], delimiter: str = ",", *, safe: bool = True) -> str:
    """Return a row in the form of RFC 4180, with its line end; None is an empty cell.

    Args:
        cells: texts and numbers; numbers are never guarded.
        delimiter: separator of cells.
        safe: guard texts that a spreadsheet would run.
    """
    return delimiter.join(_format_cell(cell, delimiter, safe) for cell in cells) + "\r\n"


def _format_cell(cell: object, delimiter: str, safe: bool) -> str:
    if not isinstance(cell, str):
        return "" if cell is None else str(cell)
    text = guard_cell(cell) if safe else cell
    if delimiter in text or _QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text
