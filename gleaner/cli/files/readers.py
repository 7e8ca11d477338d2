"""Read documents from files: text and HTML (one per file), JSON, CSV, TSV, Parquet (one per line or row).

A text that is too large for one document is split between paragraphs; offsets continue from part to part.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from gleaner.cli.files import tables
from gleaner.cli.files.decoding import open_bytes, read_text, refuse_binary
from gleaner.cli.files.html_pages import decode_page, extract_text
from gleaner.cli.files.json_rows import read_json_lines, read_json_list
from gleaner.cli.files.lines import read_lines
from gleaner.cli.files.rows import (
    RECORD_CHARACTERS,
    Fault,
    Format,
    InputError,
    OffsetUnit,
    Reading,
    Row,
    encoding_fault,
    make_row,
    require_column,
)
from gleaner.cli.files.tables import Note

_BY_SUFFIX: Final[Mapping[str, Format]] = {
    ".txt": Format.TXT,
    ".text": Format.TXT,
    ".md": Format.TXT,
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSON,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}
_PACKED: Final = frozenset({".gz", ".zst"})
_REMEDIES: Final[Mapping[str, str]] = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "spreadsheets are not supported; save it as CSV"),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pptx"), "not supported; save it as text or HTML"),
    ".pdf": "PDF is not supported; extract its text first, for example with pdftotext",
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".bz2", ".xz"), "not supported; unpack it first"),
}
PART_BYTES: Final = 1_000_000
"""A gateway accepts 1 MiB in one document by default."""
_END: Final = r"(?:\r\n|\r(?!\n)|\n)"
_CUTS: Final = tuple(map(re.compile, (rf"{_END}[ \t]*{_END}", _END, r"[.!?。！？]\s", r"\s")))  # noqa: RUF001
"""Ends at which a text may be cut, best first: paragraphs, lines, sentences, words."""


def expand_pattern(path: Path) -> list[Path] | None:
    """Return the files that match a pattern, sorted; None if the path is a file and not a pattern.

    The part of the path that exists literally, such as a folder called `dir[x]`, is not a pattern.

    Raises:
        InputError: the pattern matches no file, or the path is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; use a pattern, such as '{path}/**/*.txt'")
    if path.exists() or not glob.has_magic(str(path)):
        return None
    literal, parts = Path(path.anchor), list(path.parts[bool(path.anchor) :])
    while len(parts) > 1 and (literal / parts[0]).exists():
        literal /= parts.pop(0)
    pattern = str(Path(glob.escape(str(literal)), *parts))
    names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob rejects absolute patterns
    files = [file for file in map(Path, names) if file.is_file()]
    if not files:
        raise InputError(f"no file matches {path}; check the pattern")
    return files


def format_of(path: Path, kind: Format | None) -> Format:
    """Return `kind`, or if it is None the format that the file's name implies.

    Raises:
        InputError: the name does not imply a supported format.
    """
    if kind is not None:
        return kind
    suffix = path.suffix.lower()
    if suffix in _PACKED:
        suffix = Path(path.stem).suffix.lower()
    kind = _BY_SUFFIX.get(suffix)
    if kind is None:
        remedy = _REMEDIES.get(suffix) or f"unknown format; add --format ({', '.join(Format)})"
        raise InputError(f"{path}: {remedy}")
    return kind


def read_documents(
    path: Path, kind: Format, reading: Reading, name: str | None = None, note: Note = lambda _said: None
) -> Iterator[Row | Fault]:
    """Yield the documents and faults of one file, in order.

    A fault of the file itself, if it is missing or corrupt, comes last.

    Args:
        path: the file.
        kind: its format.
        reading: options of reading.
        name: name of the file in ids and messages; by default its path.
        note: called with assumptions about the file, to be shown to the user.
    """
    name = name or str(path)
    try:
        for row in _READERS[kind](path, reading, name, note):
            yield from split_row(row, reading.unit) if reading.split and isinstance(row, Row) else (row,)
    except OSError as failure:
        yield _file_fault(name, failure.strerror or str(failure))
    except InputError as failure:
        yield _file_fault(name, str(failure))
    except UnicodeError:
        yield _file_fault(name, encoding_fault("sequence", reading.encoding))


def _file_fault(name: str, why: str) -> Fault:
    where, _, rest = why.partition(": ")
    return Fault(where, rest, name) if where.startswith(name) else Fault(name, why, name)


def _read_text(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row]:
    text, opened = read_text(path, reading.encoding)
    marked = opened.marked and reading.unit == "byte"
    yield Row(name, text, where=name, base=3 if marked else 0, marked=marked)


def _read_text_lines(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row | Fault]:
    for line in read_lines(path, reading.encoding, name):
        if isinstance(line, Fault):
            yield line
        else:
            yield Row(str(line.number), line.text.rstrip("\r\n"), where=line.where)


def _read_page(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row]:
    with open_bytes(path) as file:
        page = file.read(RECORD_CHARACTERS + 1)
    if len(page) > RECORD_CHARACTERS:
        raise InputError(f"larger than {RECORD_CHARACTERS} bytes; split it into several pages")
    refuse_binary(page[:64])
    yield Row(name, extract_text(decode_page(page, reading.encoding)), where=name)


def _read_parquet(path: Path, reading: Reading, name: str, _note: Note) -> Iterator[Row | Fault]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError("reading Parquet requires pyarrow: pip install 'gleaner-ner[frame]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            require_column(reading, names, name)
            read_columns = [column for column in (reading.text_column, reading.id_name) if column in names]
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=read_columns):
                for row in batch.to_pylist():
                    number += 1
                    yield make_row(row, reading, f"{name}, row {number}", number)
    except ArrowException as failure:
        raise InputError(f"not Parquet ({failure})") from None


def split_row(row: Row, unit: OffsetUnit) -> Iterator[Row]:
    """Yield the row, or its parts with their base offsets; together the parts are the text.

    Args:
        row: a document; its parts get the ids `ID#1`, `ID#2` and so on.
        unit: unit of the offsets.
    """
    if len(row.text) <= PART_BYTES // 4 or _measure_text(row.text, "byte") <= PART_BYTES:
        yield row
        return
    at, base, number = 0, row.base, 0
    while at < len(row.text):
        end = _find_cut(row.text, at)
        part, number = row.text[at:end], number + 1
        where = f"{row.where}, part {number}"
        marked = row.marked and number == 1
        yield replace(row, id=f"{row.id}#{number}", text=part, base=base, where=where, marked=marked)
        at, base = end, base + _measure_text(part, unit)


def _find_cut(text: str, start: int) -> int:
    """Return the end of the part that starts at `start`."""
    window = text[start : start + PART_BYTES]
    if not window.isascii():
        window = window.encode(errors="surrogatepass")[:PART_BYTES].decode(errors="ignore")
    if start + len(window) >= len(text):
        return len(text)
    for cut in _CUTS:
        ends = [match.end() for match in cut.finditer(window, len(window) // 2)]
        if ends and ends[-1] < len(window):  # an end at the window's edge may continue behind it, as \r\n
            return start + ends[-1]
    return start + len(window)


def _measure_text(text: str, unit: OffsetUnit) -> int:
    if unit == "codepoint" or text.isascii():
        return len(text)
    if unit == "byte":
        return len(text.encode(errors="surrogatepass"))
    return len(text) + sum(letter > "\uffff" for letter in text)


_READERS: Final[Mapping[Format, Callable[[Path, Reading, str, Note], Iterable[Row | Fault]]]] = {
    Format.TXT: _read_text,
    Format.LINES: _read_text_lines,
    Format.HTML: _read_page,
    Format.JSONL: read_json_lines,
    Format.JSON: read_json_list,
    Format.CSV: tables.read_csv,
    Format.TSV: tables.read_tsv,
    Format.PARQUET: _read_parquet,
}
