"""CSV and TSV -> rows, strictly: a cell is read exactly as written, or its row is a fault with file and line.

CSV is read by Python's `csv` in its strict mode, and quotes that this lets pass are checked; every row has as many
cells as the header. In TSV a quote is a character like others unless it opens a cell that another one closes,
as spreadsheets write cells with tabs, line breaks and quotes.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from gleaner.cli.files.lines import Lines
from gleaner.cli.files.opening import open_text
from gleaner.cli.files.rows import (
    BOM,
    Fault,
    InputError,
    Quotes,
    Reading,
    Row,
    encoding_fault,
    make_row,
    require_column,
    undecoded,
)

Note = Callable[[str], None]

_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MOST_QUOTE_FAULTS: Final = 100
"""Each has the lines after it read again: a file of nothing else would take long."""
_MOST_QUOTED: Final = 16 * 1024 * 1024
"""Characters of TSV that are looked through for the quote that closes a cell."""
_ENDS: Final = "\r\n"


class _QuoteError(Exception):
    """A quote that is not where one may be.

    Attributes:
        line: where, from 0 in the record.
    """

    def __init__(self, why: str, line: int) -> None:
        super().__init__(why)
        self.line = line


def read_csv(path: Path, reading: Reading, name: str, note: Note) -> Iterator[Row | Fault]:
    """Yield the rows of a table whose cells commas part, or what its header has, or `reading.delimiter`.

    Raises:
        InputError: the file or its header cannot be read.
        OSError: it cannot be opened.
    """
    csv.field_size_limit(sys.maxsize)  # a cell is a whole document; `Lines` bounds the record
    with open_text(path, reading.encoding) as opened:
        lines = Lines(opened.stream, name)
        delimiter = reading.delimiter or _declared(lines)
        header = None
        if delimiter is None:
            delimiter, header = _detect(lines, reading)
            if delimiter != ",":
                note(f"{name}: read as cells between {_DELIMITERS[delimiter]}")
        next_record = _csv_records(lines, delimiter, reading.quotes)
        yield from _rows(lines, next_record, header, reading, name)


def read_tsv(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row | Fault]:
    """Yield the rows of a table whose cells tabs part, or `reading.delimiter`.

    Raises:
        InputError: the file or its header cannot be read.
        OSError: it cannot be opened.
    """
    with open_text(path, reading.encoding) as opened:
        lines = Lines(opened.stream, name)
        split = _split_tsv if reading.quotes is Quotes.doubled else _split_literally
        delimiter = reading.delimiter or "\t"
        header: list[str] | None = None

        def next_record() -> list[str] | None:
            nonlocal header
            cells = split(lines, delimiter, None if header is None else len(header))
            header = cells if header is None else header
            return cells

        yield from _rows(lines, next_record, None, reading, name)


def _rows(
    lines: Lines,
    next_record: Callable[[], list[str] | None],
    header: list[str] | None,
    reading: Reading,
    name: str,
) -> Iterator[Row | Fault]:
    try:
        header = next_record() if header is None else header
    except _QuoteError as failure:
        raise InputError(f"{name}, line {lines.number}: {failure}, in the header") from None
    if byte := undecoded("".join(header or [])):
        raise InputError(f"{name}, line 1: {encoding_fault(byte, reading.encoding)}")
    header = header or []
    require_column(reading.columns, header, name)
    number = quote_faults = 0
    while True:
        lines.begin()
        first = lines.number + 1
        try:
            cells = next_record()
        except _QuoteError as failure:
            number, quote_faults = number + 1, quote_faults + 1
            yield Fault(f"{name}, line {first + failure.line}", str(failure), str(number))
            if quote_faults == _MOST_QUOTE_FAULTS:
                yield Fault(f"{name}, line {first + 1}", "too many wrong quotes: the rest is not read", str(number))
                return
            lines.hand_back(len(lines.record) - 1)  # a quote that swallowed lines gives them back
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
            else make_row(dict(zip(header, cells, strict=True)), reading, where, number)
        )


def _row_fault(cells: Sequence[str], header: Sequence[str], reading: Reading, record: Sequence[str]) -> str | None:
    if any(byte := undecoded(line) for line in record):
        return encoding_fault(str(byte), reading.encoding)
    if len(cells) != len(header):
        more = len(cells) > len(header)
        remedy = "a cell that holds the delimiter is written in quotes" if more else "is it cut off?"
        return f"{len(cells)} cells, where the header has {len(header)}; {remedy}"
    if len(cells) > 1 and [cells[0].removeprefix(BOM), *cells[1:]] == list(header):
        return "the header again; were files joined?"
    return None


def _csv_records(lines: Lines, delimiter: str, quotes: Quotes) -> Callable[[], list[str] | None]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes is Quotes.doubled else csv.QUOTE_NONE
    scan = _scanner(delimiter)

    def next_record() -> list[str] | None:
        reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting)
        try:
            cells = next(reader, None)
        except csv.Error as failure:
            raise _wrong_quote("".join(lines.record), delimiter, scan, str(failure)) from None
        if quotes is Quotes.doubled and cells and any(cell.endswith('"') for cell in cells):
            _require_paired("".join(lines.record), delimiter, scan)
        return cells

    return next_record


def _scanner(delimiter: str) -> re.Pattern[str]:
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
        return _QuoteError("a quote opens a cell here that none closes; a quote in a text is written twice", line)
    if record[closed.end() - 2 : closed.end()] == '\\"':
        return _QuoteError(
            "a quote is written as \\\" in the cell that begins here; write it twice (Spark: escape='\"')", line
        )
    return _QuoteError(
        "text after the quote that closes the cell beginning here; a quote in a text is written twice, or read "
        "quotes as they are with --quotes literal",
        line,
    )


def _require_paired(record: str, delimiter: str, scan: re.Pattern[str]) -> None:
    """Raise where a cell without quotes ends in a single one: the quote that should have opened it may be lost."""
    at = 0
    while match := scan.match(record, at):
        cell = match[0]
        if not cell.startswith('"') and cell.endswith('"') and cell.count('"') % 2:
            raise _QuoteError(
                "a quote ends a cell that none began; a cell with a quote in it is written in quotes, and the "
                "quote twice, or read quotes as they are with --quotes literal",
                record.count("\n", 0, at),
            )
        at = match.end()
        if not record.startswith(delimiter, at):
            return
        at += len(delimiter)


def _split_literally(lines: Lines, delimiter: str, _cells: int | None) -> list[str] | None:
    line = lines.read()
    if not line:
        return None
    text = line.rstrip(_ENDS)
    return text.split(delimiter) if text else []


def _split_tsv(lines: Lines, delimiter: str, cells: int | None) -> list[str] | None:
    """Return the next row's cells: as they are, or those in quotes without them, whichever fits the header.

    Raises:
        _QuoteError: both fit, so nobody knows which is right.
    """
    literal = _split_literally(lines, delimiter, cells)
    if not literal or not any(cell.startswith('"') for cell in literal):
        return literal
    quoted = _split_quoted(lines, delimiter)
    taken = len(lines.record)
    if quoted is None or (cells is not None and len(quoted) != cells):
        lines.hand_back(taken - 1)
        return _unquote(literal)
    spread = taken > 1 and cells is not None and cells > 1
    if spread and all(len(line.rstrip(_ENDS).split(delimiter)) == cells for line in lines.record):
        raise _QuoteError(
            f"the quote that opens here may close {taken - 1} lines below, or be a character; say --quotes literal "
            "if it is one, else write the table as CSV",
            0,
        )
    return quoted


def _unquote(cells: list[str]) -> list[str]:
    whole = re.compile(r'"((?:[^"]++|"")*+)"')
    return [match[1].replace('""', '"') if (match := whole.fullmatch(cell)) else cell for cell in cells]


def _split_quoted(lines: Lines, delimiter: str) -> list[str] | None:
    """Return the cells if a quote at a cell's start opens it, reading on to where it closes; None if none does."""
    cells: list[str] = []
    text, at = lines.record[-1], 0
    while True:
        if text.startswith('"', at):
            # Where the first quote that is not doubled closes nothing, the opening one is a character.
            start = at + 1
            while (end := _closing(text, start)) is None:
                line = lines.read() if len(text) < _MOST_QUOTED else ""
                if not line:
                    return None
                start = len(text)
                text += line
            after = text[end + 1 : end + 2]
            if after and after != delimiter and after not in _ENDS:
                stop = _cell_end(text, at, delimiter)
                cell, at = text[at:stop], stop
            else:
                cell, at = text[at + 1 : end].replace('""', '"'), end + 1
        else:
            stop = _cell_end(text, at, delimiter)
            cell, at = text[at:stop], stop
        cells.append(cell)
        if text[at : at + 1] != delimiter:
            return cells
        at += 1


def _cell_end(text: str, at: int, delimiter: str) -> int:
    match = re.compile(rf"[{re.escape(delimiter)}\r\n]").search(text, at)
    return len(text) if match is None else match.start()


def _closing(text: str, at: int) -> int | None:
    """Return where the first quote is that is not doubled, or None."""
    while (at := text.find('"', at)) >= 0:
        if text[at + 1 : at + 2] != '"':
            return at
        at += 2
    return None


def _declared(lines: Lines) -> str | None:
    """Return the delimiter that a first line `sep=;` gives, as spreadsheets write it."""
    line = lines.read()
    match = re.fullmatch(r'"?sep=(.)"?', line.rstrip(_ENDS))
    if match:
        lines.begin()
        return match[1]
    lines.hand_back(1 if line else 0)
    return None


def _detect(lines: Lines, reading: Reading) -> tuple[str, list[str] | None]:
    """Return the delimiter by which the header has the text's column, and that header; a comma if none does."""
    found: dict[str, list[str] | None] = {}
    for delimiter in _DELIMITERS:
        lines.begin()
        try:
            found[delimiter] = _csv_records(lines, delimiter, reading.quotes)()
        except _QuoteError:
            found[delimiter] = None
        lines.hand_back(len(lines.record))
    columns = reading.columns
    for wanted in ({columns.text, columns.id_name}, {columns.text}):
        for delimiter, header in found.items():
            if header and wanted <= set(header):
                return _again(lines, delimiter, reading)
    most = max(found, key=lambda each: len(found[each] or ()))
    return _again(lines, most, reading)


def _again(lines: Lines, delimiter: str, reading: Reading) -> tuple[str, list[str] | None]:
    lines.begin()
    try:
        return delimiter, _csv_records(lines, delimiter, reading.quotes)()
    except _QuoteError:
        lines.hand_back(len(lines.record))
        return delimiter, None
