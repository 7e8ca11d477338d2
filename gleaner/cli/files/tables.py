"""Read rows from CSV and TSV strictly: a cell is read exactly as written, or its row is a fault with file and line.

CSV is read by Python's `csv` in its strict mode, with additional checks of quotes; every row has as many cells as
the header. In TSV a quote is a literal character unless it encloses a whole cell, as spreadsheets write cells
with tabs, line breaks and quotes.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from gleaner.cli.files.decoding import open_text
from gleaner.cli.files.lines import Lines
from gleaner.cli.files.rows import (
    BOM,
    Fault,
    InputError,
    Quotes,
    Reading,
    Row,
    encoding_fault,
    find_undecoded,
    make_row,
    require_column,
)
from gleaner.client.calls import TASK_OPTIONS

Note = Callable[[str], None]

_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MOST_QUOTE_FAULTS: Final = 100
"""Each wrong quote causes the following lines to be read again, so a file full of them would take long."""
_MOST_QUOTED: Final = 16 * 1024 * 1024
"""Maximum number of characters of TSV to search for the quote that closes a cell."""
_ENDS: Final = "\r\n"


class _QuoteError(Exception):
    """A misplaced quote.

    Attributes:
        line: its line in the record, from 0.
    """

    def __init__(self, why: str, line: int) -> None:
        super().__init__(why)
        self.line = line


def read_csv(path: Path, reading: Reading, name: str, note: Note) -> Iterator[Row | Fault]:
    """Yield the rows of a table delimited by `reading.delimiter`, by default the delimiter of its header.

    Raises:
        InputError: the file or its header cannot be read.
        OSError: it cannot be opened.
    """
    csv.field_size_limit(sys.maxsize)  # a cell is a whole document; `Lines` bounds the record
    with open_text(path, reading.encoding) as opened:
        lines = Lines(opened.stream, name)
        delimiter = reading.delimiter or _read_declared_delimiter(lines)
        header = None
        if delimiter is None:
            delimiter, header = _detect_delimiter(lines, reading)
            if delimiter != ",":
                note(f"{name}: read as a table delimited by {_DELIMITERS[delimiter]}")
        next_record = _csv_records(lines, delimiter, reading.quotes)
        yield from _read_rows(lines, next_record, header, reading, name)


def read_tsv(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row | Fault]:
    """Yield the rows of a table delimited by `reading.delimiter`, by default by tabs.

    Raises:
        InputError: the file or its header cannot be read.
        OSError: it cannot be opened.
    """
    with open_text(path, reading.encoding) as opened:
        lines = Lines(opened.stream, name)
        split = _split_tsv if reading.quotes is Quotes.DOUBLED else _split_literally
        delimiter = reading.delimiter or "\t"
        header: list[str] | None = None

        def next_record() -> list[str] | None:
            nonlocal header
            cells = split(lines, delimiter, None if header is None else len(header))
            header = cells if header is None else header
            return cells

        yield from _read_rows(lines, next_record, None, reading, name)


def _drop_tasks(cells: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the cells of a row by column, without those whose columns are tasks in JSON lines."""
    return {column: cell for column, cell in cells if column not in TASK_OPTIONS}


def _read_rows(
    lines: Lines, next_record: Callable[[], list[str] | None], header: list[str] | None, reading: Reading, name: str
) -> Iterator[Row | Fault]:
    try:
        header = next_record() if header is None else header
    except _QuoteError as failure:
        raise InputError(f"{name}, line {lines.number}: {failure}, in the header") from None
    if byte := find_undecoded("".join(header or [])):
        raise InputError(f"{name}, line 1: {encoding_fault(byte, reading.encoding)}")
    header = header or []
    require_column(reading, header, name)
    number = quote_faults = 0
    while True:
        lines.begin_record()
        first = lines.number + 1
        try:
            cells = next_record()
        except _QuoteError as failure:
            number, quote_faults = number + 1, quote_faults + 1
            yield Fault(f"{name}, line {first + failure.line}", str(failure), str(number))
            if quote_faults == _MOST_QUOTE_FAULTS:
                yield Fault(
                    f"{name}, line {first + 1}",
                    "too many wrong quotes; the rest of the file is not read",
                    str(number),
                )
                return
            lines.unread_lines(len(lines.record) - 1)  # continue with the lines that an unclosed quote enclosed
            continue
        if cells is None:
            return
        if not cells:
            continue  # a blank line
        number += 1
        where = f"{name}, line {first}"
        why = _row_fault(cells, header, reading, lines.record)
        yield (
            Fault(where, why, str(number))
            if why
            else make_row(_drop_tasks(zip(header, cells, strict=True)), reading, where, number)
        )


def _row_fault(cells: Sequence[str], header: Sequence[str], reading: Reading, record: Sequence[str]) -> str | None:
    if any(byte := find_undecoded(line) for line in record):
        return encoding_fault(str(byte), reading.encoding)
    if len(cells) != len(header):
        has_more = len(cells) > len(header)
        remedy = "put cells that contain the delimiter in quotes" if has_more else "is the row truncated?"
        return f"{len(cells)} cells, but the header has {len(header)}; {remedy}"
    if len(cells) > 1 and [cells[0].removeprefix(BOM), *cells[1:]] == list(header):
        return "the header occurs again; remove it if files were joined"
    return None


def _csv_records(lines: Lines, delimiter: str, quotes: Quotes) -> Callable[[], list[str] | None]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes is Quotes.DOUBLED else csv.QUOTE_NONE
    scan = _cell_pattern(delimiter)

    def next_record() -> list[str] | None:
        reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting)
        try:
            cells = next(reader, None)
        except csv.Error as failure:
            raise _wrong_quote("".join(lines.record), delimiter, scan, str(failure)) from None
        if quotes is Quotes.DOUBLED and cells and any(cell.endswith('"') for cell in cells):
            _require_paired("".join(lines.record), delimiter, scan)
        return cells

    return next_record


def _cell_pattern(delimiter: str) -> re.Pattern[str]:
    """Return what matches a cell at its start: one in quotes, with what ends it, or one without."""
    end = re.escape(delimiter)
    return re.compile(rf'"(?:[^"]++|"")*+"(?={end}|[\r\n]|$)|(?!")[^{end}\r\n]*+')


def _wrong_quote(record: str, delimiter: str, scan: re.Pattern[str], failure: str) -> _QuoteError:
    at = 0
    while match := scan.match(record, at):
        at = match.end()
        if not record.startswith(delimiter, at):
            break
        at += len(delimiter)
    if match is not None:
        return _QuoteError("a carriage return in a cell without quotes" if "new-line" in failure else failure, 0)
    line = record.count("\n", 0, at) or record.count("\r", 0, at)
    closed = re.compile(r'"(?:[^"]++|"")*+"').match(record, at)
    if closed is None:
        return _QuoteError("a quote opens a cell here but is never closed; double the quotes inside a cell", line)
    if record[closed.end() - 2 : closed.end()] == '\\"':
        return _QuoteError(
            "the cell that begins here has an escaped quote \\\"; double it instead (Spark: escape='\"')", line
        )
    return _QuoteError(
        "text after the closing quote of the cell that begins here; double the quotes inside a cell, or read "
        "quotes as characters with --quotes literal",
        line,
    )


def _require_paired(record: str, delimiter: str, scan: re.Pattern[str]) -> None:
    """Raise if an unquoted cell ends with a single quote: the opening quote may be missing."""
    at = 0
    while match := scan.match(record, at):
        cell = match[0]
        if not cell.startswith('"') and cell.endswith('"') and cell.count('"') % 2:
            raise _QuoteError(
                "a quote ends a cell that has no opening quote; put the cell in quotes and double the quotes "
                "inside, or read quotes as characters with --quotes literal",
                record.count("\n", 0, at),
            )
        at = match.end()
        if not record.startswith(delimiter, at):
            return
        at += len(delimiter)


def _split_literally(lines: Lines, delimiter: str, _cells: int | None) -> list[str] | None:
    line = lines.read_line()
    if not line:
        return None
    text = line.rstrip(_ENDS)
    return text.split(delimiter) if text else []


def _split_tsv(lines: Lines, delimiter: str, cells: int | None) -> list[str] | None:
    """Return the next row's cells, read literally or with quotes, whichever matches the header.

    Raises:
        _QuoteError: both match, so it is ambiguous which is right.
    """
    literal = _split_literally(lines, delimiter, cells)
    if not literal or not any(cell.startswith('"') for cell in literal):
        return literal
    quoted = _split_quoted(lines, delimiter)
    taken = len(lines.record)
    if quoted is None or (cells is not None and len(quoted) != cells):
        lines.unread_lines(taken - 1)
        return _unquote_cells(literal)
    spread = taken > 1 and cells is not None and cells > 1
    if spread and all(len(line.rstrip(_ENDS).split(delimiter)) == cells for line in lines.record):
        raise _QuoteError(
            f"the quote that opens here may close {taken - 1} lines below, or be a character; add --quotes "
            "literal if it is a character, else save the table as CSV",
            0,
        )
    return quoted


def _unquote_cells(cells: list[str]) -> list[str]:
    whole = re.compile(r'"((?:[^"]++|"")*+)"')
    return [match[1].replace('""', '"') if (match := whole.fullmatch(cell)) else cell for cell in cells]


def _split_quoted(lines: Lines, delimiter: str) -> list[str] | None:
    """Return the cells, reading on to the quote that closes a quoted cell; None if there is none."""
    cells: list[str] = []
    text, at = lines.record[-1], 0
    while True:
        end = None
        if text.startswith('"', at):
            start = at + 1
            while (end := _find_closing_quote(text, start)) is None:
                line = lines.read_line() if len(text) < _MOST_QUOTED else ""
                if not line:
                    return None
                start = len(text)
                text += line
        # If the first quote that is not doubled does not close the cell, the opening one is a character.
        if end is not None and _cell_end(text, end + 1, delimiter) == end + 1:
            cell, at = text[at + 1 : end].replace('""', '"'), end + 1
        else:
            stop = _cell_end(text, at, delimiter)
            cell, at = text[at:stop], stop
        cells.append(cell)
        if text[at : at + 1] != delimiter:
            return cells
        at += 1


def _cell_end(text: str, at: int, delimiter: str) -> int:
    """Return where an unquoted cell ends: a carriage return inside a line is text, as in `Lines`."""
    match = re.compile(rf"[{re.escape(delimiter)}\n]|\r(?=\n|\Z)").search(text, at)
    return len(text) if match is None else match.start()


def _find_closing_quote(text: str, at: int) -> int | None:
    """Return the position of the first quote that is not doubled, or None."""
    while (at := text.find('"', at)) >= 0:
        if text[at + 1 : at + 2] != '"':
            return at
        at += 2
    return None


def _read_declared_delimiter(lines: Lines) -> str | None:
    """Return the delimiter of a first line such as `sep=;`, which spreadsheets write, or None."""
    line = lines.read_line()
    match = re.fullmatch(r'"?sep=(.)"?', line.rstrip(_ENDS))
    if match:
        lines.begin_record()
        return match[1]
    lines.unread_lines(1 if line else 0)
    return None


def _detect_delimiter(lines: Lines, reading: Reading) -> tuple[str, list[str] | None]:
    """Return the delimiter with which the header has the text column, else the most cells, and the header."""
    headers: dict[str, list[str] | None] = {}
    for delimiter in _DELIMITERS:
        lines.begin_record()
        try:
            headers[delimiter] = _csv_records(lines, delimiter, reading.quotes)()
        except _QuoteError:
            headers[delimiter] = None
        lines.unread_lines(len(lines.record))
    named = (
        delimiter
        for required in ({reading.text_column, reading.id_name}, {reading.text_column})
        for delimiter, header in headers.items()
        if header and required <= set(header)
    )
    best = next(named, max(headers, key=lambda delimiter: len(headers[delimiter] or ())))
    lines.begin_record()
    try:
        return best, _csv_records(lines, best, reading.quotes)()
    except _QuoteError:
        lines.unread_lines(len(lines.record))
        return best, None
