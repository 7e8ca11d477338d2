"""`Client` and `AsyncClient`: documents in, results out, over HTTP.

Both drive the same flows (`gleaner._flows`); all they add is how to send, sleep and hand over results.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence, Sized
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from gleaner import _calls as calls
from gleaner import _flows as flows
from gleaner._calls import Call, Document, JobPage, Labels, SubmitOptions
from gleaner._flows import Flow, MapProgress, Retry, Run
from gleaner.endpoints import AsyncWebhooks, Webhooks
from gleaner.models import Counts, JobInfo, Limits, Model, Result

T = TypeVar("T")
OnProgress = Callable[[JobInfo], None]
OnMapProgress = Callable[[MapProgress], None]


class _Handle:
    """What `Job` and `AsyncJob` share: the last answer about the job, and its fields."""

    info: JobInfo

    @property
    def id(self) -> str:
        """The job's id."""
        return self.info.id

    @property
    def status(self) -> str:
        """The job's status when the gateway last answered."""
        return self.info.status

    @property
    def done(self) -> bool:
        """True once the job is terminal."""
        return self.info.done

    @property
    def counts(self) -> Counts:
        """Documents by state when the gateway last answered."""
        return self.info.counts

    @property
    def progress(self) -> float:
        """Finished documents as a fraction of all, 0..1."""
        return self.info.progress

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"


class Job(_Handle):
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
        self._http = httpx.Client(base_url=url, headers=_headers(key), transport=transport)

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
        return Job(self, self._drive(flows.submit(_listed(documents), labels, options, self._retry)))

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
        return self._drive(flows.extract(_listed(texts), labels, options, self._retry))

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
        flow = flows.map_documents(labels, options, self._retry, _length(documents), on_progress)
        return self._stream(flow, iter(documents))

    def job(self, job_id: str) -> Job:
        """A job submitted earlier or elsewhere."""
        return Job(self, self._call(calls.job(job_id)))

    def jobs(self, *, status: str | None = None, limit: int | None = None) -> Iterator[Job]:
        """The tenant's jobs, newest first; at most `limit` of them."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            page: JobPage = self._call(calls.jobs(status, left and min(left, 100), cursor))
            yield from (Job(self, info) for info in page.jobs[:left])
            left = None if left is None else left - len(page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return

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
        self._http.close()

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

    def _stream(self, flow: Flow[None], source: Iterator[Document] | None = None) -> Iterator[Result]:
        run = Run(flow)
        while run.command is not None:
            if isinstance(run.command, flows.Emit):
                yield from run.command.results
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
        try:
            response = self._http.send(_request(self._http, command.call, _body(command.call), self._timeout))
        except httpx.RequestError as error:
            run.fail(error)
        else:
            run.answer(response)


class AsyncJob(_Handle):
    """`Job`, awaited."""

    def __init__(self, client: AsyncClient, info: JobInfo) -> None:
        self._client = client
        self.info = info

    async def refresh(self) -> Self:
        """Ask the gateway once."""
        self.info = await self._client._call(calls.job(self.id))
        return self

    async def wait(self, timeout: float | None = None, on_progress: OnProgress | None = None) -> Self:  # noqa: ASYNC109
        """As `Job.wait`."""
        flow = flows.wait(self.info, timeout, on_progress, self._client._retry)
        self.info = await self._client._drive(flow)
        return self

    def results(
        self, *, status: str | None = None, page_size: int | None = None, follow: bool = True
    ) -> AsyncIterator[Result]:
        """As `Job.results`."""
        client = self._client
        return client._stream(
            flows.results(self.info, client._retry, page_size=page_size, status=status, follow=follow)
        )

    async def cancel(self) -> Self:
        """As `Job.cancel`."""
        self.info = await self._client._call(calls.cancel(self.id))
        return self

    async def retry(self) -> AsyncJob:
        """As `Job.retry`."""
        return AsyncJob(self._client, await self._client._call(calls.retry(self.id, uuid.uuid4().hex)))

    async def delete(self) -> None:
        """As `Job.delete`."""
        await self._client._call(calls.delete(self.id))


class AsyncClient:
    """A gateway, from asyncio; arguments and methods as `Client`'s.

    Examples:
        >>> async def people(texts):
        ...     async with AsyncClient(url, key) as client:
        ...         return [result.entities[0].text async for result in client.map(texts, ["person"])]
        >>> asyncio.run(people(["Ada Lovelace wrote.", "Grace Hopper sailed."]))
        ['Ada Lovelace', 'Grace Hopper']
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 5,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._retry = Retry(retries)
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(key), transport=transport)

    async def submit(
        self,
        documents: Iterable[Document],
        labels: Labels | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJob:
        """As `Client.submit`."""
        flow = flows.submit(_listed(documents), labels, options, self._retry)
        return AsyncJob(self, await self._drive(flow))

    async def extract(
        self,
        texts: Iterable[Document],
        labels: Labels | None = None,
        **options: Unpack[SubmitOptions],
    ) -> list[Result]:
        """As `Client.extract`."""
        return await self._drive(flows.extract(_listed(texts), labels, options, self._retry))

    def map(
        self,
        documents: Iterable[Document] | AsyncIterable[Document],
        labels: Labels | None = None,
        *,
        on_progress: OnMapProgress | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncIterator[Result]:
        """As `Client.map`; documents may come from an asynchronous iterable too."""
        flow = flows.map_documents(labels, options, self._retry, _length(documents), on_progress)
        return self._stream(flow, _asynchronous(documents))

    async def job(self, job_id: str) -> AsyncJob:
        """As `Client.job`."""
        return AsyncJob(self, await self._call(calls.job(job_id)))

    async def jobs(self, *, status: str | None = None, limit: int | None = None) -> AsyncIterator[AsyncJob]:
        """As `Client.jobs`."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            page: JobPage = await self._call(calls.jobs(status, left and min(left, 100), cursor))
            for info in page.jobs[:left]:
                yield AsyncJob(self, info)
            left = None if left is None else left - len(page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def models(self) -> tuple[Model, ...]:
        """As `Client.models`."""
        return await self._call(calls.models())

    async def limits(self) -> Limits:
        """As `Client.limits`."""
        return await self._call(calls.limits())

    @property
    def webhooks(self) -> AsyncWebhooks:
        """As `Client.webhooks`."""
        return AsyncWebhooks(self)

    async def aclose(self) -> None:
        """Close the connections. Jobs go on."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _call(self, call: Call[T]) -> T:
        return await self._drive(flows.request(call, self._retry))

    async def _drive(self, flow: Flow[T]) -> T:
        run = Run(flow)
        while run.command is not None:
            await self._obey(run, run.command)
        return run.value

    async def _stream(
        self, flow: Flow[None], source: AsyncIterator[Document] | None = None
    ) -> AsyncIterator[Result]:
        run = Run(flow)
        while run.command is not None:
            if isinstance(run.command, flows.Emit):
                for result in run.command.results:
                    yield result
                run.answer()
            elif isinstance(run.command, flows.Pull) and source is not None:
                run.answer(await anext(source, flows.END))
            else:
                await self._obey(run, run.command)

    async def _obey(self, run: Run[Any], command: flows.Command) -> None:
        if isinstance(command, flows.Sleep):
            await asyncio.sleep(command.seconds)
            run.answer()
            return
        if not isinstance(command, flows.Send):
            raise TypeError(f"{type(command).__name__} is for streams")
        try:
            body = _body(command.call)
            content = body if body is None or isinstance(body, bytes) else _asynchronous(body)
            response = await self._http.send(_request(self._http, command.call, content, self._timeout))
        except httpx.RequestError as error:
            run.fail(error)
        else:
            run.answer(response)


def _body(call: Call[Any]) -> bytes | Iterator[bytes] | None:
    return call.content() if callable(call.content) else call.content


def _request(
    http: httpx.Client | httpx.AsyncClient,
    call: Call[Any],
    content: bytes | Iterator[bytes] | AsyncIterator[bytes] | None,
    timeout_s: float,
) -> httpx.Request:
    return http.build_request(
        call.method,
        call.path,
        params=call.params,
        headers=call.headers,
        content=content,
        timeout=httpx.Timeout(timeout_s, read=timeout_s + call.patience_s),
    )


def _headers(key: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "gleaner-python"}
    return headers if key is None else {**headers, "Authorization": f"Bearer {key}"}


def _listed(documents: Iterable[Document]) -> Sequence[Document]:
    """Documents that can be read again, for a submission may have to be repeated; a list is taken as it is."""
    if isinstance(documents, str):
        raise TypeError("documents is one string; give a list of texts")
    return documents if isinstance(documents, Sequence) else list(documents)


def _length(documents: object) -> int | None:
    return len(documents) if isinstance(documents, Sized) else None


async def _asynchronous(source: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(source, AsyncIterable):
        async for each in source:
            yield each
    else:
        for each in source:
            yield each
