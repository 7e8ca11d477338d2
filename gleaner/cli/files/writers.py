"""Results -> files: JSON lines with all there is, or a table (CSV, TSV, Parquet).

A table of entities has a row for each, in the columns of the gateway's own CSV; a document without entities has one
row, with its error's code if it failed, so that no document is missing. A table of texts has a row per document.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gleaner.cli.escaping import dump_json, plain
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.outputs import PART, helper
from jobs.cells import BOM, write_row

Line = Mapping[str, Any]
"""A result as JSON, `Result.to_json`."""
Encode = Callable[[Line], bytes]

COLUMNS: Final = ("index", "id", "status", "start", "end", "text", "label", "score", "error")
_PARQUET_ROWS: Final = 32_768
"""Rows of a row group: what conversion holds in memory."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and what rows of them a result has; None where a cell is empty."""

    columns: tuple[str, ...]
    rows: Callable[[Line], Iterator[Sequence[Any]]]


class OutputFormat(StrEnum):
    """How results are written."""

    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


class Cells(StrEnum):
    """What becomes of a text in CSV or TSV that a spreadsheet would run as a formula."""

    guarded = "guarded"
    raw = "raw"


@dataclass(frozen=True, slots=True)
class Form:
    """How an output is written.

    Attributes:
        cells: of CSV and TSV.
        bom: CSV and TSV begin with a byte order mark, by which Excel knows UTF-8.
    """

    kind: OutputFormat = OutputFormat.jsonl
    cells: Cells = Cells.guarded
    bom: bool = False

    def __post_init__(self) -> None:
        if self.kind not in (OutputFormat.csv, OutputFormat.tsv) and (self.bom or self.cells is Cells.raw):
            raise CommandError(f"--csv raw and --bom are for CSV and TSV, not for {self.kind}")


def format_of(path: Path | None, given: OutputFormat | None) -> OutputFormat:
    """Return how a file is written: as said, else by its name, else as JSON lines."""
    if given is not None or path is None:
        return given or OutputFormat.jsonl
    suffix = path.suffix.lower().lstrip(".")
    names = {"pq": OutputFormat.parquet, **{each.value: each for each in OutputFormat}}
    return names.get(suffix, OutputFormat.jsonl)


def entity_rows(line: Line) -> Iterator[Sequence[Any]]:
    """Yield one row per entity."""
    head = (line["index"], line["id"], line["status"])
    for each in line["entities"]:
        yield (*head, each["start"], each["end"], each["text"], each["label"], each["score"], None)
    if not line["entities"]:
        yield (*head, None, None, None, None, None, line["error"] and line["error"]["code"])


def text_rows(line: Line) -> Iterator[Sequence[Any]]:
    """Yield one row, with the redacted text."""
    error = line["error"] and line["error"]["code"]
    yield (line["index"], line["id"], line["status"], line.get("redacted_text"), error)


ENTITIES: Final = Table(COLUMNS, entity_rows)
TEXTS: Final = Table(("index", "id", "status", "text", "error"), text_rows)


def encoder(form: Form, table: Table = ENTITIES) -> tuple[bytes, Encode]:
    """Return the first bytes of a file, and what turns each result into the bytes that follow.

    Raises:
        CommandError: the format is none that can be written line by line.
    """
    if form.kind is OutputFormat.jsonl:
        return b"", lambda line: (dump_json(line) + "\n").encode()
    if form.kind is OutputFormat.parquet:
        raise CommandError("Parquet cannot be printed; name a file with -o")
    delimiter = "," if form.kind is OutputFormat.csv else "\t"
    safe = form.cells is Cells.guarded

    def encode(line: Line) -> bytes:
        rows = (write_row(row, delimiter, safe=safe) for row in table.rows(line))
        return "".join(rows).encode(errors="backslashreplace")

    return (BOM if form.bom else b"") + write_row(table.columns, delimiter).encode(), encode


@contextmanager
def writing(path: Path, form: Form, table: Table = ENTITIES) -> Iterator[Callable[[Line], object]]:
    """Take results one by one; the file is there, whole, once the block has ended without an error."""
    part = helper(path, PART)
    try:
        if form.kind is OutputFormat.parquet:
            with _parquet(part, table) as write:
                yield write
        else:
            head, encode = encoder(form, table)
            with part.open("wb") as file:
                file.write(head)
                yield lambda line: file.write(encode(line))
        put_in_place(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def put_in_place(part: Path, path: Path) -> None:
    """Have a whole file take the place of another, or of none; a link stays one."""
    with part.open("rb") as written:
        os.fsync(written.fileno())  # before it takes the place of a good one, or of the lines it was made of
    part.replace(path.resolve())


class Printer:
    """Results on standard output; on a terminal, characters that would steer it are shown as escapes.

    Raises:
        CommandError: the format is none that can be printed, or standard output is closed.
    """

    def __init__(self, form: Form, table: Table = ENTITIES) -> None:
        head, self._encode = encoder(form, table)
        if sys.stdout is None:
            raise CommandError("standard output is closed; name a file with -o")
        self._terminal = sys.stdout.isatty()
        self._put(head)

    def write(self, line: Line) -> None:
        """Print a result."""
        self._put(self._encode(line))

    def commit(self) -> int:
        """Let the reader have it."""
        sys.stdout.buffer.flush()
        return 0

    def _put(self, encoded: bytes) -> None:
        if self._terminal:
            encoded = plain(encoded.decode().replace("\r\n", "\n"), keep="\n\t").encode()
        sys.stdout.buffer.write(encoded)


@contextmanager
def printing(form: Form) -> Iterator[Callable[[Line], object]]:
    """Take results one by one and print each at once.

    Raises:
        CommandError: the format is none that can be printed, or standard output is closed.
    """
    printer = Printer(form)

    def write(line: Line) -> None:
        printer.write(line)
        printer.commit()

    yield write
    printer.commit()


def require(kind: OutputFormat) -> None:
    """Raise where a format cannot be written here, before any work is done for it.

    Raises:
        CommandError: a library is missing; says which.
    """
    if kind is OutputFormat.parquet:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise CommandError("writing Parquet needs pyarrow: pip install 'gleaner-ner[frame]'") from None


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the results of JSON lines that were written here."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


@contextmanager
def _parquet(path: Path, table: Table) -> Iterator[Callable[[Line], object]]:
    require(OutputFormat.parquet)
    import pyarrow
    from pyarrow import parquet

    whole, real, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    types = {"index": whole, "start": whole, "end": whole, "score": real}
    schema = pyarrow.schema([(name, types.get(name, text)) for name in table.columns])
    held: list[Sequence[Any]] = []

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            columns = [[_sayable(cell) for cell in column] for column in zip(*held, strict=True)]
            writer.write_table(pyarrow.table(dict(zip(table.columns, columns, strict=True)), schema=schema))
            held.clear()

        def write(line: Line) -> None:
            held.extend(table.rows(line))
            if len(held) >= _PARQUET_ROWS:
                flush()

        yield write
        if held:
            flush()


def _sayable(cell: Any) -> Any:
    # A lone surrogate (from a file's name, say) has no UTF-8; it becomes its escape, as in the other formats.
    return cell.encode(errors="backslashreplace").decode() if isinstance(cell, str) else cell
