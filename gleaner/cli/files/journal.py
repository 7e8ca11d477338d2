"""Journal of an `extract` run, next to its output, so that the same command resumes a killed run.

Results are written to `OUT.gleaner-lines`, which becomes OUT once it is complete; until then OUT is unchanged.
`OUT.gleaner-state` is JSON lines, appended and synced: first the run's identity, then `job` lines (a chunk was
submitted as this job) and `written` lines (its results are written up to this byte). A run that resumes truncates
the results to the last such byte, so that a kill between the two causes neither duplicates nor gaps.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gleaner.cli.files.outputs import LINES, STATE, helper_path

_VERSION = 2


class JournalError(Exception):
    """The output belongs to another run or is in use; `str()` says what to do."""


@dataclass(slots=True)
class Tally:
    """Counts of results; errors of an earlier, interrupted command are not counted by code."""

    documents: int = 0
    failed: int = 0
    entities: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add another tally's counts."""
        self.documents += other.documents
        self.failed += other.failed
        self.entities += other.entities
        self.errors += other.errors


@dataclass(slots=True)
class Progress:
    """Recorded progress of a run.

    Attributes:
        run: random id of this run; with a chunk's number and try it forms the Idempotency-Key.
        jobs: chunk in progress -> (job id, number of earlier jobs of this chunk).
        written: number of chunks whose results are in the output, in order.
        bytes: length of the output after them.
        tally: counts of them.
        complete: True once the output is complete.
    """

    run: str
    jobs: dict[int, tuple[str, int]] = field(default_factory=dict)
    written: int = 0
    bytes: int = 0
    tally: Tally = field(default_factory=Tally)
    complete: bool = False


class Journal:
    """The journal of one output file, locked by one process at a time."""

    def __init__(self, descriptor: int, progress: Progress) -> None:
        self._descriptor = descriptor
        self.progress = progress

    @classmethod
    def open(cls, output: Path, fingerprint: str, *, overwrite: bool) -> Self:
        """Start a run, or resume the recorded one.

        Args:
            output: the output file.
            fingerprint: digest of inputs and options; the same for the same command on the same files.
            overwrite: start again, whatever exists.

        Raises:
            JournalError: the output belongs to another run, is of unknown origin, or is being written now.
        """
        path, lines = helper_path(output, STATE), helper_path(output, LINES)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise JournalError(
                    f"another `gleaner extract` is writing {output}; wait for it, or choose another -o"
                ) from None
            content = b"" if overwrite else os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            entries, valid_bytes = _parse_entries(content)
            progress = _restore_progress(entries, fingerprint, output) if entries else None
            if progress is None or not _can_resume(progress, output, lines):
                _require_absent(output, path, overwrite)
                progress, valid_bytes = Progress(secrets.token_hex(8)), 0
            os.ftruncate(descriptor, valid_bytes)
            os.lseek(descriptor, valid_bytes, os.SEEK_SET)
            journal = cls(descriptor, progress)
            if valid_bytes == 0:
                journal._append_entry({"v": _VERSION, "run": progress.run, "fingerprint": fingerprint})
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    def record_job(self, chunk: int, job_id: str, attempt: int) -> None:
        """Record the job of a chunk."""
        self.progress.jobs[chunk] = (job_id, attempt)
        self._append_entry({"chunk": chunk, "job": job_id, "try": attempt})

    def record_chunk(self, chunk: int, length: int, tally: Tally) -> None:
        """Record that a chunk's results are written; the file of lines is now `length` bytes long."""
        _count_chunk(self.progress, chunk, length, tally)
        counts = {"documents": tally.documents, "failed": tally.failed, "entities": tally.entities}
        self._append_entry({"written": chunk, "bytes": length, **counts})

    def record_completion(self, size: int) -> None:
        """Record that the output is complete, and its size in bytes."""
        self.progress.complete, self.progress.bytes = True, size
        self._append_entry({"complete": True, "bytes": size})

    def close(self) -> None:
        """Release the journal's lock."""
        os.close(self._descriptor)

    def _append_entry(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        while line:  # a full disk may accept a part; the next write then fails
            line = line[os.write(self._descriptor, line) :]
        os.fsync(self._descriptor)


def _parse_entries(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the complete entries and their size in bytes; a kill may have left a partial line after them."""
    entries: list[dict[str, Any]] = []
    size = 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
        size += len(line)
    return entries, size


def _restore_progress(entries: list[dict[str, Any]], fingerprint: str, output: Path) -> Progress:
    first, *rest = entries
    if first.get("v") != _VERSION or first.get("fingerprint") != fingerprint:
        version = "by another version of gleaner, or " if first.get("v") != _VERSION else ""
        raise JournalError(
            f"{output} was started {version}with other files, labels or options; "
            "choose another -o, or start again with --overwrite"
        )
    progress = Progress(first["run"])
    for entry in rest:
        if "job" in entry:
            progress.jobs[entry["chunk"]] = (entry["job"], entry["try"])
        elif "written" in entry:
            tally = Tally(entry["documents"], entry["failed"], entry["entities"])
            _count_chunk(progress, entry["written"], entry["bytes"], tally)
        else:
            progress.complete, progress.bytes = True, entry["bytes"]
    return progress


def _can_resume(progress: Progress, output: Path, lines: Path) -> bool:
    """Return True if the run's results still exist; move them back from the output if it was killed right after.

    Raises:
        JournalError: they exist, but were changed.
    """
    if progress.complete:
        if not output.exists():
            return False
        if output.stat().st_size != progress.bytes:
            raise JournalError(f"{output} was changed since it was written; start again with --overwrite")
        return True
    if not lines.exists() and progress.bytes and output.exists() and output.stat().st_size == progress.bytes:
        output.replace(lines)
    if not lines.exists():
        return progress.bytes == 0
    if lines.stat().st_size < progress.bytes:
        raise JournalError(f"{lines} is shorter than the journal says; start again with --overwrite")
    return True


def _count_chunk(progress: Progress, chunk: int, length: int, tally: Tally) -> None:
    progress.written, progress.bytes = chunk + 1, length
    progress.jobs.pop(chunk, None)
    progress.tally.add(tally)


def _require_absent(output: Path, journal: Path, overwrite: bool) -> None:
    if not overwrite and output.exists() and output.stat().st_size:
        journal.unlink()
        raise JournalError(f"{output} already exists; choose another -o, or replace it with --overwrite")
