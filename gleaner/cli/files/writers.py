"""Write results to files: JSON lines with all fields, a table (CSV, TSV, Parquet), or text for people."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gleaner.cli.escaping import dump_json, escape_text
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.outputs import PART, helper_path
from gleaner.cli.files.result_rows import ENTITIES, Line, Table, describe_result

Encode = Callable[[Line], bytes]

_PARQUET_ROWS: Final = 32_768
"""Rows of a row group, which are buffered in memory."""
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""Characters that begin a formula in a spreadsheet, in ASCII and full width, and those skipped before it."""
_QUOTED = re.compile('["\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]')
"""Characters that require quotes: a quote, and every character at which some reader ends a line."""
BOM = "\ufeff".encode()
"""Written before the first row: without it Excel reads UTF-8 as the system's legacy code page."""


class OutputFormat(StrEnum):
    """Format of an output file."""

    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"
    TEXT = "text"


class Cells(StrEnum):
    """Handling of CSV and TSV cells that a spreadsheet would run as a formula."""

    GUARDED = "guarded"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Form:
    """Format of an output with its options.

    Attributes:
        cells: handling of formulas in CSV and TSV.
        bom: start CSV and TSV with a byte order mark, by which Excel detects UTF-8.
        table: columns and rows, if the format is a table.
    """

    kind: OutputFormat = OutputFormat.JSONL
    cells: Cells = Cells.GUARDED
    bom: bool = False
    table: Table = ENTITIES

    def __post_init__(self) -> None:
        if self.kind not in (OutputFormat.CSV, OutputFormat.TSV) and (self.bom or self.cells is Cells.RAW):
            raise CommandError(f"--csv raw and --bom are for CSV and TSV, not for {self.kind}")


def make_form(
    path: Path | None, kind: OutputFormat | None, cells: Cells | None, bom: bool, table: Table = ENTITIES
) -> Form:
    """Return the format of an output from its path and the options.

    Raises:
        CommandError: the options contradict each other, or a library for the format is missing.
    """
    form = Form(format_of(path, kind), cells or Cells.GUARDED, bom, table)
    if form.kind is OutputFormat.PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise CommandError("writing Parquet requires pyarrow: pip install 'gleaner-ner[frame]'") from None
    return form


def format_of(path: Path | None, kind: OutputFormat | None) -> OutputFormat:
    """Return `kind`, or if it is None the format that the path implies, or JSON lines; text only by `kind`."""
    if kind is not None or path is None:
        return kind or OutputFormat.JSONL
    suffix = path.suffix.lower().lstrip(".")
    names = {"pq": OutputFormat.PARQUET, **{item.value: item for item in OutputFormat}}
    del names["text"]  # a suffix that has always meant JSON lines
    return names.get(suffix, OutputFormat.JSONL)


def make_encoder(form: Form) -> tuple[bytes, Encode]:
    """Return the first bytes of a file, and a function that encodes each result.

    Raises:
        CommandError: the format cannot be written line by line.
    """
    if form.kind is OutputFormat.JSONL:
        return b"", lambda line: (dump_json(line) + "\n").encode()
    if form.kind is OutputFormat.TEXT:
        return b"", lambda line: describe_result(line).encode(errors="backslashreplace")
    if form.kind is OutputFormat.PARQUET:
        raise CommandError("Parquet cannot be printed; name a file with -o")
    delimiter = "," if form.kind is OutputFormat.CSV else "\t"
    safe = form.cells is Cells.GUARDED

    def encode(line: Line) -> bytes:
        rows = (write_row(row, delimiter, safe=safe) for row in form.table.rows(line))
        return "".join(rows).encode(errors="backslashreplace")

    return (BOM if form.bom else b"") + write_row(form.table.columns, delimiter).encode(), encode


@contextmanager
def open_writer(path: Path, form: Form) -> Iterator[Callable[[Line], object]]:
    """Yield a function that writes a result; the file appears once the block has ended without an error."""
    part = helper_path(path, PART)
    try:
        if form.kind is OutputFormat.PARQUET:
            with _open_parquet(part, form.table) as write:
                yield write
        else:
            head, encode = make_encoder(form)
            with part.open("wb") as file:
                file.write(head)
                yield lambda line: file.write(encode(line))
        put_in_place(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def put_in_place(part: Path, path: Path) -> None:
    """Move a complete file to its path atomically; a link is kept."""
    with part.open("rb") as written:
        os.fsync(written.fileno())  # before it replaces the previous file
    part.replace(path.resolve())


class FileSink:
    """An output file, truncated to the length in the journal.

    Args:
        path: the file.
        length: number of bytes that are kept.
        form: format of the results.
    """

    def __init__(self, path: Path, length: int, form: Form) -> None:
        head, self._encode = make_encoder(form)
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(length)
        self._file.seek(length)
        if length == 0:
            self._file.write(head)

    def write(self, line: Line) -> None:
        """Write a result."""
        self._file.write(self._encode(line))

    def commit(self) -> int:
        """Sync the file, and return its length."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Printer:
    """Prints results to standard output; on a terminal, control characters are escaped.

    Raises:
        CommandError: the format cannot be printed, or standard output is closed.
    """

    def __init__(self, form: Form) -> None:
        head, self._encode = make_encoder(form)
        if sys.stdout is None:
            raise CommandError("standard output is closed; name a file with -o")
        self._terminal = sys.stdout.isatty()
        self._print_bytes(head)

    def write(self, line: Line) -> None:
        """Print a result."""
        self._print_bytes(self._encode(line))

    def write_now(self, line: Line) -> None:
        """Print a result immediately."""
        self.write(line)
        self.commit()

    def commit(self) -> int:
        """Flush standard output; return 0."""
        sys.stdout.buffer.flush()
        return 0

    def _print_bytes(self, encoded: bytes) -> None:
        if self._terminal:
            encoded = escape_text(encoded.decode().replace("\r\n", "\n"), keep="\n\t").encode()
        sys.stdout.buffer.write(encoded)


Sink = FileSink | Printer
"""Destination of a run's results."""


def read_results(path: Path) -> Iterator[Line]:
    """Yield the results of a file of JSON lines."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


@contextmanager
def _open_parquet(path: Path, table: Table) -> Iterator[Callable[[Line], object]]:
    import pyarrow
    from pyarrow import parquet

    whole, real, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    offsets = (f"{end}{name}" for end in ("", "head_", "tail_") for name in ("start", "end"))
    types = {**dict.fromkeys(("index", "head", "tail", *offsets), whole), "score": real}
    schema = pyarrow.schema([(name, types.get(name, text)) for name in table.columns])
    pending: list[Sequence[Any]] = []

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def escape_surrogates(cell: Any) -> Any:
            # A lone surrogate (for example, from a file name) has no UTF-8; it is escaped, as in the other formats.
            return cell.encode(errors="backslashreplace").decode() if isinstance(cell, str) else cell

        def flush() -> None:
            columns = [[*map(escape_surrogates, column)] for column in zip(*pending, strict=True)]
            writer.write_table(pyarrow.table(dict(zip(table.columns, columns, strict=True)), schema=schema))
            pending.clear()

        def write(line: Line) -> None:
            pending.extend(table.rows(line))
            if len(pending) >= _PARQUET_ROWS:
                flush()

        yield write
        if pending:
            flush()


def write_row(cells: Iterable[object], delimiter: str = ",", *, safe: bool = True) -> str:
    """Return a row in the form of RFC 4180, with its line end; the same as `jobs.cells` writes in the service.

    Args:
        cells: texts and numbers; None is an empty cell.
        delimiter: separator of cells.
        safe: put `'` before texts that a spreadsheet would run as a formula.
    """
    return delimiter.join(_format_cell(cell, delimiter, safe) for cell in cells) + "\r\n"


def _format_cell(cell: object, delimiter: str, safe: bool) -> str:
    if not isinstance(cell, str):
        return "" if cell is None else str(cell)
    text = f"'{cell}" if safe and _FORMULA.match(cell) else cell
    if delimiter in text or _QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text
