"""Rows of files before they are submitted: documents, and faults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from gleaner.client.calls import _MODEL_OPTIONS as MODEL_OPTIONS

OffsetUnit = Literal["codepoint", "utf16", "byte"]
RECORD_CHARACTERS: Final = 64 * 1024 * 1024
"""Maximum length of a line, table row or text, which bounds the memory of this command."""
BOM: Final = "\ufeff"

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNDECODED: Final = re.compile("[\udc80-\udcff]")


class InputError(Exception):
    """A file cannot be read in its format; `str()` says where and what to do."""


class Quotes(StrEnum):
    """Meaning of a double quote in a table."""

    DOUBLED = "doubled"
    LITERAL = "literal"


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a row's text and id; rows without the id column are numbered.

    Attributes:
        id: None uses the column `id` if there is one.
    """

    text: str = "text"
    id: str | None = None

    @property
    def id_name(self) -> str:
        """Name of the id column, whether the user named it or not."""
        return self.id or "id"


@dataclass(frozen=True, slots=True)
class Reading:
    """Options of reading files.

    Attributes:
        columns: columns of text and id.
        delimiter: delimiter of a table's cells; None detects it from the format and the header.
        encoding: a label of the Encoding Standard or of Python; None is UTF-8, or an HTML page's charset.
        quotes: meaning of quotes in tables.
        ignored: fields of JSON lines (`labels`, `options`) to ignore.
        unit: unit of the results' offsets.
        split: split texts that are too large for one document.
    """

    columns: Columns = field(default_factory=Columns)
    delimiter: str | None = None
    encoding: str | None = None
    quotes: Quotes = Quotes.DOUBLED
    ignored: frozenset[str] = frozenset()
    unit: OffsetUnit = "codepoint"
    split: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A document before it is submitted.

    Attributes:
        id: id of its result in the output; need not be unique.
        labels: labels of this document, from a JSON line.
        options: options of this document, likewise.
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

    def to_document(self) -> dict[str, Any]:
        """Return the document as the client submits it, without its id, because ids need not be unique."""
        document: dict[str, Any] = {"text": self.text}
        if self.labels is not None:
            document["labels"] = self.labels
        if self.options is not None:
            document["options"] = self.options
        return document


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
    columns = reading.columns
    name, why = _read_id(values, columns, number)
    text = values.get(columns.text)
    if why is None and text is None and columns.text not in values:
        fields = ", ".join(map(repr, values)) or "none"
        why = f"no field {columns.text!r}; choose one with --text-column (fields: {fields})"
    if why is None and isinstance(text, dict | list):
        why = f"{columns.text!r} is not text but {_describe_type(text)}; choose another field with --text-column"
    labels = None if "labels" in reading.ignored else values.get("labels")
    options = None if "options" in reading.ignored else values.get("options")
    why = why or _labels_fault(labels) or _options_fault(options)
    if why is not None:
        return Fault(where, why, name)
    if isinstance(text, str):
        return Row(name, text, labels, options, where)
    if text is None or text != text:  # NaN is not itself
        # A missing text concerns only this document: it is submitted, and fails as empty_text.
        return Row(name, "", labels, options, where)
    return Row(
        name, "", labels, options, where, fault=f"{where}: {columns.text!r} is not text but {_describe_type(text)}"
    )


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


def require_column(columns: Columns, names: Iterable[str], name: str) -> None:
    """Raise if a table lacks a column that is read, or has it twice.

    Raises:
        InputError: it does; the message lists the columns.
    """
    header = list(names)
    required = [("--text-column", columns.text), *([] if columns.id is None else [("--id-column", columns.id)])]
    for option, column in required:
        if column not in header:
            listed = ", ".join(header) or "none"
            raise InputError(f"{name}: no column {column!r}; choose one with {option} (columns: {listed})")
    for column in (columns.text, columns.id_name):
        if header.count(column) > 1:
            raise InputError(f"{name}: the header has {column!r} {header.count(column)} times; rename all but one")


def _read_id(values: Mapping[str, Any], columns: Columns, number: int) -> tuple[str, str | None]:
    value, numbered = values.get(columns.id_name), str(number)
    if columns.id is not None and columns.id not in values:
        return numbered, f"no field {columns.id!r}; choose one with --id-column, or omit it to number the rows"
    if value is None or value == "" or value != value:
        return numbered, None
    if isinstance(value, dict | list):
        return numbered, f"the id {columns.id_name!r} is neither text nor a number but {_describe_type(value)}"
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
