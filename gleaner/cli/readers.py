"""Files -> documents, one at a time: text and HTML (a document a file), JSON lines, CSV, TSV, Parquet."""

from __future__ import annotations

import csv
import glob
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from gleaner.cli import pages


class InputError(Exception):
    """A file that cannot be read as what it is said to be; `str()` says where and what to do."""


class Format(StrEnum):
    """How a file holds documents."""

    txt = "txt"
    html = "html"
    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


_BY_SUFFIX: Mapping[str, Format] = {
    ".txt": Format.txt,
    ".text": Format.txt,
    ".md": Format.txt,
    ".html": Format.html,
    ".htm": Format.html,
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".csv": Format.csv,
    ".tsv": Format.tsv,
    ".parquet": Format.parquet,
    ".pq": Format.parquet,
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row keeps its text and its id; rows without the id column are numbered."""

    text: str = "text"
    id: str = "id"


@dataclass(frozen=True, slots=True)
class Row:
    """A document before it is submitted.

    Attributes:
        id: what its result is called in the output; need not be unique.
        labels: its own labels, from a JSON line that has some.
        options: its own options, likewise.
    """

    id: str
    text: str
    labels: Any = None
    options: Any = None

    def document(self) -> dict[str, Any]:
        """The document as the client submits it; ids stay here, so that equal ones do no harm."""
        document: dict[str, Any] = {"text": self.text}
        if self.labels is not None:
            document["labels"] = self.labels
        if self.options is not None:
            document["options"] = self.options
        return document


def expand(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that paths and patterns name; a pattern that the shell left alone is filled in here, sorted.

    Raises:
        InputError: a pattern matches nothing, or a path is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder; say which files, as '{path}/**/*.txt'")
        if path.exists() or not glob.has_magic(str(path)):
            yield path
            continue
        names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  # Path.glob takes no absolute one
        files = [found for found in map(Path, names) if found.is_file()]
        if not files:
            raise InputError(f"no file matches {path}")
        yield from files


def format_of(path: Path, given: Format | None) -> Format:
    """What a file is, by its name unless said.

    Raises:
        InputError: the name does not tell.
    """
    found = given or _BY_SUFFIX.get(path.suffix.lower())
    if found is None:
        known = ", ".join(Format)
        raise InputError(f"{path}: what kind of file is this? Say --format ({known})")
    return found


def read(path: Path, kind: Format, columns: Columns, name: str | None = None) -> Iterator[Row]:
    """The documents of one file, in order.

    Args:
        path: the file.
        kind: how it holds them.
        columns: where rows keep text and id.
        name: what the file is called in ids and errors, if not by its path.

    Raises:
        InputError: the file is missing, or is not of that kind.
    """
    try:
        yield from _READERS[kind](path, columns, name or str(path))
    except OSError as failure:
        raise InputError(f"{name or path}: {failure.strerror or failure}") from None
    except UnicodeDecodeError as failure:
        raise InputError(f"{name or path}: not UTF-8 (at byte {failure.start}); convert it first") from None


def _text(path: Path, _columns: Columns, name: str) -> Iterator[Row]:
    yield Row(name, path.read_text(encoding="utf-8-sig"))


def _html(path: Path, _columns: Columns, name: str) -> Iterator[Row]:
    yield Row(name, pages.text(path.read_bytes()))


def _json_lines(path: Path, columns: Columns, name: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as failure:
                raise InputError(f"{name}, line {number}: not JSON ({failure})") from None
            if isinstance(row, str):
                row = {columns.text: row}
            if not isinstance(row, dict):
                raise InputError(f"{name}, line {number}: neither an object nor a string")
            yield _row(row, columns, f"{name}, line {number}", number, row.get("labels"), row.get("options"))


def _csv(delimiter: str) -> Callable[[Path, Columns, str], Iterator[Row]]:
    def rows(path: Path, columns: Columns, name: str) -> Iterator[Row]:
        csv.field_size_limit(sys.maxsize)  # a cell is a whole document
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            _require_column(columns.text, reader.fieldnames or (), name)
            try:
                for number, row in enumerate(reader, start=1):
                    yield _row(row, columns, f"{name}, row {number}", number)
            except csv.Error as failure:
                raise InputError(f"{name}, line {reader.line_num}: {failure}") from None

    return rows


def _parquet(path: Path, columns: Columns, name: str) -> Iterator[Row]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise InputError(f"{name}: reading Parquet needs pyarrow: pip install 'gleaner-ner[frame]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _require_column(columns.text, names, name)
            wanted = [column for column in (columns.text, columns.id) if column in names]
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield _row(row, columns, f"{name}, row {number}", number)
    except ArrowInvalid as failure:
        raise InputError(f"{name}: not Parquet ({failure})") from None


_READERS: Mapping[Format, Callable[[Path, Columns, str], Iterator[Row]]] = {
    Format.txt: _text,
    Format.html: _html,
    Format.jsonl: _json_lines,
    Format.csv: _csv(","),
    Format.tsv: _csv("\t"),
    Format.parquet: _parquet,
}


def _row(
    row: Mapping[str, Any],
    columns: Columns,
    where: str,
    number: int,
    labels: Any = None,
    options: Any = None,
) -> Row:
    text = row.get(columns.text)
    if text is None:
        # A hole in the data is one document's matter: it is submitted, and fails alone as empty_text.
        text = ""
    if not isinstance(text, str):
        raise InputError(f"{where}: {columns.text!r} is not text but {type(text).__name__}")
    own = row.get(columns.id)
    return Row(str(number) if own is None or own == "" else str(own), text, labels, options)


def _require_column(column: str, names: Any, name: str) -> None:
    if column not in names:
        there = ", ".join(names) or "none"
        raise InputError(f"{name}: no column {column!r}; choose with --text-column (there are: {there})")
