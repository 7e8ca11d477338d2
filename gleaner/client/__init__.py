"""`Client`: documents in, results out, over HTTP, from ordinary code.

It drives the flows of `gleaner.client.flows`; all it adds is how to send, sleep and hand over results.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from gleaner.client import calls, flows
from gleaner.client import transport as sending
from gleaner.client.arguments import check_documents, hold_documents, hold_labels, refuse_other_collections
from gleaner.client.calls import Call, Document, Labels, SubmitOptions
from gleaner.client.connection import Connection
from gleaner.client.flows import Flow, Retry, Run
from gleaner.client.transport import Handle, OnMapProgress, OnProgress
from gleaner.models import JobInfo, Limits, Model, Result
from gleaner.webhook_endpoints import Webhooks

T = TypeVar("T")


class Job(Handle):
    """A submitted job. `info` is what the gateway last said; every method that asks renews it."""

    def __init__(self, client: Client, info: JobInfo) -> None:
        self._client = client
        self.info = info

    def refresh(self) -> Self:
        """Ask the gateway once."""
        self.info = self._client._call(calls.job(self.id))
        return self

    def wait(self, timeout: float | None = None, on_progress: OnProgress | None = None) -> Self:
        """Return when the job is terminal, whatever its end.

        Args:
            timeout: seconds; None waits as long as it takes.
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
        self.info = self._client._drive(flows.wait(self.info, timeout, on_progress, self._client._retry))
        return self

    def results(
        self, *, status: str | None = None, page_size: int | None = None, follow: bool = True
    ) -> Iterator[Result]:
        """Every document's result, in input order, as they become ready.

        Args:
            status: only those with this document status.
            page_size: results a request; the gateway's default if None.
            follow: wait for unfinished documents; if False, stop at the first of them.
        """
        client = self._client
        return client._stream(
            flows.results(self.info, client._retry, page_size=page_size, status=status, follow=follow)
        )

    def cancel(self) -> Self:
        """Stop the job; documents that are finished keep their results. Harmless on a finished job."""
        self.info = self._client._call(calls.cancel(self.id))
        return self

    def retry(self) -> Job:
        """A new job of this one's failed, cancelled and expired documents.

        Raises:
            Conflict: this one has not ended, has nothing left over, or was retried before (`code` says which).
        """
        return Job(self._client, self._client._call(calls.retry(self.id, uuid.uuid4().hex)))

    def delete(self) -> None:
        """Purge input and results at once. The job must be terminal, else `Conflict`."""
        self._client._call(calls.delete(self.id))


class Client:
    """A gateway, from ordinary code. Thread-safe; use it as a context manager, or `close` it.

    It may be made before a fork (gunicorn --preload, Celery prefork, multiprocessing): each process then opens its
    connections itself.

    What met no answer, a 429 or a 503 is sent again with growing pauses, or after Retry-After. Submissions carry an
    Idempotency-Key, so that one that was heard after all is not done twice.

    Args:
        url: the gateway, as `http://127.0.0.1:8000`.
        key: an API key; None where the gateway asks for none.
        timeout: seconds one request may take, beyond what the gateway was asked to wait.
        retries: how often a request that met no answer, a 429 or a 503 is repeated.
        transport: another way to send, as httpx takes it.

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
        self._timeout = timeout
        self._retry = Retry(retries)
        self._connection = Connection(httpx.Client, url, sending.headers(key), transport)

    def submit(
        self,
        documents: Iterable[Document],
        labels: Labels | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Submit documents as one job.

        Args:
            documents: texts, or mappings with `text` and, if wanted, `id`, `labels`, `options`. Many go as lines.
            labels: what to look for, in documents without labels of their own.
            **options: see `SubmitOptions`.

        Raises:
            ValidationError: `errors` says which field is wrong, and why.
            TooLarge: split it, or use `map`.
            RateLimited: retries are used up, or the gateway asked for a longer wait than they cover.
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
            self, self._drive(flows.submit(hold_documents(documents), hold_labels(labels), options, self._retry))
        )

    def extract(
        self,
        texts: Iterable[Document],
        labels: Labels | None = None,
        **options: Unpack[SubmitOptions],
    ) -> list[Result]:
        """The results of a few documents, in order, waited for.

        Examples:
            >>> [result] = client.extract(["Ada Lovelace lived in London."], {"city": "a town"}, offset_unit="byte")
            >>> result.entities[0].text, result.entities[0].start
            ('London', 22)
        """
        return self._drive(flows.extract(hold_documents(texts), hold_labels(labels), options, self._retry))

    def map(
        self,
        documents: Iterable[Document],
        labels: Labels | None = None,
        *,
        on_progress: OnMapProgress | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Iterator[Result]:
        """The results of any number of documents, in order, read and submitted as results are consumed.

        About a thousand documents are under way at once, whatever the source holds: memory stays flat.

        Args:
            documents: as for `submit`; a generator is read as it is needed.
            labels: as for `submit`.
            on_progress: called as documents are submitted and results handed out.
            **options: as for `submit`, without `idempotency_key`: every job gets one of its own.

        Examples:
            >>> seen = []
            >>> texts = (f"Ada Lovelace wrote letter {number}." for number in range(300))
            >>> results = client.map(texts, ["person"], on_progress=seen.append)
            >>> sum(len(result.entities) for result in results)
            300
            >>> seen[-1]
            MapProgress(done=300, failed=0, submitted=300, total=None)
        """
        refuse_other_collections(documents)
        flow = flows.map_documents(
            hold_labels(labels), options, self._retry, sending.length(documents), on_progress
        )
        return self._stream(flow, check_documents(documents))

    def job(self, job_id: str) -> Job:
        """A job submitted earlier or elsewhere."""
        return Job(self, self._call(calls.job(job_id)))

    def jobs(self, *, status: str | None = None, limit: int | None = None) -> Iterator[Job]:
        """The tenant's jobs, newest first; at most `limit` of them."""
        found = self._stream(flows.listed(lambda most, after: calls.jobs(status, most, after), limit, self._retry))
        return (Job(self, info) for info in found)

    def models(self) -> tuple[Model, ...]:
        """The models that jobs may name."""
        return self._call(calls.models())

    def limits(self) -> Limits:
        """What this key and tenant may do, and what is left of it now."""
        return self._call(calls.limits())

    @property
    def webhooks(self) -> Webhooks:
        """Who is told when jobs end."""
        return Webhooks(self)

    def close(self) -> None:
        """Close the connections. Jobs go on."""
        if not self._connection.inherited:
            self._connection.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, call: Call[T]) -> T:
        return self._drive(flows.request(call, self._retry))

    def _drive(self, flow: Flow[T]) -> T:
        run = Run(flow)
        while run.command is not None:
            self._obey(run, run.command)
        return run.value

    def _stream(self, flow: Flow[None], source: Iterator[Document] | None = None) -> Iterator[Any]:
        run = Run(flow)
        while run.command is not None:
            if isinstance(run.command, flows.Emit):
                yield from run.command.found
                run.answer()
            elif isinstance(run.command, flows.Pull) and source is not None:
                run.answer(next(source, flows.END))
            else:
                self._obey(run, run.command)

    def _obey(self, run: Run[Any], command: flows.Command) -> None:
        if isinstance(command, flows.Sleep):
            time.sleep(command.seconds)
            run.answer()
            return
        if not isinstance(command, flows.Send):
            raise TypeError(f"{type(command).__name__} is for streams")
        http = self._connection.http
        try:
            response = http.send(sending.request(http, command.call, sending.body(command.call), self._timeout))
        except httpx.RequestError as error:
            run.fail(self._connection.name_proxy(error))
        else:
            run.answer(response)
