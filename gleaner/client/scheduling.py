"""Any number of documents as a few open jobs at a time: documents -> chunks -> jobs -> results in input order.

`Client.map`, `AsyncClient.map` and `gleaner extract` share `Scheduler`. Each defines how a chunk becomes a job, and
what the caller gets for its results. Like every flow it has no I/O: it yields commands for documents, requests and
items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from gleaner.client import calls
from gleaner.client.arguments import hold_labels, hold_options, refuse_other_collections
from gleaner.client.calls import Document, Labels, SubmitOptions
from gleaner.client.flows import END, Emit, Flow, Pull, ResultsReader, Retry, submit_job
from gleaner.models import JobInfo, Result

CHUNK_DOCUMENTS: Final = 256
"""Maximum number of documents in one job: small enough to repeat, large enough to fill micro-batches."""

JOBS_AHEAD: Final = 4
"""Number of jobs kept open, so that workers have the next one before the oldest is read."""

_MAP_CHARACTERS: Final = 4_000_000


@dataclass(slots=True)
class OpenJob:
    """A chunk in progress; subclasses add what the scheduler needs to interpret its results.

    Attributes:
        chunk: the chunk's number.
        first: index of its first document among all documents.
        info: the job in the gateway's last response; None if no document could be submitted.
    """

    chunk: int
    first: int
    info: JobInfo | None


T = TypeVar("T")
J = TypeVar("J", bound=OpenJob)


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T]):
    """Documents that are submitted as one job.

    Attributes:
        number: its number, from 0.
        first: index of its first document among all documents.
    """

    number: int
    first: int
    documents: tuple[T, ...]


class Scheduler(ABC, Generic[T, J]):
    """Submits documents in chunks, keeps at most `JOBS_AHEAD` jobs open, and emits results in input order.

    Args:
        retry: policy of retries.
        chunk_characters: a chunk is cut before a document that would exceed this; a larger document is one chunk.
        count_characters: returns the length of a document's text.

    Attributes:
        open_jobs: the jobs in progress, oldest first.
    """

    def __init__(self, retry: Retry, chunk_characters: int, count_characters: Callable[[T], int]) -> None:
        self.open_jobs: deque[J] = deque()
        self._retry = retry
        self._chunk_characters = chunk_characters
        self._count_characters = count_characters
        self._next: Any = None  # a document that is pulled but not yet in a chunk, or END

    @abstractmethod
    def open_job(self, chunk: Chunk[T]) -> Flow[J | None]:
        """Submit a chunk, or find its job; return None to skip it. The job must not keep the texts."""

    @abstractmethod
    def convert_results(self, job: J, results: Sequence[Result], *, is_last: bool) -> tuple[Any, ...]:
        """Return the items that the caller gets for a job's next results; `is_last` if no others follow."""

    def close_job(self, job: J) -> None:
        """Note that the caller has consumed all items of the oldest job. Does nothing."""

    def watch_jobs(self) -> Flow[None]:
        """Refresh the jobs after the oldest, about once a second while it runs. Does nothing."""
        yield from ()

    @abstractmethod
    def report_progress(self) -> None:
        """Report the state of the open jobs; called after each change."""

    def schedule_jobs(self) -> Flow[None]:
        """Pull every document and emit the items of every result."""
        chunks, documents = 0, 0
        while self.open_jobs or self._next is not END:
            while self._next is not END and len(self.open_jobs) < JOBS_AHEAD:
                chunk = Chunk(chunks, documents, (yield from self._pull_documents()))
                job = (yield from self.open_job(chunk)) if chunk.documents else None
                chunks, documents = chunks + 1, documents + len(chunk.documents)
                if job is not None:
                    self.open_jobs.append(job)
                    self.report_progress()
            if self.open_jobs:
                yield from self._read_oldest(self.open_jobs[0])

    def _pull_documents(self) -> Flow[tuple[T, ...]]:
        """Return the documents of the next chunk; the same documents always give the same chunks."""
        documents: list[T] = []
        characters = 0
        while len(documents) < CHUNK_DOCUMENTS:
            if self._next is None:
                self._next = yield Pull()
            if self._next is END:
                break
            characters += self._count_characters(self._next)
            if documents and characters > self._chunk_characters:
                break
            documents.append(self._next)
            self._next = None
        return tuple(documents)

    def _read_oldest(self, job: J) -> Flow[None]:
        if job.info is None:
            yield Emit(self.convert_results(job, (), is_last=True))
        else:
            reader = ResultsReader(job.info, self._retry)
            while not reader.done:
                results = yield from reader.read_page(self._note_state)
                yield Emit(self.convert_results(job, results, is_last=reader.done))
                self.report_progress()
        self.close_job(job)
        self.open_jobs.popleft()
        self.report_progress()

    def _note_state(self, info: JobInfo) -> Flow[None]:
        self.open_jobs[0].info = info
        yield from self.watch_jobs()
        self.report_progress()


@dataclass(frozen=True, slots=True)
class MapProgress:
    """Progress of a `map`.

    Attributes:
        done: results returned.
        failed: results whose document did not succeed.
        submitted: documents read and submitted so far.
        total: number of documents; None if the source has no length.
    """

    done: int = 0
    failed: int = 0
    submitted: int = 0
    total: int | None = None


OnMapProgress = Callable[[MapProgress], None]


@dataclass(slots=True)
class MapJob(OpenJob):
    """A chunk of `map`; `named` says of each document whether the caller gave it an id."""

    named: tuple[bool, ...]


class MapScheduler(Scheduler[Document, MapJob]):
    """Emits results numbered over all documents: the index, and the id of those to which the caller gave none.

    Raises:
        TypeError: the documents are another collection, or `options` has a key, which jobs cannot share.
    """

    def __init__(
        self,
        documents: object,
        labels: Labels | None,
        options: SubmitOptions,
        retry: Retry,
        on_progress: OnMapProgress | None = None,
    ) -> None:
        refuse_other_collections(documents)
        if "idempotency_key" in options:
            raise TypeError("map submits many jobs; they cannot share one idempotency_key")
        super().__init__(retry, _MAP_CHARACTERS, calls.count_characters)
        self._labels = hold_labels(labels)
        self._options = hold_options(options)
        total = len(documents) if isinstance(documents, Sized) else None
        self._progress = self._reported = MapProgress(total=total)
        self._on_progress = on_progress

    def open_job(self, chunk: Chunk[Document]) -> Flow[MapJob]:
        """Submit a chunk."""
        info = yield from submit_job(chunk.documents, self._labels, self._options, self._retry)
        self._progress = replace(self._progress, submitted=chunk.first + len(chunk.documents))
        named = tuple(not isinstance(document, str) and "id" in document for document in chunk.documents)
        return MapJob(chunk.number, chunk.first, info, named)

    def convert_results(self, job: MapJob, results: Sequence[Result], *, is_last: bool) -> tuple[Result, ...]:
        """Return the results with their index in the whole map, and with that as the id of unnamed documents."""
        done, failed = len(results), sum(not result.ok for result in results)
        self._progress = replace(
            self._progress, done=self._progress.done + done, failed=self._progress.failed + failed
        )
        return tuple(
            replace(result, index=index, id=result.id if job.named[result.index] else str(index))
            for result, index in ((result, job.first + result.index) for result in results)
        )

    def report_progress(self) -> None:
        """Call `on_progress` if documents were submitted or results returned since the last call."""
        if self._on_progress is not None and self._progress != self._reported:
            self._reported = self._progress
            self._on_progress(self._progress)
