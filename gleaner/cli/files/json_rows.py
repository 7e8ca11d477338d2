"""JSON lines and JSON lists -> rows: objects with a text, or strings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gleaner.cli.files.lines import Lines
from gleaner.cli.files.opening import open_text
from gleaner.cli.files.rows import (
    BOM,
    RECORD_CHARACTERS,
    Fault,
    InputError,
    Reading,
    Row,
    encoding_fault,
    make_row,
    undecoded,
)

_PIECE: Final = 1 << 20
_SPACE: Final = re.compile(r"[ \t\r\n]*")


def parse_json(text: str) -> Any:
    """Return a JSON value.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json_lines(path: Path, reading: Reading, name: str, _note: object) -> Iterator[Row | Fault]:
    """Yield the documents of JSON lines; a line that is none is a fault, and the next ones are read.

    Raises:
        InputError: the file cannot be decoded.
        OSError: it cannot be opened.
    """
    with open_text(path, reading.encoding) as opened:
        lines = Lines(opened.stream, name)
        while True:
            lines.begin()
            line = lines.read()
            if not line:
                return
            if line.isspace():
                continue
            where, number = f"{name}, line {lines.number}", lines.number
            if byte := undecoded(line):
                yield Fault(where, encoding_fault(byte, reading.encoding), str(number))
                continue
            try:
                value = parse_json(line.removeprefix(BOM))  # files with marks may have been joined
                _require_single(line, value, reading.columns.text)
            except ValueError as failure:
                yield Fault(where, f"not a JSON document ({failure}){_hint(line, number)}", str(number))
                continue
            yield _as_row(value, reading, where, number)


def read_json_list(path: Path, reading: Reading, name: str, note: object) -> Iterator[Row | Fault]:
    """Yield the documents of a JSON list, piece by piece; a file of JSON lines is read as such.

    Raises:
        InputError: it is neither; says what it is.
        OSError: it cannot be opened.
    """
    with open_text(path, reading.encoding) as opened:
        elements = _Elements(opened.stream, name, reading.encoding)
        first = elements.peek()
        if first == "[":
            for number, (value, line) in enumerate(elements.read(), start=1):
                yield _as_row(value, reading, f"{name}, line {line} (document {number})", number)
            return
    if first != "{" or not _first_line_is_json(path, reading):
        raise InputError(f"{name}: neither a list of documents, [ … ], nor JSON lines")
    yield from read_json_lines(path, reading, name, note)


class _Elements:
    """A list's elements, decoded one by one from pieces of the text."""

    def __init__(self, stream: Any, name: str, encoding: str | None) -> None:
        self._stream, self._name, self._encoding = stream, name, encoding
        self._text, self._at, self._line, self._ended = "", 0, 1, False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is no white space, or nothing at the end."""
        while True:
            self._move(_SPACE.match(self._text, self._at).end())  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def read(self) -> Iterator[tuple[Any, int]]:
        """Yield each element and the line where it begins.

        Raises:
            InputError: the list is broken; says where.
        """
        self._move(self._at + 1)
        if self.peek() == "]":
            self._move(self._at + 1)
        else:
            while True:
                self.peek()
                line = self._line
                yield self._value(), line
                end = self.peek()
                if end not in (",", "]"):
                    raise self._broken("a comma or ] is missing")
                self._move(self._at + 1)
                if end == "]":
                    break
        if self.peek():
            raise self._broken("text after the list's end")

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._broken("nested too deeply") from None
            except ValueError as failure:
                if not self._more():
                    raise self._broken(f"not JSON ({failure.args[0].partition(':')[0]})") from None
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._move(end)
            return value

    def _more(self) -> bool:
        """Read on, twice as far each time, so that a long element is not decoded again too often."""
        rest = self._text[self._at :]
        if len(rest) > RECORD_CHARACTERS:
            raise self._broken("an element that is too large")
        piece = "" if self._ended else self._stream.read(max(_PIECE, len(rest)))
        self._ended = not piece
        if byte := undecoded(piece):
            raise self._broken(encoding_fault(byte, self._encoding))
        self._text, self._at = rest + piece, 0
        return bool(piece)

    def _move(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _broken(self, why: str) -> InputError:
        return InputError(f"{self._name}, line {self._line}: {why}")


def _require_single(line: str, value: Any, name: str) -> None:
    """Raise where an object has its text twice, of which the last would be taken in silence.

    Raises:
        ValueError: it has.
    """
    if isinstance(value, dict) and line.count(f'"{name}"') > 1:
        pairs = json.loads(line.removeprefix(BOM), object_pairs_hook=list)
        if sum(field == name for field, _ in pairs) > 1:
            raise ValueError(f"the field {name!r} is there twice")


def _as_row(value: Any, reading: Reading, where: str, number: int) -> Row | Fault:
    if isinstance(value, str):
        return Row(str(number), value, where=where)
    if not isinstance(value, dict):
        return Fault(where, "neither an object nor a string", str(number))
    return make_row(value, reading, where, number)


def _first_line_is_json(path: Path, reading: Reading) -> bool:
    with open_text(path, reading.encoding) as opened:
        lines = Lines(opened.stream, str(path))
        for line in lines:
            if not line.isspace():
                try:
                    return isinstance(parse_json(line), dict | str)
                except ValueError:
                    return False
    return False


def _hint(line: str, number: int) -> str:
    start = line.lstrip()[:1]
    if number == 1 and start == "[":
        return "; a list is read with --format json"
    return ""
