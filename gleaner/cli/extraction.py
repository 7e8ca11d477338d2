"""The work of `gleaner extract`: rows -> chunks -> jobs -> lines of output, resumable at every step."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from gleaner.cli.files.journal import Journal
from gleaner.cli.files.rows import BOM, Row
from gleaner.cli.files.writers import ENTITIES, Form, Line, Table, make_encoder
from gleaner.client import Client, Job
from gleaner.client.calls import Labels, SubmitOptions
from gleaner.errors import ApiError, GleanerError, Gone, NotFound
from gleaner.models import DocumentError, JobInfo, Result

CHUNK_DOCUMENTS: Final = 256
CHUNK_CHARACTERS: Final = 1_000_000
"""Size of one job: small enough to repeat, large enough to fill micro-batches. Part of a run's fingerprint."""

JOBS_AHEAD: Final = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are submitted as one job."""

    number: int
    first: int
    rows: tuple[Row, ...]


@dataclass(slots=True)
class Tally:
    """Counts of this run's output so far."""

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


class Sink(Protocol):
    """Destination of results."""

    def write(self, line: Line) -> None:
        """Write a result."""

    def commit(self) -> int:
        """Flush everything to disk; return the output's length in bytes."""


class FileSink:
    """An output file, truncated to the length in the journal.

    Args:
        path: the file.
        length: number of bytes that are kept.
        form: format of the results.
        table: columns and rows, if the format is a table.
    """

    def __init__(self, path: Path, length: int, form: Form | None = None, table: Table = ENTITIES) -> None:
        head, self._encode = make_encoder(form or Form(), table)
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(length)
        self._file.seek(length)
        if length == 0:
            self._file.write(head)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, line: Line) -> None:
        """Write a result."""
        self._file.write(self._encode(line))

    def commit(self) -> int:
        """Sync the file, and return its length."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


@dataclass(frozen=True, slots=True)
class OpenChunk:
    """A chunk in progress.

    Attributes:
        rows: its rows, without their texts.
        submitted: positions of the rows that are in the job; the others fail here.
        job: None if no row could be submitted.
    """

    chunk: int
    first: int
    rows: tuple[Row, ...]
    submitted: tuple[int, ...]
    job: Job | None


@dataclass(frozen=True, slots=True)
class Query:
    """Labels and options of every job of a run."""

    labels: Labels | None
    options: SubmitOptions


class Extraction:
    """One run.

    Args:
        client: submits the jobs.
        query: labels and options of the jobs.
        sink: destination of the results, in input order.
        journal: makes the run resumable; None for a run that is not.
        on_progress: called with the number of finished documents, written or still at the gateway.
    """

    def __init__(
        self, client: Client, query: Query, sink: Sink, journal: Journal | None, on_progress: Callable[[int], None]
    ) -> None:
        self._client = client
        self._query = query
        self._sink = sink
        self._journal = journal
        self._on_progress = on_progress
        self._open_chunks: deque[OpenChunk] = deque()
        self.tally = Tally()
        if journal is not None:
            done = journal.progress
            self.tally = Tally(done.documents, done.failed, done.entities)

    def run(self, rows: Iterable[Row]) -> Tally:
        """Extract from all rows; chunks that the journal records as written are skipped."""
        written = self._journal.progress.written if self._journal else 0
        for chunk in cut_chunks(rows):
            if chunk.number < written:
                continue
            if len(self._open_chunks) == JOBS_AHEAD:
                self._finish_oldest()
            submitted = tuple(position for position, row in enumerate(chunk.rows) if row.fault is None)
            job = self._find_or_submit_job(chunk) if submitted else None
            rows = tuple(replace(row, text="", labels=None, options=None) for row in chunk.rows)
            self._open_chunks.append(OpenChunk(chunk.number, chunk.first, rows, submitted, job))
            self._report_progress()
        while self._open_chunks:
            self._finish_oldest()
        return self.tally

    def cancel_jobs(self) -> None:
        """Cancel the jobs in progress, as far as the gateway can be reached."""
        for open_chunk in self._open_chunks:
            if open_chunk.job is not None:
                with contextlib.suppress(GleanerError):
                    open_chunk.job.cancel()

    def _find_or_submit_job(self, chunk: Chunk) -> Job:
        """Return the chunk's job: the recorded one, if it still exists, else a new one."""
        if self._journal is None:
            return self._submit_chunk(chunk, self._query.options)
        job_id, attempt = self._journal.progress.jobs.get(chunk.number, (None, 0))
        if job_id is not None:
            try:
                return self._client.job(job_id)
            except (NotFound, Gone):
                attempt += 1
        # If killed before the journal records the job, the next run repeats the key and gets the same job.
        key = f"{self._journal.progress.run}-{chunk.number}-{attempt}"
        job = self._submit_chunk(chunk, {**self._query.options, "idempotency_key": key})
        self._journal.record_job(chunk.number, job.id, attempt)
        return job

    def _submit_chunk(self, chunk: Chunk, options: SubmitOptions) -> Job:
        rows = [row for row in chunk.rows if row.fault is None]
        try:
            return self._client.submit([row.to_document() for row in rows], self._query.labels, **options)
        except ApiError as failure:
            failure.errors = tuple((_locate_pointer(pointer, rows), detail) for pointer, detail in failure.errors)
            raise

    def _finish_oldest(self) -> None:
        open_chunk = self._open_chunks[0]
        if open_chunk.job is not None:
            open_chunk.job.wait(on_progress=self._refresh_jobs)
        tally, next_row = Tally(len(open_chunk.rows)), 0
        for result in () if open_chunk.job is None else open_chunk.job.results():
            position = open_chunk.submitted[result.index]
            self._write_faults(open_chunk, range(next_row, position), tally)
            self._write_result(open_chunk, position, result, tally)
            next_row = position + 1
        self._write_faults(open_chunk, range(next_row, len(open_chunk.rows)), tally)
        length = self._sink.commit()
        self._open_chunks.popleft()
        self.tally.add(tally)
        if self._journal is not None:
            self._journal.record_chunk(open_chunk.chunk, length, tally.documents, tally.failed, tally.entities)
        self._report_progress()

    def _write_faults(self, open_chunk: OpenChunk, positions: range, tally: Tally) -> None:
        """Write the rows at these positions, which were not submitted, as failed documents.

        Raises:
            GleanerError: one of them was submitted, but the gateway has no result for it.
        """
        for position in positions:
            row = open_chunk.rows[position]
            if row.fault is None:
                raise GleanerError(
                    f"the gateway has no result of {row.where or row.id}; run the same command again to resume"
                )
            error = DocumentError("invalid_document", row.fault)
            self._write_result(open_chunk, position, Result(position, row.id, "failed", error=error), tally)

    def _write_result(self, open_chunk: OpenChunk, position: int, result: Result, tally: Tally) -> None:
        row = open_chunk.rows[position]
        line = {**result.to_json(), "index": open_chunk.first + position, "id": row.id}
        self._sink.write(_shift_offsets(line, row))
        tally.entities += len(result.entities)
        if not result.ok:
            tally.failed += 1
            tally.errors[result.error.code if result.error else result.status] += 1

    def _refresh_jobs(self, info: JobInfo) -> None:
        oldest, *later_jobs = (open_chunk.job for open_chunk in self._open_chunks if open_chunk.job is not None)
        oldest.info = info
        for job in later_jobs:
            if not job.done:
                # Only for the progress bar: an error is raised when it is this job's turn.
                with contextlib.suppress(ApiError):
                    job.refresh()
        self._report_progress()

    def _report_progress(self) -> None:
        at_gateway = sum(
            open_chunk.job.counts.finished for open_chunk in self._open_chunks if open_chunk.job is not None
        )
        self._on_progress(self.tally.documents + at_gateway)


def cut_chunks(rows: Iterable[Row]) -> Iterator[Chunk]:
    """Cut rows, in order, into chunks; the same rows always give the same chunks."""
    number, first, characters = 0, 0, 0
    pending: list[Row] = []
    for row in rows:
        if pending and (len(pending) == CHUNK_DOCUMENTS or characters + len(row.text) > CHUNK_CHARACTERS):
            yield Chunk(number, first, tuple(pending))
            number, first, characters = number + 1, first + len(pending), 0
            pending = []
        pending.append(row)
        characters += len(row.text)
    if pending:
        yield Chunk(number, first, tuple(pending))


def _locate_pointer(pointer: str, rows: list[Row]) -> str:
    """Return the file and line of a JSON pointer into the request, or the pointer itself."""
    match = re.match(r"/documents/(\d+)(/.*)?$", pointer)
    if match is None or int(match[1]) >= len(rows):
        return pointer
    return f"{rows[int(match[1])].where}{match[2] or ''}"


def _shift_offsets(line: dict[str, Any], row: Row) -> dict[str, Any]:
    """Return a result whose offsets count from the start of its file."""
    if row.marked and "text" in line:
        line["text"] = BOM + line["text"]
    if row.base:
        for entity in line["entities"]:
            spans = [entity, *([entity["explain"]["window"]] if "explain" in entity else [])]
            for span in spans:
                span["start"], span["end"] = span["start"] + row.base, span["end"] + row.base
    return line
