"""The work of `gleaner extract`: rows -> chunks -> jobs -> lines of output, resumable at every step.

`gleaner.client.scheduling` submits and reads the jobs; here are the journal, the lines and the counts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gleaner.cli.files.journal import Journal, Tally
from gleaner.cli.files.rows import BOM, Row
from gleaner.cli.files.writers import Sink
from gleaner.client import Client, calls
from gleaner.client.calls import Labels, SubmitOptions
from gleaner.client.flows import Flow, send_call, submit_job
from gleaner.client.scheduling import Chunk, OpenJob, Scheduler
from gleaner.errors import ApiError, GleanerError, Gone, NotFound
from gleaner.models import DocumentError, JobInfo, Result

CHUNK_CHARACTERS: Final = 1_000_000
"""Maximum number of characters in one job, unless a text is longer. Part of a run's fingerprint."""


@dataclass(slots=True)
class OpenChunk(OpenJob):
    """A chunk in progress.

    Attributes:
        rows: its rows, without their texts.
        submitted: positions of the rows that are in the job; the others fail here.
        written: number of rows, in order, whose lines have been made.
        tally: counts of these lines.
    """

    rows: tuple[Row, ...]
    submitted: tuple[int, ...]
    written: int = 0
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Query:
    """Labels and options of every job of a run."""

    labels: Labels | None
    options: SubmitOptions


class Extraction(Scheduler[Row, OpenChunk]):
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
        super().__init__(client._retry, CHUNK_CHARACTERS, lambda row: len(row.text))
        self._client = client
        self._query = query
        self._sink = sink
        self._journal = journal
        self._on_progress = on_progress
        self.tally = Tally() if journal is None else journal.progress.tally

    def run(self, rows: Iterable[Row]) -> Tally:
        """Extract from all rows; chunks that the journal records as written are skipped."""
        for line in self._client._stream_flow(self.schedule_jobs(), iter(rows)):
            self._sink.write(line)
        return self.tally

    def cancel_jobs(self) -> None:
        """Cancel the jobs in progress, as far as the gateway can be reached."""
        for chunk in self.open_jobs:
            if chunk.info is not None:
                with contextlib.suppress(GleanerError):
                    self._client._send_call(calls.cancel_job(chunk.info.id))

    def open_job(self, chunk: Chunk[Row]) -> Flow[OpenChunk | None]:
        """Find or submit the job of the rows that are documents; skip a chunk that is already written."""
        if self._journal is not None and chunk.number < self._journal.progress.written:
            return None
        submitted = tuple(position for position, row in enumerate(chunk.documents) if row.fault is None)
        info = (yield from self._find_or_submit_job(chunk)) if submitted else None
        rows = tuple(replace(row, text="", labels=None, options=None, tasks={}) for row in chunk.documents)
        return OpenChunk(chunk.number, chunk.first, info, rows, submitted)

    def convert_results(
        self, job: OpenChunk, results: Sequence[Result], *, is_last: bool
    ) -> tuple[dict[str, Any], ...]:
        """Return the lines of the next results, with the rows between them that were not submitted.

        Raises:
            GleanerError: a row was submitted, but the gateway has no result for it.
        """
        lines: list[dict[str, Any]] = []
        for result in results:
            position = job.submitted[result.index]
            lines += self._make_faults(job, position)
            lines.append(self._make_line(job, result))
        if is_last:
            lines += self._make_faults(job, len(job.rows))
        return tuple(lines)

    def close_job(self, job: OpenChunk) -> None:
        """Commit the chunk's lines, then record them."""
        length = self._sink.commit()
        if self._journal is None:
            self.tally.add(job.tally)
        else:
            self._journal.record_chunk(job.chunk, length, job.tally)

    def watch_jobs(self) -> Flow[None]:
        """Refresh the later jobs, which run at the same time as the oldest."""
        for job in list(self.open_jobs)[1:]:
            if job.info is not None and not job.info.done:
                # Only for the progress bar: an error is raised when it is this job's turn.
                with contextlib.suppress(ApiError):
                    job.info = yield from send_call(calls.get_job(job.info.id), self._retry)

    def report_progress(self) -> None:
        """Report the documents that are finished, written or still at the gateway."""
        at_gateway = sum(job.info.counts.finished for job in self.open_jobs if job.info is not None)
        self._on_progress(self.tally.documents + at_gateway)

    def _find_or_submit_job(self, chunk: Chunk[Row]) -> Flow[JobInfo]:
        """Return the chunk's job: the recorded one, if it still exists, else a new one."""
        if self._journal is None:
            return (yield from self._submit_chunk(chunk, self._query.options))
        job_id, attempt = self._journal.progress.jobs.get(chunk.number, (None, 0))
        if job_id is not None:
            try:
                return (yield from send_call(calls.get_job(job_id), self._retry))
            except (NotFound, Gone):
                attempt += 1
        # If killed before the journal records the job, the next run repeats the key and gets the same job.
        key = f"{self._journal.progress.run}-{chunk.number}-{attempt}"
        info = yield from self._submit_chunk(chunk, {**self._query.options, "idempotency_key": key})
        self._journal.record_job(chunk.number, info.id, attempt)
        return info

    def _submit_chunk(self, chunk: Chunk[Row], options: SubmitOptions) -> Flow[JobInfo]:
        rows = [row for row in chunk.documents if row.fault is None]
        documents = [row.to_document() for row in rows]
        try:
            return (yield from submit_job(documents, self._query.labels, options, self._retry))
        except ApiError as failure:
            failure.errors = tuple((_locate_pointer(pointer, rows), detail) for pointer, detail in failure.errors)
            raise

    def _make_faults(self, job: OpenChunk, end: int) -> Iterator[dict[str, Any]]:
        """Yield the lines of the rows before `end`, which were not submitted, as failed documents."""
        for row in job.rows[job.written : end]:
            if row.fault is None:
                raise GleanerError(
                    f"the gateway has no result of {row.where or row.id}; run the same command again to resume"
                )
            error = DocumentError("invalid_document", row.fault)
            yield self._make_line(job, Result(job.written, row.id, "failed", error=error))

    def _make_line(self, job: OpenChunk, result: Result) -> dict[str, Any]:
        """Return the next row's line, and count it."""
        row, tally = job.rows[job.written], job.tally
        line = {**result.to_json(), "index": job.first + job.written, "id": row.id}
        job.written += 1
        tally.documents += 1
        tally.entities += len(result.entities)
        if not result.ok:
            tally.failed += 1
            tally.errors[result.error.code if result.error else result.status] += 1
        return _shift_offsets(line, row)


def _locate_pointer(pointer: str, rows: Sequence[Row]) -> str:
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
