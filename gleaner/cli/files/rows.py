"""A file's rows before they are submitted: documents, and what cannot be read as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from gleaner.client.calls import _MODEL_OPTIONS as MODEL_OPTIONS

OffsetUnit = Literal["codepoint", "utf16", "byte"]
RECORD_CHARACTERS: Final = 64 * 1024 * 1024
"""The longest line, table row or text that is read: what one document may take of this command's memory."""
BOM: Final = "\ufeff"

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNDECODED: Final = re.compile("[\udc80-\udcff]")


class InputError(Exception):
    """A file that cannot be read as what it is said to be; `str()` says where and what to do."""


class Quotes(StrEnum):
    """What a double quote means in a table."""

    doubled = "doubled"
    literal = "literal"


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row keeps its text and its id; rows without the id column are numbered.

    Attributes:
        id: None takes a column `id` where there is one.
    """

    text: str = "text"
    id: str | None = None

    @property
    def id_name(self) -> str:
        """The id's column, whether it was named by the user or not."""
        return self.id or "id"


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read.

    Attributes:
        columns: where rows keep text and id.
        delimiter: what parts a table's cells; None goes by the format and the header.
        encoding: a label of the Encoding Standard or of Python; None is UTF-8, or what an HTML page says.
        quotes: what quotes mean in tables.
        ignored: fields of JSON lines (`labels`, `options`) that are not Gleaner's.
        unit: what the offsets of results will count.
        split: cut texts that are too large for one document.
    """

    columns: Columns = field(default_factory=Columns)
    delimiter: str | None = None
    encoding: str | None = None
    quotes: Quotes = Quotes.doubled
    ignored: frozenset[str] = frozenset()
    unit: OffsetUnit = "codepoint"
    split: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A document before it is submitted.

    Attributes:
        id: what its result is called in the output; need not be unique.
        labels: its own labels, from a JSON line that has some.
        options: its own options, likewise.
        where: file and line, for messages.
        base: what is added to the offsets of its results.
        marked: the file began with a byte order mark that byte offsets count.
        fault: why it is not submitted, but fails alone as `invalid_document`.
    """

    id: str
    text: str
    labels: Any = None
    options: Any = None
    where: str = field(default="", compare=False)
    base: int = 0
    marked: bool = False
    fault: str | None = None

    def document(self) -> dict[str, Any]:
        """The document as the client submits it; ids stay here, so that equal ones do no harm."""
        document: dict[str, Any] = {"text": self.text}
        if self.labels is not None:
            document["labels"] = self.labels
        if self.options is not None:
            document["options"] = self.options
        return document


@dataclass(frozen=True, slots=True)
class Fault:
    """A line, row or file that is no document; `--on-bad-line` decides what becomes of it.

    Attributes:
        where: file and line.
        why: what is wrong, and what to do.
        id: what it is called in the output.
    """

    where: str
    why: str
    id: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"

    def as_row(self) -> Row:
        """The row that fails in its place."""
        return Row(self.id, "", where=self.where, fault=str(self))


def make_row(values: Mapping[str, Any], reading: Reading, where: str, number: int) -> Row | Fault:
    """Return the document that a line or a table's row holds, or why it is none.

    Args:
        values: fields by name.
        reading: which fields count.
        where: file and line.
        number: its id where it has none.
    """
    columns = reading.columns
    name, why = _read_id(values, columns, number)
    text = values.get(columns.text)
    if why is None and text is None and columns.text not in values:
        fields = ", ".join(map(repr, values)) or "none"
        why = f"no field {columns.text!r}; choose with --text-column (there are: {fields})"
    if why is None and isinstance(text, dict | list):
        why = f"{columns.text!r} is not text but {_kind(text)}; choose another field with --text-column"
    labels = None if "labels" in reading.ignored else values.get("labels")
    options = None if "options" in reading.ignored else values.get("options")
    why = why or _labels_fault(labels) or _options_fault(options)
    if why is not None:
        return Fault(where, why, name)
    if isinstance(text, str):
        return Row(name, text, labels, options, where)
    if text is None or text != text:  # NaN is not itself
        # A hole in the data is one document's matter: it is submitted, and fails alone as empty_text.
        return Row(name, "", labels, options, where)
    return Row(name, "", labels, options, where, fault=f"{where}: {columns.text!r} is not text but {_kind(text)}")


def undecoded(text: str) -> str | None:
    """Return the first byte that could not be decoded, as 0xe9, or None.

    Decoding leaves such bytes as half surrogates, which decoded text never holds.
    """
    match = None if text.isascii() else _UNDECODED.search(text)
    return None if match is None else f"0x{ord(match[0]) - 0xDC00:02x}"


def encoding_fault(byte: str, encoding: str | None) -> str:
    """Return what to say of a byte that has no meaning in the encoding."""
    if encoding is None:
        return f"not UTF-8 (byte {byte}); say which it is with --encoding, as --encoding windows-1252"
    return f"byte {byte} is none of {encoding}; choose another --encoding"


def require_column(columns: Columns, names: Iterable[str], name: str) -> None:
    """Raise where a table lacks a column that is read, or has it twice.

    Raises:
        InputError: it does; says which columns there are.
    """
    there = list(names)
    wanted = [("--text-column", columns.text), *([] if columns.id is None else [("--id-column", columns.id)])]
    for option, column in wanted:
        if column not in there:
            listed = ", ".join(there) or "none"
            raise InputError(f"{name}: no column {column!r}; choose with {option} (there are: {listed})")
    for column in (columns.text, columns.id_name):
        if there.count(column) > 1:
            raise InputError(f"{name}: the header has {column!r} {there.count(column)} times; rename all but one")


def _read_id(values: Mapping[str, Any], columns: Columns, number: int) -> tuple[str, str | None]:
    value, numbered = values.get(columns.id_name), str(number)
    if columns.id is not None and columns.id not in values:
        return numbered, f"no field {columns.id!r}; choose with --id-column, or leave that away to number the rows"
    if value is None or value == "" or value != value:
        return numbered, None
    if isinstance(value, dict | list):
        return numbered, f"the id {columns.id_name!r} is neither text nor a number but {_kind(value)}"
    if _CONTROLS.search(str(value)):
        return numbered, f"the id {str(value)!r} holds a control character or line break"
    return str(value), None


def _labels_fault(labels: Any) -> str | None:
    if labels is None:
        return None
    names = list(labels) if isinstance(labels, list | dict) else []
    good = bool(names) and all(isinstance(name, str) and name.strip() for name in names)
    if good and isinstance(labels, dict):
        good = all(value is None or isinstance(value, str) for value in labels.values())
    if good and len({*names}) == len(names):
        return None
    return (
        f"its `labels`, {_shorten(labels)}, are not labels to look for (a list of different names, or an object of "
        "name and description); if the field means something else: --ignore-columns labels"
    )


def _options_fault(options: Any) -> str | None:
    if options is None or (isinstance(options, dict) and options.keys() <= {*MODEL_OPTIONS}):
        return None
    return (
        f"its `options`, {_shorten(options)}, are not options of Gleaner (an object of {', '.join(MODEL_OPTIONS)})"
        "; if the field means something else: --ignore-columns options"
    )


def _shorten(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _kind(value: Any) -> str:
    kinds = {bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
