"""Text -> physical lines, each with its number; lines can be handed back, to be read again.

Lines end as the first one does: in a file whose lines end in a line feed, a single carriage return is text.
"""

from __future__ import annotations

import io
from collections import deque
from typing import Final

from gleaner.cli.files.rows import RECORD_CHARACTERS, InputError

_MIB: Final = RECORD_CHARACTERS >> 20


class Lines:
    """The lines of a text, with their ends as they are.

    Args:
        stream: opened with `newline=""`, so that line ends stay.
        name: of the file, for messages.

    Attributes:
        number: the number of the line that was read last, from 1.
        record: lines since `begin`, as they were read.
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
        line = self.read()
        if not line:
            raise StopIteration
        return line

    def begin(self) -> None:
        """Begin a record: what was read before is forgotten."""
        self.record.clear()
        self._characters = 0

    def read(self) -> str:
        """Return the next line, or nothing at the end.

        Raises:
            InputError: the record is longer than what is read at once.
        """
        line = self._returned.popleft() if self._returned else self._read()
        if line:
            self.number += 1
            self._characters += len(line)
            if self._characters > RECORD_CHARACTERS:
                first = self.number - len(self.record)
                raise InputError(f"{self._name}, line {first}: a record of more than {_MIB} Mi characters")
            self.record.append(line)
        return line

    def _read(self) -> str:
        line = self._stream.readline(RECORD_CHARACTERS + 1)
        if not self._feeds and line.endswith("\n") and not self.number:
            self._feeds = True
        while self._feeds and line.endswith("\r") and len(line) <= RECORD_CHARACTERS:
            more = self._stream.readline(RECORD_CHARACTERS + 1)
            if not more:
                break
            line += more
        return line

    def hand_back(self, count: int) -> None:
        """Have the last lines of the record read again."""
        if count:
            self._returned.extendleft(reversed(self.record[-count:]))
            del self.record[-count:]
            self.number -= count
