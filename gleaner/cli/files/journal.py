"""What an `extract` run has done, kept next to its output, so that the same command goes on where it was killed.

Results go to `OUT.gleaner-lines`, which becomes OUT once all are there: what OUT held before stays until then.
`OUT.gleaner-state` is JSON lines, appended and synced: first what the run is, then `job` lines (a chunk was
submitted as this job) and `written` lines (its results are written up to this byte). A run that finds it cuts the
written lines back to the last such byte, so that a kill between the two leaves neither doubles nor holes.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gleaner.cli.files.outputs import LINES, STATE, helper

_VERSION = 2


class JournalError(Exception):
    """The output belongs to something else; `str()` says what to do."""


@dataclass(slots=True)
class Progress:
    """What is known of a run.

    Attributes:
        run: random word of this run; with a chunk's number and try it makes the Idempotency-Key.
        jobs: chunk under way -> (job id, how many jobs this chunk has had).
        written: chunks whose results are in the output; they are written in order.
        bytes: the output's length after them.
        documents: documents in them.
        failed: how many of those did not succeed.
        entities: in their results.
        complete: True once the output is whole.
    """

    run: str
    jobs: dict[int, tuple[str, int]] = field(default_factory=dict)
    written: int = 0
    bytes: int = 0
    documents: int = 0
    failed: int = 0
    entities: int = 0
    complete: bool = False


class Journal:
    """The journal of one output file, held by one process at a time."""

    def __init__(self, descriptor: int, progress: Progress) -> None:
        self._descriptor = descriptor
        self.progress = progress

    @classmethod
    def open(cls, output: Path, fingerprint: str, *, overwrite: bool) -> Self:
        """Begin a run, or find the one that was begun.

        Args:
            output: the file that results go to in the end.
            fingerprint: of inputs and options; the same for the same command on the same files.
            overwrite: begin again, whatever is there.

        Raises:
            JournalError: the output is another run's, or of unknown origin, or being written now.
        """
        path, lines = helper(output, STATE), helper(output, LINES)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise JournalError(f"another `gleaner extract` is writing {output}") from None
            content = b"" if overwrite else os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            entries, good = _entries(content)
            progress = _progress(entries, fingerprint, output) if entries else None
            if progress is None or not _goes_on(progress, output, lines):
                _require_absent(output, path, overwrite)
                progress, good = Progress(secrets.token_hex(8)), 0
            os.ftruncate(descriptor, good)
            os.lseek(descriptor, good, os.SEEK_SET)
            journal = cls(descriptor, progress)
            if good == 0:
                journal._append({"v": _VERSION, "run": progress.run, "fingerprint": fingerprint})
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    def submitted(self, chunk: int, job_id: str, attempt: int) -> None:
        """A chunk is this job now."""
        self.progress.jobs[chunk] = (job_id, attempt)
        self._append({"chunk": chunk, "job": job_id, "try": attempt})

    def wrote(self, chunk: int, length: int, documents: int, failed: int, entities: int) -> None:
        """A chunk's results are written; the lines are `length` bytes long now."""
        counted = {"documents": documents, "failed": failed, "entities": entities}
        entry = {"written": chunk, "bytes": length, **counted}
        _add(self.progress, entry)
        self._append(entry)

    def complete(self, size: int) -> None:
        """Note that the output is whole, and how many bytes it has."""
        self.progress.complete, self.progress.bytes = True, size
        self._append({"complete": True, "bytes": size})

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)

    def _append(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        while line:  # a full disk may take a part; the next write then says so
            line = line[os.write(self._descriptor, line) :]
        os.fsync(self._descriptor)


def _entries(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """The whole entries, and where they end; a kill may have left half a line behind them."""
    entries: list[dict[str, Any]] = []
    good = 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
        good += len(line)
    return entries, good


def _progress(entries: list[dict[str, Any]], fingerprint: str, output: Path) -> Progress:
    first, *rest = entries
    if first.get("v") != _VERSION or first.get("fingerprint") != fingerprint:
        begun = "by another version of gleaner, or " if first.get("v") != _VERSION else ""
        raise JournalError(
            f"{output} was begun {begun}with other files, labels or options; "
            "choose another -o, or begin again with --overwrite"
        )
    progress = Progress(first["run"])
    for entry in rest:
        if "job" in entry:
            progress.jobs[entry["chunk"]] = (entry["job"], entry["try"])
        elif "written" in entry:
            _add(progress, entry)
        else:
            progress.complete, progress.bytes = True, entry["bytes"]
    return progress


def _goes_on(progress: Progress, output: Path, lines: Path) -> bool:
    """Return True where what the run wrote is still there; moved back from the output if a kill came right after.

    Raises:
        JournalError: it is there, but is not what the run wrote.
    """
    if progress.complete:
        if not output.exists():
            return False
        if output.stat().st_size != progress.bytes:
            raise JournalError(f"{output} was changed since it was written; begin again with --overwrite")
        return True
    if not lines.exists() and progress.bytes and output.exists() and output.stat().st_size == progress.bytes:
        output.replace(lines)
    if not lines.exists():
        return progress.bytes == 0
    if lines.stat().st_size < progress.bytes:
        raise JournalError(f"{lines} is shorter than it was; begin again with --overwrite")
    return True


def _add(progress: Progress, entry: dict[str, Any]) -> None:
    progress.written, progress.bytes = entry["written"] + 1, entry["bytes"]
    progress.jobs.pop(entry["written"], None)
    progress.documents += entry["documents"]
    progress.failed += entry["failed"]
    progress.entities += entry["entities"]


def _require_absent(output: Path, journal: Path, overwrite: bool) -> None:
    if not overwrite and output.exists() and output.stat().st_size:
        journal.unlink()
        raise JournalError(f"{output} exists; choose another -o, or replace it with --overwrite")
