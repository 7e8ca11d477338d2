"""`AsyncClient`: `gleaner.client` from asyncio, another driver of the same flows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from gleaner.client import calls, flows
from gleaner.client import transport as sending
from gleaner.client.arguments import check_documents_async, hold_documents, hold_labels, refuse_other_collections
from gleaner.client.calls import Call, Document, Labels, SubmitOptions
from gleaner.client.connection import Connection
from gleaner.client.flows import Flow, Retry, Run
from gleaner.client.transport import Handle, OnMapProgress, OnProgress
from gleaner.models import JobInfo, Limits, Model, Result
from gleaner.webhook_endpoints import AsyncWebhooks

T = TypeVar("T")


class AsyncJob(Handle):
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
        self._connection = Connection(httpx.AsyncClient, url, sending.headers(key), transport)

    async def submit(
        self,
        documents: Iterable[Document],
        labels: Labels | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJob:
        """As `Client.submit`."""
        flow = flows.submit(hold_documents(documents), hold_labels(labels), options, self._retry)
        return AsyncJob(self, await self._drive(flow))

    async def extract(
        self,
        texts: Iterable[Document],
        labels: Labels | None = None,
        **options: Unpack[SubmitOptions],
    ) -> list[Result]:
        """As `Client.extract`."""
        return await self._drive(flows.extract(hold_documents(texts), hold_labels(labels), options, self._retry))

    def map(
        self,
        documents: Iterable[Document] | AsyncIterable[Document],
        labels: Labels | None = None,
        *,
        on_progress: OnMapProgress | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncIterator[Result]:
        """As `Client.map`; documents may come from an asynchronous iterable too."""
        refuse_other_collections(documents)
        flow = flows.map_documents(
            hold_labels(labels), options, self._retry, sending.length(documents), on_progress
        )
        return self._stream(flow, check_documents_async(_asynchronous(documents)))

    async def job(self, job_id: str) -> AsyncJob:
        """As `Client.job`."""
        return AsyncJob(self, await self._call(calls.job(job_id)))

    async def jobs(self, *, status: str | None = None, limit: int | None = None) -> AsyncIterator[AsyncJob]:
        """As `Client.jobs`."""
        flow = flows.listed(lambda most, after: calls.jobs(status, most, after), limit, self._retry)
        async for info in self._stream(flow):
            yield AsyncJob(self, info)

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
        if not self._connection.inherited:
            await self._connection.http.aclose()

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

    async def _stream(self, flow: Flow[None], source: AsyncIterator[Document] | None = None) -> AsyncIterator[Any]:
        run = Run(flow)
        while run.command is not None:
            if isinstance(run.command, flows.Emit):
                for each in run.command.found:
                    yield each
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
            body = sending.body(command.call)
            content = body if body is None or isinstance(body, bytes) else _asynchronous(body)
            http = self._connection.http
            response = await http.send(sending.request(http, command.call, content, self._timeout))
        except httpx.RequestError as error:
            run.fail(self._connection.name_proxy(error))
        else:
            run.answer(response)


async def _asynchronous(source: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(source, AsyncIterable):
        async for each in source:
            yield each
    else:
        for each in source:
            yield each
