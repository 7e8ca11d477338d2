"""Read a command's files as one sequence of documents; all faults are found before anything is submitted."""

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
from pathlib import Path
from typing import Final

from gleaner.cli.files import readers
from gleaner.cli.files.decoding import open_text
from gleaner.cli.files.json_rows import parse_json
from gleaner.cli.files.outputs import Outputs
from gleaner.cli.files.rows import Fault, Format, InputError, OnBadLine, Reading, Row
from gleaner.cli.files.tables import Note

_SHOWN: Final = 20
"""Maximum number of faults that are listed; in a large file of another format every line is one."""


@dataclass(frozen=True, slots=True)
class Source:
    """An input file; `name` is the user's name for it."""

    name: str
    path: Path
    kind: Format


@dataclass(slots=True)
class Faults:
    """Faults of the input: all are counted, the first ones are listed."""

    count: int = 0
    listed: list[str] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        self.count += 1
        if len(self.listed) < _SHOWN:
            self.listed.append(str(fault))

    def describe(self) -> list[str]:
        """Return one line per listed fault, and one for the rest."""
        more = self.count - len(self.listed)
        return [*self.listed, *([f"and {more} more"] if more else [])]


@dataclass(frozen=True, slots=True)
class Inputs:
    """All input of a run, checked before anything is submitted.

    Attributes:
        total: number of documents.
        digest: SHA-256 of names and contents.
        faults: lines, rows and files that are skipped or fail.
        notes: assumptions about the files, to be shown to the user.
    """

    sources: tuple[Source | Fault, ...]
    reading: Reading
    total: int
    digest: str
    faults: Faults
    notes: tuple[str, ...]

    @property
    def skipped(self) -> int:
        """Number of lines, rows and files that are skipped."""
        return self.faults.count if self.reading.on_bad_line is OnBadLine.SKIP else 0

    def read_rows(self) -> Iterator[Row]:
        """Yield every document in order.

        Raises:
            InputError: a file has changed since it was checked.
        """
        count = 0
        for item in _read_items(self.sources, self.reading, lambda _said: None):
            if isinstance(item, Fault):
                if self.reading.on_bad_line is OnBadLine.REJECT:
                    raise InputError(f"{item}; the file has changed since it was checked; run the command again")
                if self.reading.on_bad_line is OnBadLine.SKIP:
                    continue
                item = item.as_row()
            count += 1
            yield item
        if count != self.total:
            raise InputError(
                f"the files have changed since they were checked ({count} documents instead of {self.total}); run "
                "the command again"
            )


@contextlib.contextmanager
def open_inputs(files: list[Path], reading: Reading, outputs: Outputs) -> Iterator[Inputs]:
    """Read every file once to count the documents, find the faults and compute the digest.

    Args:
        files: paths and patterns; `-` is standard input.
        reading: options of reading; `reject` raises an error if there are faults.
        outputs: files that the command writes, which must not be inputs.

    Raises:
        InputError: there are faults, which the message lists, or there are no documents.
        CommandError: an output is one of the inputs.
    """
    with tempfile.TemporaryDirectory(prefix="gleaner-") as spool:
        notes: dict[str, None] = {}
        paths = list(outputs.exclude_outputs(_expand_paths(files), lambda note: notes.update({note: None})))
        sources = tuple(_open_source(path, Path(spool), reading) for path in paths)
        faults, total, on_bad_line = Faults(), 0, reading.on_bad_line
        for item in _read_items(sources, reading, lambda note: notes.update({note: None})):
            if isinstance(item, Fault):
                faults.add(item)
                total += on_bad_line is OnBadLine.FAIL_DOCUMENT
            else:
                total += 1
        if faults.count and (on_bad_line is OnBadLine.REJECT or not total):
            raise InputError(_describe_faults(faults, on_bad_line, total))
        if not total:
            raise InputError("the input is empty; name files with documents")
        yield Inputs(sources, reading, total, _compute_digest(sources), faults, tuple(notes))


def _expand_paths(files: list[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield each file, with True if a pattern matched it."""
    for path in files:
        matches = None if str(path) == "-" else readers.expand_pattern(path)
        yield from ((path, False),) if matches is None else ((match, True) for match in matches)


def _read_items(sources: tuple[Source | Fault, ...], reading: Reading, note: Note) -> Iterator[Row | Fault]:
    for source in sources:
        if isinstance(source, Fault):
            yield source
        else:
            yield from readers.read_documents(source.path, source.kind, reading, source.name, note)


def _describe_faults(faults: Faults, on_bad_line: OnBadLine, total: int) -> str:
    """Return a message that lists the faults and says what to do."""
    if faults.count == 1:
        message = faults.listed[0]
    else:
        title = f"{faults.count} lines, rows or files are not valid documents:"
        message = "\n  ".join([title, *faults.describe()])
    if total and on_bad_line is OnBadLine.REJECT:
        message += (
            f"\n  Nothing was submitted. Fix the input, or continue with the valid documents ({total}): "
            "--on-bad-line skip omits the rest, --on-bad-line fail_document writes a failed document for each."
        )
    return message


def _compute_digest(sources: tuple[Source | Fault, ...]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        if isinstance(source, Fault):
            digest.update(b"unread\0" + source.id.encode(errors="surrogateescape") + b"\0")
            continue
        digest.update(source.name.encode(errors="surrogateescape") + b"\0")
        with contextlib.suppress(OSError), source.path.open("rb") as file:  # already reported as a fault
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _open_source(path: Path, spool: Path, reading: Reading) -> Source | Fault:
    if str(path) != "-":
        try:
            source = Source(str(path), path, readers.format_of(path, reading.kind))
        except InputError as failure:
            return Fault(str(path), str(failure).partition(": ")[2], str(path))
        if not path.is_fifo():
            return source
        # A pipe, as of the shell's <( … ), can be read only once.
        spooled = spool / f"pipe{len(list(spool.iterdir()))}"
        with path.open("rb") as pipe, spooled.open("wb") as file:
            shutil.copyfileobj(pipe, file)
        return replace(source, path=spooled)
    if sys.stdin is None:
        raise InputError("standard input is closed; name a file")
    # Spooled to be read twice like a file, so that runs are resumable: the same bytes are the same run.
    spooled = spool / "stdin"
    with spooled.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if reading.kind is None:
        _require_text(spooled, reading)
    return Source("stdin", spooled, reading.kind or Format.TXT)


def _require_text(path: Path, reading: Reading) -> None:
    """Raise if standard input, which is one text by default, looks like another format.

    Raises:
        InputError: it does; the message names the format.
    """
    try:
        with open_text(path, reading.encoding) as opened:
            start = opened.stream.read(1 << 16)
    except InputError as failure:
        raise InputError(f"stdin: {failure}") from None
    line = next((line for line in io.StringIO(start, newline=None) if not line.isspace()), "").strip()
    kind = _detect_format(line, reading)
    if kind is not None:
        raise InputError(
            f"standard input looks like {kind.upper()}; add --format {kind}, or --format txt to read it as one text"
        )


def _detect_format(line: str, reading: Reading) -> Format | None:
    with contextlib.suppress(ValueError):
        value = parse_json(line)
        if isinstance(value, dict | list | str):
            return Format.JSON if isinstance(value, list) else Format.JSONL
    if re.match(r"\[\s*(?:$|[{\"])", line):
        return Format.JSON
    if re.match(r"<(?:!doctype\s+html|html|head|body)\b", line, re.IGNORECASE):
        return Format.HTML
    for delimiter, kind in (("\t", Format.TSV), (",", Format.CSV), (";", Format.CSV), ("|", Format.CSV)):
        cells = [cell.strip('"') for cell in line.split(delimiter)]
        if len(cells) > 1 and reading.text_column in cells:
            return kind
    return None
