"""Read a file line by line with line numbers; lines can be unread, to be read again.

All lines end like the first one: if it ends with a line feed, a single carriage return is text.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gleaner.cli.files.decoding import open_text
from gleaner.cli.files.rows import RECORD_CHARACTERS, Fault, InputError, encoding_fault, find_undecoded

_MIB: Final = RECORD_CHARACTERS >> 20


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line with its line end; `where` is its file and number, for messages."""

    text: str
    number: int
    where: str


def read_lines(path: Path, encoding: str | None, name: str) -> Iterator[TextLine | Fault]:
    """Yield the lines that are not blank; one that cannot be decoded is a fault.

    Raises:
        InputError: the file is not text, or a line is too long.
        OSError: it cannot be opened.
    """
    with open_text(path, encoding) as opened:
        lines = Lines(opened.stream, name)
        for text in lines:
            where = f"{name}, line {lines.number}"
            if byte := find_undecoded(text):
                yield Fault(where, encoding_fault(byte, encoding), str(lines.number))
            elif not text.isspace():
                yield TextLine(text, lines.number, where)
            lines.begin_record()


class Lines:
    """Iterates over the lines of a text; line ends are kept.

    Args:
        stream: opened with `newline=""`, so that line ends are kept.
        name: name of the file, for messages.

    Attributes:
        number: number of the last line read, from 1.
        record: lines read since `begin_record`.
    """

    def __init__(self, stream: io.TextIOWrapper, name: str) -> None:
        self._stream = stream
        self._name = name
        self._returned: deque[str] = deque()
        self._characters = 0
        self._feeds = False
        self.number = 0
        self.record: list[str] = []

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self.read_line()
        if not line:
            raise StopIteration
        return line

    def begin_record(self) -> None:
        """Begin a record: clear the lines that were read before."""
        self.record.clear()
        self._characters = 0

    def read_line(self) -> str:
        """Return the next line, or "" at the end.

        Raises:
            InputError: the record is too long.
        """
        line = self._returned.popleft() if self._returned else self._read_physical_line()
        if line:
            self.number += 1
            self._characters += len(line)
            if self._characters > RECORD_CHARACTERS:
                first = self.number - len(self.record)
                raise InputError(f"{self._name}, line {first}: the record is longer than {_MIB} Mi characters")
            self.record.append(line)
        return line

    def _read_physical_line(self) -> str:
        line = self._stream.readline(RECORD_CHARACTERS + 1)
        if not self._feeds and line.endswith("\n") and not self.number:
            self._feeds = True
        while self._feeds and line.endswith("\r") and len(line) <= RECORD_CHARACTERS:
            more = self._stream.readline(RECORD_CHARACTERS + 1)
            if not more:
                break
            line += more
        return line

    def unread_lines(self, count: int) -> None:
        """Return the last lines of the record to the input, to be read again."""
        if count:
            self._returned.extendleft(reversed(self.record[-count:]))
            del self.record[-count:]
            self.number -= count
