"""Results -> files: JSON lines with all there is, or a table (CSV, TSV, Parquet).

A table of entities has a row for each, in the columns of the gateway's own CSV; a document without entities has one
row, with its error's code if it failed, so that no document is missing. A table of texts has a row a document.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gleaner.cli.failures import CommandError

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


def format_of(path: Path | None, given: OutputFormat | None) -> OutputFormat:
    """How a file is written: as said, else by its name, else as JSON lines."""
    if given is not None or path is None:
        return given or OutputFormat.jsonl
    suffix = path.suffix.lower().lstrip(".")
    names = {"pq": OutputFormat.parquet, **{each.value: each for each in OutputFormat}}
    return names.get(suffix, OutputFormat.jsonl)


def entity_rows(line: Line) -> Iterator[Sequence[Any]]:
    """A row an entity."""
    head = (line["index"], line["id"], line["status"])
    for each in line["entities"]:
        yield (*head, each["start"], each["end"], each["text"], each["label"], each["score"], None)
    if not line["entities"]:
        yield (*head, None, None, None, None, None, line["error"] and line["error"]["code"])


def text_rows(line: Line) -> Iterator[Sequence[Any]]:
    """One row, with the redacted text."""
    error = line["error"] and line["error"]["code"]
    yield (line["index"], line["id"], line["status"], line.get("redacted_text"), error)


ENTITIES: Final = Table(COLUMNS, entity_rows)
TEXTS: Final = Table(("index", "id", "status", "text", "error"), text_rows)


def encoder(kind: OutputFormat, table: Table = ENTITIES) -> tuple[bytes, Encode]:
    """The first bytes of a file, and what turns each result into the bytes that follow.

    Raises:
        CommandError: the format is none that can be written line by line.
    """
    if kind is OutputFormat.jsonl:
        return b"", _as_json
    if kind is OutputFormat.parquet:
        raise CommandError("Parquet cannot be printed; name a file with -o")
    delimiter = "," if kind is OutputFormat.csv else "\t"
    return _separated([table.columns], delimiter), lambda line: _separated(table.rows(line), delimiter)


@contextmanager
def writing(path: Path, kind: OutputFormat, table: Table = ENTITIES) -> Iterator[Callable[[Line], object]]:
    """Takes results one by one; the file is there, whole, once the block has ended without an error."""
    part = path.with_name(path.name + ".gleaner-part")
    try:
        if kind is OutputFormat.parquet:
            with _parquet(part, table) as write:
                yield write
        else:
            head, encode = encoder(kind, table)
            with part.open("wb") as file:
                file.write(head)
                yield lambda line: file.write(encode(line))
        with part.open("rb") as written:
            os.fsync(written.fileno())  # before it takes the place of a good one, or of the lines it was made of
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def printing(kind: OutputFormat) -> Iterator[Callable[[Line], object]]:
    """Takes results one by one and prints each at once.

    Raises:
        CommandError: the format is none that can be printed.
    """
    head, encode = encoder(kind)
    output = sys.stdout.buffer
    output.write(head)

    def write(line: Line) -> None:
        output.write(encode(line))
        output.flush()

    yield write


def require(kind: OutputFormat) -> None:
    """See that a format can be written here, before any work is done for it.

    Raises:
        CommandError: a library is missing; says which.
    """
    if kind is OutputFormat.parquet:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise CommandError("writing Parquet needs pyarrow: pip install 'gleaner-ner[frame]'") from None


def read_lines(path: Path) -> Iterator[Line]:
    """JSON lines that were written here."""
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


def _as_json(line: Line) -> bytes:
    return (json.dumps(line, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def _separated(lines: Any, delimiter: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(lines)
    return text.getvalue().encode(errors="backslashreplace")
