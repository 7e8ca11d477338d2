"""Files -> documents: text and HTML (one document per file), JSON, CSV, TSV, Parquet (one per line or row)."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from gleaner.cli.files import pages, tables
from gleaner.cli.files.json_rows import read_json_lines, read_json_list
from gleaner.cli.files.lines import Lines
from gleaner.cli.files.opening import decode_page, open_bytes, open_text, read_text, refuse_other
from gleaner.cli.files.rows import (
    RECORD_CHARACTERS,
    Columns,
    Fault,
    InputError,
    Reading,
    Row,
    encoding_fault,
    make_row,
    require_column,
    undecoded,
)
from gleaner.cli.files.splitting import split_row
from gleaner.cli.files.tables import Note

__all__ = ["Columns", "Fault", "Format", "InputError", "Reading", "Row", "expand", "format_of", "read"]


class Format(StrEnum):
    """How a file holds documents."""

    txt = "txt"
    lines = "lines"
    html = "html"
    jsonl = "jsonl"
    json = "json"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


_BY_SUFFIX: Final[Mapping[str, Format]] = {
    ".txt": Format.txt,
    ".text": Format.txt,
    ".md": Format.txt,
    ".html": Format.html,
    ".htm": Format.html,
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".json": Format.json,
    ".csv": Format.csv,
    ".tsv": Format.tsv,
    ".tab": Format.tsv,
    ".parquet": Format.parquet,
    ".pq": Format.parquet,
}
_PACKED: Final = frozenset({".gz", ".zst"})
_REMEDIES: Final[Mapping[str, str]] = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "a spreadsheet is not read; save it as CSV"),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pptx"), "this kind is not read; save it as text or HTML"),
    ".pdf": "a PDF is not read; extract its text first, as with pdftotext",
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".bz2", ".xz"), "this kind is not read; unpack it first"),
}


def expand(path: Path) -> list[Path] | None:
    """Return the files that a pattern names, sorted; None where the path is no pattern but a file's.

    The part of the path that exists as it is written is no pattern, as a folder called `dir[x]`.

    Raises:
        InputError: the pattern matches nothing, or the path is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; say which files, as '{path}/**/*.txt'")
    if path.exists() or not glob.has_magic(str(path)):
        return None
    literal, parts = Path(path.anchor), list(path.parts[bool(path.anchor) :])
    while len(parts) > 1 and (literal / parts[0]).exists():
        literal /= parts.pop(0)
    pattern = str(Path(glob.escape(str(literal)), *parts))
    names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute one
    files = [file for file in map(Path, names) if file.is_file()]
    if not files:
        raise InputError(f"no file matches {path}")
    return files


def format_of(path: Path, given: Format | None) -> Format:
    """Return what a file is, by its name unless said.

    Raises:
        InputError: the name does not tell.
    """
    if given is not None:
        return given
    suffix = path.suffix.lower()
    if suffix in _PACKED:
        suffix = Path(path.stem).suffix.lower()
    kind = _BY_SUFFIX.get(suffix)
    if kind is None:
        remedy = _REMEDIES.get(suffix) or f"what kind of file is this? Say --format ({', '.join(Format)})"
        raise InputError(f"{path}: {remedy}")
    return kind


def read(
    path: Path,
    kind: Format,
    reading: Reading,
    name: str | None = None,
    note: Note = lambda _said: None,
) -> Iterator[Row | Fault]:
    """Yield the documents of one file, in order, and what of it is none.

    A fault of the file itself, which is missing or broken, comes last.

    Args:
        path: the file.
        kind: how it holds them.
        reading: where rows keep text and id, and how the file is decoded.
        name: what the file is called in ids and messages, if not by its path.
        note: takes what was assumed, for the user to see.
    """
    called = name or str(path)
    try:
        for row in _READERS[kind](path, reading, called, note):
            yield from split_row(row, reading.unit) if reading.split and isinstance(row, Row) else (row,)
    except OSError as failure:
        yield _file_fault(called, failure.strerror or str(failure))
    except InputError as failure:
        yield _file_fault(called, str(failure))
    except UnicodeError:
        yield _file_fault(called, encoding_fault("sequence", reading.encoding))


def _file_fault(name: str, why: str) -> Fault:
    where, _, rest = why.partition(": ")
    return Fault(where, rest, name) if where.startswith(name) else Fault(name, why, name)


def _read_text(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row]:
    text, opened = read_text(path, reading.encoding)
    marked = opened.marked and reading.unit == "byte"
    yield Row(name, text, where=name, base=3 if marked else 0, marked=marked)


def _read_text_lines(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row | Fault]:
    with open_text(path, reading.encoding) as opened:
        lines = Lines(opened.stream, name)
        while True:
            lines.begin()
            line = lines.read()
            if not line:
                return
            if not line.isspace():
                number, where = str(lines.number), f"{name}, line {lines.number}"
                byte = undecoded(line)
                yield (
                    Fault(where, encoding_fault(byte, reading.encoding), number)
                    if byte
                    else Row(number, line.rstrip("\r\n"), where=where)
                )


def _read_page(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row]:
    with open_bytes(path) as file:
        page = file.read(RECORD_CHARACTERS + 1)
    if len(page) > RECORD_CHARACTERS:
        raise InputError(f"larger than {RECORD_CHARACTERS} bytes")
    refuse_other(page[:64])
    yield Row(name, pages.text(decode_page(page, reading.encoding)), where=name)


def _read_parquet(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row | Fault]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError("reading Parquet needs pyarrow: pip install 'gleaner-ner[frame]'") from None
    columns = reading.columns
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            require_column(columns, names, name)
            wanted = [column for column in (columns.text, columns.id_name) if column in names]
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield make_row(row, reading, f"{name}, row {number}", number)
    except ArrowException as failure:
        raise InputError(f"not Parquet ({failure})") from None


_READERS: Final[Mapping[Format, Callable[[Path, Reading, str, Note], Iterable[Row | Fault]]]] = {
    Format.txt: _read_text,
    Format.lines: _read_text_lines,
    Format.html: _read_page,
    Format.jsonl: read_json_lines,
    Format.json: read_json_list,
    Format.csv: tables.read_csv,
    Format.tsv: tables.read_tsv,
    Format.parquet: _read_parquet,
}
