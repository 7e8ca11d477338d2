"""Rows of files before they are submitted: documents, and faults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, cast

from gleaner.client.arguments import hold_options
from gleaner.client.calls import _MODEL_OPTIONS as MODEL_OPTIONS
from gleaner.client.calls import TASK_OPTIONS, SubmitOptions

OffsetUnit = Literal["codepoint", "utf16", "byte"]
RECORD_CHARACTERS: Final = 64 * 1024 * 1024
"""Maximum length of a line, table row or text, which bounds the memory of this command."""
BOM: Final = "\ufeff"

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNDECODED: Final = re.compile("[\udc80-\udcff]")


class InputError(Exception):
    """A file cannot be read in its format; `str()` says where and what to do."""


class Format(StrEnum):
    """Format of an input file."""

    TXT = "txt"
    LINES = "lines"
    HTML = "html"
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"


class OnBadLine(StrEnum):
    """Handling of lines, rows and files that are not valid documents."""

    REJECT = "reject"
    SKIP = "skip"
    FAIL_DOCUMENT = "fail_document"


class Quotes(StrEnum):
    """Meaning of a double quote in a table."""

    DOUBLED = "doubled"
    LITERAL = "literal"


@dataclass(frozen=True, slots=True)
class Reading:
    """Options of reading files.

    Attributes:
        text_column: column or JSON field of the text.
        id_column: column or JSON field of the id; None uses the column `id` if there is one.
        delimiter: delimiter of a table's cells; None detects it from the format and the header.
        encoding: a label of the Encoding Standard or of Python; None is UTF-8, or an HTML page's charset.
        quotes: meaning of quotes in tables.
        ignored: fields of JSON lines (`labels`, `relations`, `classifications`, `options`) to ignore.
        unit: unit of the results' offsets.
        split: split texts that are too large for one document.
        kind: format of the files; None detects it from their names.
        on_bad_line: handling of lines, rows and files that are not valid documents.
    """

    text_column: str = "text"
    id_column: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    quotes: Quotes = Quotes.DOUBLED
    ignored: frozenset[str] = frozenset()
    unit: OffsetUnit = "codepoint"
    split: bool = False
    kind: Format | None = None
    on_bad_line: OnBadLine = OnBadLine.REJECT

    @property
    def id_name(self) -> str:
        """Name of the id column, whether the user named it or not."""
        return self.id_column or "id"


@dataclass(frozen=True, slots=True)
class Row:
    """A document before it is submitted.

    Attributes:
        id: id of its result in the output; need not be unique.
        labels: labels of this document, from a JSON line.
        options: options of this document, likewise.
        tasks: relations and classifications of this document, by field, likewise.
        where: file and line, for messages.
        base: number that is added to the offsets of its results.
        marked: True if the file began with a byte order mark that byte offsets include.
        fault: if set, the document is not submitted and fails as `invalid_document`.
    """

    id: str
    text: str
    labels: Any = None
    options: Any = None
    where: str = field(default="", compare=False)
    base: int = 0
    marked: bool = False
    fault: str | None = None
    tasks: Mapping[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Return the document as the client submits it, without its id, because ids need not be unique."""
        fields = {"labels": self.labels, **self.tasks, "options": self.options}
        return {"text": self.text, **{name: value for name, value in fields.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class Fault:
    """A line, row or file that is not a valid document; `--on-bad-line` says how it is handled.

    Attributes:
        where: file and line.
        why: the problem, and how to fix it.
        id: its id in the output.
    """

    where: str
    why: str
    id: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"

    def as_row(self) -> Row:
        """Return a row that fails instead of it."""
        return Row(self.id, "", where=self.where, fault=str(self))


def make_row(values: Mapping[str, Any], reading: Reading, where: str, number: int) -> Row | Fault:
    """Return the document in a JSON line or table row, or its fault.

    Args:
        values: fields by name.
        reading: options of reading.
        where: file and line.
        number: its id if it has none.
    """
    column = reading.text_column
    name, why = _read_id(values, reading, number)
    text = values.get(column)
    if why is None and text is None and column not in values:
        fields = ", ".join(map(repr, values)) or "none"
        why = f"no field {column!r}; choose one with --text-column (fields: {fields})"
    if why is None and isinstance(text, dict | list):
        why = f"{column!r} is not text but {_describe_type(text)}; choose another field with --text-column"
    labels = None if "labels" in reading.ignored else values.get("labels")
    options = None if "options" in reading.ignored else values.get("options")
    tasks = {name: values[name] for name in TASK_OPTIONS if values.get(name) is not None}
    tasks = {name: value for name, value in tasks.items() if name not in reading.ignored}
    why = why or _labels_fault(labels) or _tasks_fault(tasks) or _options_fault(options)
    if why is not None:
        return Fault(where, why, name)
    fault = None
    if not isinstance(text, str):
        # A missing text (NaN is not itself) concerns only this document: it is submitted, and fails as empty_text.
        is_missing = text is None or text != text
        fault = None if is_missing else f"{where}: {column!r} is not text but {_describe_type(text)}"
        text = ""
    return Row(name, text, labels, options, where, fault=fault, tasks=tasks)


def find_undecoded(text: str) -> str | None:
    """Return the first byte that could not be decoded, as 0xe9, or None.

    Decoding replaces such bytes by lone surrogates, which decoded text never contains.
    """
    match = None if text.isascii() else _UNDECODED.search(text)
    return None if match is None else f"0x{ord(match[0]) - 0xDC00:02x}"


def encoding_fault(byte: str, encoding: str | None) -> str:
    """Return the message for a byte that is invalid in the encoding."""
    if encoding is None:
        return f"not UTF-8 (byte {byte}); name its encoding, for example --encoding windows-1252"
    return f"byte {byte} is invalid in {encoding}; choose another --encoding"


def require_column(reading: Reading, names: Iterable[str], name: str) -> None:
    """Raise if a table lacks a column that is read, or has it twice.

    Raises:
        InputError: it does; the message lists the columns.
    """
    header = list(names)
    for option, column in (("--text-column", reading.text_column), ("--id-column", reading.id_column)):
        if column is not None and column not in header:
            listed = ", ".join(header) or "none"
            raise InputError(f"{name}: no column {column!r}; choose one with {option} (columns: {listed})")
    for unique in (reading.text_column, reading.id_name):
        if header.count(unique) > 1:
            raise InputError(f"{name}: the header has {unique!r} {header.count(unique)} times; rename all but one")


def _read_id(values: Mapping[str, Any], reading: Reading, number: int) -> tuple[str, str | None]:
    column, numbered = reading.id_name, str(number)
    value = values.get(column)
    if reading.id_column is not None and column not in values:
        return numbered, f"no field {column!r}; choose one with --id-column, or omit it to number the rows"
    if value is None or value == "" or value != value:
        return numbered, None
    if isinstance(value, dict | list):
        return numbered, f"the id {column!r} is neither text nor a number but {_describe_type(value)}"
    if _CONTROLS.search(str(value)):
        return numbered, f"the id {str(value)!r} contains a control character or line break; remove it"
    return str(value), None


def _labels_fault(labels: Any) -> str | None:
    if labels is None:
        return None
    names = list(labels) if isinstance(labels, list | dict) else []
    is_valid = bool(names) and all(isinstance(name, str) and name.strip() for name in names)
    if is_valid and isinstance(labels, dict):
        is_valid = all(value is None or isinstance(value, str) for value in labels.values())
    if is_valid and len({*names}) == len(names):
        return None
    return (
        f"its `labels`, {_shorten_value(labels)}, are not labels to look for (a list of different names, or an "
        "object of name to description); if the field has another meaning, add --ignore-columns labels"
    )


def _tasks_fault(tasks: Mapping[str, Any]) -> str | None:
    try:
        hold_options(cast("SubmitOptions", tasks))
    except TypeError as failure:
        [*names] = tasks
        return (
            f"its `{'`, `'.join(names)}` are not tasks of a document ({failure}); if they have another meaning, "
            f"add --ignore-columns {','.join(names)}"
        )
    return None


def _options_fault(options: Any) -> str | None:
    if options is None or (isinstance(options, dict) and options.keys() <= {*MODEL_OPTIONS}):
        return None
    return (
        f"its `options`, {_shorten_value(options)}, are not Gleaner's options (an object of "
        f"{', '.join(MODEL_OPTIONS)}); if the field has another meaning, add --ignore-columns options"
    )


def _shorten_value(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _describe_type(value: Any) -> str:
    kinds = {bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
