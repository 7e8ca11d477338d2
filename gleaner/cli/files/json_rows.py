"""Read rows from JSON lines and JSON lists: objects with a text, or strings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gleaner.cli.files.decoding import open_text
from gleaner.cli.files.lines import TextLine, read_lines
from gleaner.cli.files.rows import (
    BOM,
    RECORD_CHARACTERS,
    Fault,
    InputError,
    Reading,
    Row,
    encoding_fault,
    find_undecoded,
    make_row,
)

_BLOCK_CHARACTERS: Final = 1 << 20
_SPACE: Final = re.compile(r"[ \t\r\n]*")


def parse_json(text: str) -> Any:
    """Parse a JSON value.

    Raises:
        ValueError: it is invalid, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json_lines(path: Path, reading: Reading, name: str, _note: object) -> Iterator[Row | Fault]:
    """Yield the documents of JSON lines; an invalid line is a fault, and reading continues with the next one.

    Raises:
        InputError: the file cannot be decoded.
        OSError: it cannot be opened.
    """
    for line in read_lines(path, reading.encoding, name):
        if isinstance(line, Fault):
            yield line
            continue
        try:
            value = parse_json(line.text.removeprefix(BOM))  # files with byte order marks may have been joined
            _require_single(line.text, value, reading.text_column)
        except ValueError as failure:
            is_list = line.number == 1 and line.text.lstrip().startswith("[")
            hint = "; for a JSON list, add --format json" if is_list else ""
            yield Fault(line.where, f"not a JSON document ({failure}){hint}", str(line.number))
        else:
            yield _as_row(value, reading, line.where, line.number)


def read_json_list(path: Path, reading: Reading, name: str, note: object) -> Iterator[Row | Fault]:
    """Yield the documents of a JSON list, read in blocks; JSON lines are accepted too.

    Raises:
        InputError: the file is neither.
        OSError: it cannot be opened.
    """
    with open_text(path, reading.encoding) as opened:
        elements = _Elements(opened.stream, name, reading.encoding)
        first = elements.peek_character()
        if first == "[":
            for number, (value, line) in enumerate(elements.read_elements(), start=1):
                yield _as_row(value, reading, f"{name}, line {line} (document {number})", number)
            return
    if first != "{" or not _first_line_is_json(path, reading):
        raise InputError(f"{name}: neither a JSON list of documents, [ … ], nor JSON lines; check --format")
    yield from read_json_lines(path, reading, name, note)


class _Elements:
    """Decodes the elements of a JSON list one by one from blocks of the text."""

    def __init__(self, stream: Any, name: str, encoding: str | None) -> None:
        self._stream, self._name, self._encoding = stream, name, encoding
        self._text, self._at, self._line, self._ended = "", 0, 1, False
        self._decoder = json.JSONDecoder()

    def peek_character(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        while True:
            self._advance(_SPACE.match(self._text, self._at).end())  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._read_more():
                return self._text[self._at : self._at + 1]

    def read_elements(self) -> Iterator[tuple[Any, int]]:
        """Yield each element and the line where it begins.

        Raises:
            InputError: the list is invalid; the message has the line.
        """
        self._advance(self._at + 1)
        if self.peek_character() == "]":
            self._advance(self._at + 1)
        else:
            while True:
                self.peek_character()
                line = self._line
                yield self._read_value(), line
                end = self.peek_character()
                if end not in (",", "]"):
                    raise self._make_error("missing comma or ]")
                self._advance(self._at + 1)
                if end == "]":
                    break
        if self.peek_character():
            raise self._make_error("text after the end of the list")

    def _read_value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._make_error("nested too deeply") from None
            except ValueError as failure:
                if not self._read_more():
                    raise self._make_error(f"not JSON ({failure.args[0].partition(':')[0]})") from None
                continue
            if end == len(self._text) and self._read_more():
                continue  # a number may continue
            self._advance(end)
            return value

    def _read_more(self) -> bool:
        """Read the next block, twice as large each time, so that a long element is not decoded too often."""
        rest = self._text[self._at :]
        if len(rest) > RECORD_CHARACTERS:
            raise self._make_error("an element is too large")
        block = "" if self._ended else self._stream.read(max(_BLOCK_CHARACTERS, len(rest)))
        self._ended = not block
        if byte := find_undecoded(block):
            raise self._make_error(encoding_fault(byte, self._encoding))
        self._text, self._at = rest + block, 0
        return bool(block)

    def _advance(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _make_error(self, why: str) -> InputError:
        return InputError(f"{self._name}, line {self._line}: {why}")


def _require_single(line: str, value: Any, name: str) -> None:
    """Raise if an object has its text twice, because the parser would silently keep the last.

    Raises:
        ValueError: the text field occurs twice.
    """
    if isinstance(value, dict) and line.count(f'"{name}"') > 1:
        pairs = json.loads(line.removeprefix(BOM), object_pairs_hook=list)
        if sum(field == name for field, _ in pairs) > 1:
            raise ValueError(f"the field {name!r} occurs twice")


def _as_row(value: Any, reading: Reading, where: str, number: int) -> Row | Fault:
    if isinstance(value, str):
        return Row(str(number), value, where=where)
    if not isinstance(value, dict):
        return Fault(where, "neither an object nor a string", str(number))
    return make_row(value, reading, where, number)


def _first_line_is_json(path: Path, reading: Reading) -> bool:
    line = next(read_lines(path, reading.encoding, str(path)), None)
    try:
        return isinstance(line, TextLine) and isinstance(parse_json(line.text), dict | str)
    except ValueError:
        return False
