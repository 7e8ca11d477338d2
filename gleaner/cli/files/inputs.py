"""A command's files -> one sequence of documents, checked: faults are known before anything is submitted."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from gleaner.cli.files import readers
from gleaner.cli.files.json_rows import parse_json
from gleaner.cli.files.opening import open_text
from gleaner.cli.files.outputs import Outputs
from gleaner.cli.files.readers import Format
from gleaner.cli.files.rows import Fault, InputError, Reading, Row
from gleaner.cli.files.tables import Note

_SHOWN: Final = 20
"""Faults that are listed; of a large file with another shape every line is one."""


class OnBadLine(StrEnum):
    """What becomes of a line, row or file that is no document."""

    reject = "reject"
    skip = "skip"
    fail_document = "fail_document"


@dataclass(frozen=True, slots=True)
class Source:
    """An input file; `name` is what the user called it."""

    name: str
    path: Path
    kind: Format


@dataclass(slots=True)
class Faults:
    """What cannot be read: the first ones in words, all of them as a number."""

    count: int = 0
    listed: list[str] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Take note of one."""
        self.count += 1
        if len(self.listed) < _SHOWN:
            self.listed.append(str(fault))

    def lines(self) -> list[str]:
        """Return one line for each that is listed, and one for the rest."""
        more = self.count - len(self.listed)
        return [*self.listed, *([f"and {more} more"] if more else [])]


@dataclass(frozen=True, slots=True)
class Inputs:
    """All input of a run, looked at once before anything is submitted.

    Attributes:
        total: documents in all.
        digest: of the contents.
        faults: what is left out, or fails.
        notes: what was assumed about files, for the user to see.
    """

    sources: tuple[Source | Fault, ...]
    reading: Reading
    on_bad_line: OnBadLine
    total: int
    digest: str
    faults: Faults
    notes: tuple[str, ...]

    @property
    def skipped(self) -> int:
        """Lines, rows and files that are left out."""
        return self.faults.count if self.on_bad_line is OnBadLine.skip else 0

    def rows(self) -> Iterator[Row]:
        """Yield every document in order.

        Raises:
            InputError: a file is not what it was when it was looked at.
        """
        count = 0
        for item in _items(self.sources, self.reading, lambda _said: None):
            if isinstance(item, Fault):
                if self.on_bad_line is OnBadLine.reject:
                    raise InputError(f"{item}; it was readable before: was the file changed?")
                if self.on_bad_line is OnBadLine.skip:
                    continue
                item = item.as_row()
            count += 1
            yield item
        if count != self.total:
            raise InputError(f"{count} documents, where there were {self.total} before: were the files changed?")


@contextlib.contextmanager
def look_at(
    files: list[Path], kind: Format | None, reading: Reading, on_bad_line: OnBadLine, outputs: Outputs
) -> Iterator[Inputs]:
    """Read every file once: how many documents there are, what is none, what digest the files have.

    Args:
        files: paths and patterns; `-` is standard input.
        kind: what they are; None goes by their names.
        reading: how they are read.
        on_bad_line: `reject` raises where something is no document.
        outputs: what the command writes, which must be none of the files.

    Raises:
        InputError: something is no document (all of it is listed), or there are no documents.
        CommandError: an output is one of the files.
    """
    with tempfile.TemporaryDirectory(prefix="gleaner-") as spool:
        notes: dict[str, None] = {}
        paths = list(outputs.leave_out(_paths(files), lambda said: notes.update({said: None})))
        sources = tuple(_source(path, kind, Path(spool), reading) for path in paths)
        faults, total = Faults(), 0
        for item in _items(sources, reading, lambda said: notes.update({said: None})):
            if isinstance(item, Fault):
                faults.add(item)
                total += on_bad_line is OnBadLine.fail_document
            else:
                total += 1
        if faults.count and (on_bad_line is OnBadLine.reject or not total):
            raise InputError(_complain(faults, on_bad_line, total))
        if not total:
            raise InputError("no documents: the input is empty")
        yield Inputs(sources, reading, on_bad_line, total, _digest(sources), faults, tuple(notes))


def _paths(files: list[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield each file, and True where a pattern named it."""
    for path in files:
        matches = None if str(path) == "-" else readers.expand(path)
        yield from ((path, False),) if matches is None else ((match, True) for match in matches)


def _items(sources: tuple[Source | Fault, ...], reading: Reading, note: Note) -> Iterator[Row | Fault]:
    for source in sources:
        if isinstance(source, Fault):
            yield source
        else:
            yield from readers.read(source.path, source.kind, reading, source.name, note)


def _complain(faults: Faults, on_bad_line: OnBadLine, total: int) -> str:
    """Return all faults in words, and what to do."""
    if faults.count == 1:
        said = faults.listed[0]
    else:
        said = "\n  ".join([f"{faults.count} lines, rows or files are no documents:", *faults.lines()])
    if not total:
        return said
    if on_bad_line is OnBadLine.reject:
        return (
            f"{said}\n  Nothing was submitted. Correct this, or go on with what can be read (documents: {total}): "
            "--on-bad-line skip leaves the rest out, --on-bad-line fail_document writes a failed document in its "
            "place."
        )
    return said


def _digest(sources: tuple[Source | Fault, ...]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        if isinstance(source, Fault):
            digest.update(b"unread\0" + source.id.encode(errors="surrogateescape") + b"\0")
            continue
        digest.update(source.name.encode(errors="surrogateescape") + b"\0")
        with contextlib.suppress(OSError), source.path.open("rb") as file:  # a fault already
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _source(path: Path, kind: Format | None, spool: Path, reading: Reading) -> Source | Fault:
    if str(path) != "-":
        try:
            source = Source(str(path), path, readers.format_of(path, kind))
        except InputError as failure:
            return Fault(str(path), str(failure).partition(": ")[2], str(path))
        if not path.is_fifo():
            return source
        spooled = spool / f"pipe{len(list(spool.iterdir()))}"  # it can be read once: the shell's <( … )
        with path.open("rb") as pipe, spooled.open("wb") as file:
            shutil.copyfileobj(pipe, file)
        return replace(source, path=spooled)
    if sys.stdin is None:
        raise InputError("standard input is closed; name a file")
    # Read twice like any file, and so resumable: the same bytes on standard input are the same run.
    spooled = spool / "stdin"
    with spooled.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if kind is None:
        _require_text(spooled, reading)
    return Source("stdin", spooled, kind or Format.txt)


def _require_text(path: Path, reading: Reading) -> None:
    """Raise where standard input, which is one text unless said, looks like documents in another form.

    Raises:
        InputError: it does; says which.
    """
    try:
        with open_text(path, reading.encoding) as opened:
            start = opened.stream.read(1 << 16)
    except InputError as failure:
        raise InputError(f"stdin: {failure}") from None
    line = next((line for line in io.StringIO(start, newline=None) if not line.isspace()), "").strip()
    kind = _kind_of(line, reading)
    if kind is not None:
        raise InputError(
            f"standard input looks like {kind.upper()}; say --format {kind} if it is, or --format txt to have it "
            "read as one text"
        )


def _kind_of(line: str, reading: Reading) -> Format | None:
    with contextlib.suppress(ValueError):
        value = parse_json(line)
        if isinstance(value, dict | list | str):
            return Format.json if isinstance(value, list) else Format.jsonl
    if re.match(r"\[\s*(?:$|[{\"])", line):
        return Format.json
    if re.match(r"<(?:!doctype\s+html|html|head|body)\b", line, re.IGNORECASE):
        return Format.html
    for delimiter, kind in (("\t", Format.tsv), (",", Format.csv), (";", Format.csv), ("|", Format.csv)):
        cells = [cell.strip('"') for cell in line.split(delimiter)]
        if len(cells) > 1 and reading.columns.text in cells:
            return kind
    return None
