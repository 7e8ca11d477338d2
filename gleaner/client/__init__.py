"""`Client`: documents in, results out, over HTTP, from synchronous code.

It drives the flows of `gleaner.client.flows`; it adds only how to send, sleep and return results.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from gleaner.client import calls, flows
from gleaner.client.arguments import check_documents
from gleaner.client.calls import Call, Document, Labels, SubmitOptions
from gleaner.client.connection import Connection
from gleaner.client.flows import Flow, OnProgress, Retry, Run
from gleaner.client.handle import Handle
from gleaner.client.scheduling import MapScheduler, OnMapProgress
from gleaner.label_sets import LabelSets
from gleaner.models import JobInfo, Limits, Model, Result
from gleaner.webhook_endpoints import Webhooks

T = TypeVar("T")


class Job(Handle):
    """A submitted job. `info` is the gateway's last response; every method that sends a request renews it."""

    def __init__(self, client: Client, info: JobInfo) -> None:
        self._client = client
        self.info = info

    def refresh(self) -> Self:
        """Get the job's current state from the gateway."""
        self.info = self._client._send_call(calls.get_job(self.id))
        return self

    def wait(self, timeout: float | None = None, on_progress: OnProgress | None = None) -> Self:
        """Wait until the job is terminal, whether it succeeded or not.

        Args:
            timeout: seconds; None waits without a limit.
            on_progress: called about once a second, and once at the end.

        Raises:
            WaitTimeout: it was not terminal in time.

        Examples:
            >>> seen = []
            >>> job = client.submit(["Ada Lovelace"], ["person"])
            >>> job.wait(timeout=60, on_progress=lambda info: seen.append(info.counts.finished)).status
            'succeeded'
            >>> seen[-1]
            1
        """
        self.info = self._client._run_flow(flows.wait_for_job(self.info, timeout, on_progress, self._client._retry))
        return self

    def results(
        self, *, status: str | None = None, page_size: int | None = None, follow: bool = True
    ) -> Iterator[Result]:
        """Yield every document's result, in input order, as they become ready.

        Args:
            status: only results with this document status.
            page_size: results per request; the gateway's default if None.
            follow: wait for unfinished documents; if False, stop at the first of them.
        """
        client = self._client
        return client._stream_flow(
            flows.emit_results(self.info, client._retry, page_size=page_size, status=status, follow=follow)
        )

    def cancel(self) -> Self:
        """Stop the job; finished documents keep their results. Does nothing to a finished job."""
        self.info = self._client._send_call(calls.cancel_job(self.id))
        return self

    def retry(self) -> Job:
        """Create a new job from this job's failed, cancelled and expired documents.

        Raises:
            Conflict: this job is still running, has nothing to retry, or was retried before (`code` says which).
        """
        return Job(self._client, self._client._send_call(calls.retry_job(self.id, uuid.uuid4().hex)))

    def delete(self) -> None:
        """Purge input and results now.

        Raises:
            Conflict: the job is not terminal.
        """
        self._client._send_call(calls.delete_job(self.id))


class Client:
    """Synchronous client of a gateway. Thread-safe; use it as a context manager, or call `close`.

    It may be created before a fork (gunicorn --preload, Celery prefork, multiprocessing): each process then opens
    separate connections.

    A request that got no response, a 429 or a 503 is retried with exponential backoff, or after Retry-After.
    Submissions carry an Idempotency-Key, so that a retry never creates a second job.

    Args:
        url: the gateway, for example `http://127.0.0.1:8000`.
        key: an API key; None if the gateway requires none.
        timeout: seconds one request may take, in addition to the time that the gateway was asked to wait.
        retries: how often a request that got no response, a 429 or a 503 is repeated.
        transport: a custom httpx transport.

    Examples:
        >>> with Client(url, key) as client:
        ...     [result] = client.extract(["Ada Lovelace lived in London."], ["person", "city"])
        >>> [(entity.text, entity.label) for entity in result.entities]
        [('Ada Lovelace', 'person'), ('London', 'city')]
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 5,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retry = Retry(retries)
        self._connection = Connection(httpx.Client, url, key, timeout, transport)

    def submit(
        self, documents: Iterable[Document], labels: Labels | None = None, **options: Unpack[SubmitOptions]
    ) -> Job:
        """Submit documents as one job.

        Args:
            documents: texts, or mappings with `text` and optionally `id`, `labels`, `relations`, `classifications`,
                `options`.
            labels: the labels to look for in documents that do not define their own; None is enough for documents
                that are only classified.
            **options: see `SubmitOptions`.

        Raises:
            ValidationError: `errors` says which field is wrong, and why.
            TooLarge: split the job, or use `map`.
            RateLimited: the retries are used up, or the gateway's Retry-After is too long to wait for.
            Unavailable: likewise.

        Examples:
            >>> documents = [{"id": "letter", "text": "Ada Lovelace lived in London."}, {"id": "note", "text": ""}]
            >>> job = client.submit(documents, ["person", "city"], threshold={"person": 0.4}).wait()
            >>> job.status, job.info.error_summary
            ('partially_succeeded', {'empty_text': 1})
            >>> [(result.id, result.ok, len(result.entities)) for result in job.results()]
            [('letter', True, 2), ('note', False, 0)]
        """
        return Job(
            self,
            self._run_flow(flows.submit_job(documents, labels, options, self._retry)),
        )

    def extract(
        self, texts: Iterable[Document], labels: Labels | None = None, **options: Unpack[SubmitOptions]
    ) -> list[Result]:
        """Return the results of a few documents, in order; wait until they are finished.

        Examples:
            >>> [result] = client.extract(["Ada Lovelace lived in London."], {"city": "a town"}, offset_unit="byte")
            >>> result.entities[0].text, result.entities[0].start
            ('London', 22)
        """
        return self._run_flow(flows.extract_documents(texts, labels, options, self._retry))

    def map(
        self,
        documents: Iterable[Document],
        labels: Labels | None = None,
        *,
        on_progress: OnMapProgress | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Iterator[Result]:
        """Yield the results of any number of documents, in order; documents are read as results are consumed.

        About a thousand documents are in progress at once, however large the source is: memory stays constant.

        Args:
            documents: as for `submit`; a generator is read lazily.
            labels: as for `submit`.
            on_progress: called when documents are submitted and results returned.
            **options: as for `submit`, without `idempotency_key`: every job gets a separate key.

        Examples:
            >>> seen = []
            >>> texts = (f"Ada Lovelace wrote letter {number}." for number in range(300))
            >>> results = client.map(texts, ["person"], on_progress=seen.append)
            >>> sum(len(result.entities) for result in results)
            300
            >>> seen[-1]
            MapProgress(done=300, failed=0, submitted=300, total=None)
        """
        scheduler = MapScheduler(documents, labels, options, self._retry, on_progress)
        return self._stream_flow(scheduler.schedule_jobs(), check_documents(documents))

    def job(self, job_id: str) -> Job:
        """Return a job that was submitted earlier or by another process."""
        return Job(self, self._send_call(calls.get_job(job_id)))

    def jobs(self, *, status: str | None = None, limit: int | None = None) -> Iterator[Job]:
        """Yield the tenant's jobs, newest first, at most `limit`."""
        infos = self._stream_flow(
            flows.list_items(lambda most, after: calls.list_jobs(status, most, after), limit, self._retry)
        )
        return (Job(self, info) for info in infos)

    def models(self) -> tuple[Model, ...]:
        """Return the models that jobs may name."""
        return self._send_call(calls.list_models())

    def limits(self) -> Limits:
        """Return the limits of this key and tenant, with the remaining quota."""
        return self._send_call(calls.get_limits())

    @property
    def webhooks(self) -> Webhooks:
        """Webhook endpoints and delivery history."""
        return Webhooks(self)

    @property
    def label_sets(self) -> LabelSets:
        """Labels that are stored once and named by jobs."""
        return LabelSets(self)

    def close(self) -> None:
        """Close the connections. Jobs continue."""
        if not self._connection.inherited:
            self._connection.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send_call(self, call: Call[T]) -> T:
        return self._run_flow(flows.send_call(call, self._retry))

    def _run_flow(self, flow: Flow[T]) -> T:
        run = Run(flow)
        while run.command is not None:
            self._execute(run, run.command)
        return run.value

    def _stream_flow(self, flow: Flow[None], source: Iterator[Any] | None = None) -> Iterator[Any]:
        run = Run(flow)
        while run.command is not None:
            if isinstance(run.command, flows.Emit):
                yield from run.command.items
                run.answer()
            elif isinstance(run.command, flows.Pull) and source is not None:
                run.answer(next(source, flows.END))
            else:
                self._execute(run, run.command)

    def _execute(self, run: Run[Any], command: flows.Command) -> None:
        if isinstance(command, flows.Sleep):
            time.sleep(command.seconds)
            run.answer()
            return
        if not isinstance(command, flows.Send):
            raise TypeError(f"{type(command).__name__} is allowed only in streams")
        try:
            response = self._connection.http.send(self._connection.build_request(command.call))
        except httpx.RequestError as error:
            run.fail(self._connection.name_proxy(error))
        else:
            run.answer(response)
