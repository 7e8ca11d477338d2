"""The work behind `gleaner extract`: rows -> chunks -> jobs -> lines of output, resumable at every step."""

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
from gleaner.cli.files.writers import ENTITIES, Form, Line, Table, encoder
from gleaner.client import Client, Job
from gleaner.client.calls import Labels, SubmitOptions
from gleaner.errors import ApiError, GleanerError, Gone, NotFound
from gleaner.models import DocumentError, JobInfo, Result

CHUNK_DOCUMENTS: Final = 256
CHUNK_CHARACTERS: Final = 1_000_000
"""One job of the run: small enough to repeat, large enough to fill micro-batches. Part of a run's identity."""

JOBS_AHEAD: Final = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows submitted as one job."""

    number: int
    first: int
    rows: tuple[Row, ...]


@dataclass(slots=True)
class Tally:
    """Documents of this run's output so far."""

    documents: int = 0
    failed: int = 0
    entities: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count these too."""
        self.documents += other.documents
        self.failed += other.failed
        self.entities += other.entities
        self.errors += other.errors


class Sink(Protocol):
    """Where results go."""

    def write(self, line: Line) -> None:
        """Take a result."""

    def commit(self) -> int:
        """Have everything so far on disk; answers the output's length in bytes."""


class FileSink:
    """A file, cut back to what the journal knows of.

    Args:
        path: the file.
        length: bytes of it that stay.
        form: how results are written.
        table: of what, where that is a table.
    """

    def __init__(self, path: Path, length: int, form: Form | None = None, table: Table = ENTITIES) -> None:
        head, self._encode = encoder(form or Form(), table)
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
        """Take a result."""
        self._file.write(self._encode(line))

    def commit(self) -> int:
        """Sync, and answer the length."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


@dataclass(frozen=True, slots=True)
class Under:
    """A chunk under way.

    Attributes:
        rows: its rows, without their texts.
        sent: places of those that are in the job; the others fail here.
        job: None where no row could be submitted.
    """

    chunk: int
    first: int
    rows: tuple[Row, ...]
    sent: tuple[int, ...]
    job: Job | None


class Extraction:
    """One run.

    Args:
        client: where jobs go.
        labels: what to look for.
        options: of every job.
        sink: where results go, in input order.
        journal: what makes it resumable; None for a run that is not.
        on_progress: told how many documents are finished (those written and those still at the gateway).
    """

    def __init__(
        self,
        client: Client,
        labels: Labels | None,
        options: SubmitOptions,
        sink: Sink,
        journal: Journal | None,
        on_progress: Callable[[int], None],
    ) -> None:
        self._client = client
        self._labels = labels
        self._options = options
        self._sink = sink
        self._journal = journal
        self._on_progress = on_progress
        self._under_way: deque[Under] = deque()
        self.tally = Tally()
        if journal is not None:
            done = journal.progress
            self.tally = Tally(done.documents, done.failed, done.entities)

    def run(self, rows: Iterable[Row]) -> Tally:
        """Extract from all rows; those the journal knows as written are skipped."""
        written = self._journal.progress.written if self._journal else 0
        for chunk in chunks(rows):
            if chunk.number < written:
                continue
            if len(self._under_way) == JOBS_AHEAD:
                self._finish_oldest()
            sent = tuple(place for place, row in enumerate(chunk.rows) if row.fault is None)
            job = self._job(chunk) if sent else None
            rows = tuple(replace(row, text="", labels=None, options=None) for row in chunk.rows)
            self._under_way.append(Under(chunk.number, chunk.first, rows, sent, job))
            self._report()
        while self._under_way:
            self._finish_oldest()
        return self.tally

    def cancel(self) -> None:
        """Stop the jobs under way, as far as the gateway can be reached."""
        for under in self._under_way:
            if under.job is not None:
                with contextlib.suppress(GleanerError):
                    under.job.cancel()

    def _job(self, chunk: Chunk) -> Job:
        """The chunk's job: the one it had, if that is still there, else a new one."""
        if self._journal is None:
            return self._submit(chunk, self._options)
        job_id, attempt = self._journal.progress.jobs.get(chunk.number, (None, 0))
        if job_id is not None:
            try:
                return self._client.job(job_id)
            except (NotFound, Gone):
                attempt += 1
        # A kill between this and the journal is harmless: the next run repeats the key and gets the same job.
        key = f"{self._journal.progress.run}-{chunk.number}-{attempt}"
        job = self._submit(chunk, {**self._options, "idempotency_key": key})
        self._journal.submitted(chunk.number, job.id, attempt)
        return job

    def _submit(self, chunk: Chunk, options: SubmitOptions) -> Job:
        rows = [row for row in chunk.rows if row.fault is None]
        try:
            return self._client.submit([row.document() for row in rows], self._labels, **options)
        except ApiError as failure:
            failure.errors = tuple((_locate(pointer, rows), detail) for pointer, detail in failure.errors)
            raise

    def _finish_oldest(self) -> None:
        under = self._under_way[0]
        if under.job is not None:
            under.job.wait(on_progress=self._look)
        counted, place = Tally(len(under.rows)), 0
        for result in () if under.job is None else under.job.results():
            to = under.sent[result.index]
            self._fail(under, place, to, counted)
            self._write(under, to, result, counted)
            place = to + 1
        self._fail(under, place, len(under.rows), counted)
        length = self._sink.commit()
        self._under_way.popleft()
        self.tally.add(counted)
        if self._journal is not None:
            self._journal.wrote(under.chunk, length, counted.documents, counted.failed, counted.entities)
        self._report()

    def _fail(self, under: Under, start: int, end: int, counted: Tally) -> None:
        """Write the rows between two places, none of which was submitted, as failed documents.

        Raises:
            GleanerError: one of them was submitted, and the gateway has no result of it.
        """
        for place in range(start, end):
            row = under.rows[place]
            if row.fault is None:
                raise GleanerError(
                    f"the gateway has no result of {row.where or row.id}; run the same command again"
                )
            error = DocumentError("invalid_document", row.fault)
            self._write(under, place, Result(place, row.id, "failed", error=error), counted)

    def _write(self, under: Under, place: int, result: Result, counted: Tally) -> None:
        row = under.rows[place]
        line = {**result.to_json(), "index": under.first + place, "id": row.id}
        self._sink.write(_move(line, row))
        counted.entities += len(result.entities)
        if not result.ok:
            counted.failed += 1
            counted.errors[result.error.code if result.error else result.status] += 1

    def _look(self, info: JobInfo) -> None:
        oldest, *others = (under.job for under in self._under_way if under.job is not None)
        oldest.info = info
        for job in others:
            if not job.done:
                # Only for the progress bar: whatever is wrong shows when it is this job's turn.
                with contextlib.suppress(ApiError):
                    job.refresh()
        self._report()

    def _report(self) -> None:
        at_gateway = sum(under.job.counts.finished for under in self._under_way if under.job is not None)
        self._on_progress(self.tally.documents + at_gateway)


def chunks(rows: Iterable[Row]) -> Iterator[Chunk]:
    """Cut rows, in order, into chunks; the same rows always give the same ones."""
    number, first, characters = 0, 0, 0
    held: list[Row] = []
    for row in rows:
        if held and (len(held) == CHUNK_DOCUMENTS or characters + len(row.text) > CHUNK_CHARACTERS):
            yield Chunk(number, first, tuple(held))
            number, first, characters = number + 1, first + len(held), 0
            held = []
        held.append(row)
        characters += len(row.text)
    if held:
        yield Chunk(number, first, tuple(held))


def _locate(pointer: str, rows: list[Row]) -> str:
    """Return where in the files a place of the request is, or the pointer itself."""
    match = re.match(r"/documents/(\d+)(/.*)?$", pointer)
    if match is None or int(match[1]) >= len(rows):
        return pointer
    return f"{rows[int(match[1])].where}{match[2] or ''}"


def _move(line: dict[str, Any], row: Row) -> dict[str, Any]:
    """Return a result whose offsets count from where its text's file begins."""
    if row.marked and "text" in line:
        line["text"] = BOM + line["text"]
    if row.base:
        for entity in line["entities"]:
            spans = [entity, *([entity["explain"]["window"]] if "explain" in entity else [])]
            for span in spans:
                span["start"], span["end"] = span["start"] + row.base, span["end"] + row.base
    return line
