"""`AsyncClient`: `gleaner.client` for asyncio, a second driver of the same flows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from gleaner.client import calls, flows
from gleaner.client.arguments import check_documents_async
from gleaner.client.calls import Call, Document, Labels, SubmitOptions
from gleaner.client.connection import Connection
from gleaner.client.flows import Flow, OnProgress, Retry, Run
from gleaner.client.handle import Handle
from gleaner.client.scheduling import MapScheduler, OnMapProgress
from gleaner.label_sets import AsyncLabelSets
from gleaner.models import JobInfo, Limits, Model, Result
from gleaner.webhook_endpoints import AsyncWebhooks

T = TypeVar("T")


class AsyncJob(Handle):
    """Asynchronous `Job`."""

    def __init__(self, client: AsyncClient, info: JobInfo) -> None:
        self._client = client
        self.info = info

    async def refresh(self) -> Self:
        """See `Job.refresh`."""
        self.info = await self._client._send_call(calls.get_job(self.id))
        return self

    async def wait(self, timeout: float | None = None, on_progress: OnProgress | None = None) -> Self:  # noqa: ASYNC109
        """See `Job.wait`."""
        flow = flows.wait_for_job(self.info, timeout, on_progress, self._client._retry)
        self.info = await self._client._run_flow(flow)
        return self

    def results(
        self, *, status: str | None = None, page_size: int | None = None, follow: bool = True
    ) -> AsyncIterator[Result]:
        """See `Job.results`."""
        client = self._client
        return client._stream_flow(
            flows.emit_results(self.info, client._retry, page_size=page_size, status=status, follow=follow)
        )

    async def cancel(self) -> Self:
        """See `Job.cancel`."""
        self.info = await self._client._send_call(calls.cancel_job(self.id))
        return self

    async def retry(self) -> AsyncJob:
        """See `Job.retry`."""
        return AsyncJob(self._client, await self._client._send_call(calls.retry_job(self.id, uuid.uuid4().hex)))

    async def delete(self) -> None:
        """See `Job.delete`."""
        await self._client._send_call(calls.delete_job(self.id))


class AsyncClient:
    """Asynchronous client of a gateway, with the arguments and methods of `Client`.

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
        self._retry = Retry(retries)
        self._connection = Connection(httpx.AsyncClient, url, key, timeout, transport)

    async def submit(
        self, documents: Iterable[Document], labels: Labels | None = None, **options: Unpack[SubmitOptions]
    ) -> AsyncJob:
        """See `Client.submit`."""
        flow = flows.submit_job(documents, labels, options, self._retry)
        return AsyncJob(self, await self._run_flow(flow))

    async def extract(
        self, texts: Iterable[Document], labels: Labels | None = None, **options: Unpack[SubmitOptions]
    ) -> list[Result]:
        """See `Client.extract`."""
        return await self._run_flow(flows.extract_documents(texts, labels, options, self._retry))

    def map(
        self,
        documents: Iterable[Document] | AsyncIterable[Document],
        labels: Labels | None = None,
        *,
        on_progress: OnMapProgress | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncIterator[Result]:
        """See `Client.map`; documents may also come from an asynchronous iterable."""
        scheduler = MapScheduler(documents, labels, options, self._retry, on_progress)
        return self._stream_flow(scheduler.schedule_jobs(), check_documents_async(_iterate_async(documents)))

    async def job(self, job_id: str) -> AsyncJob:
        """See `Client.job`."""
        return AsyncJob(self, await self._send_call(calls.get_job(job_id)))

    async def jobs(self, *, status: str | None = None, limit: int | None = None) -> AsyncIterator[AsyncJob]:
        """See `Client.jobs`."""
        flow = flows.list_items(lambda most, after: calls.list_jobs(status, most, after), limit, self._retry)
        async for info in self._stream_flow(flow):
            yield AsyncJob(self, info)

    async def models(self) -> tuple[Model, ...]:
        """See `Client.models`."""
        return await self._send_call(calls.list_models())

    async def limits(self) -> Limits:
        """See `Client.limits`."""
        return await self._send_call(calls.get_limits())

    @property
    def webhooks(self) -> AsyncWebhooks:
        """Webhook endpoints and delivery history."""
        return AsyncWebhooks(self)

    @property
    def label_sets(self) -> AsyncLabelSets:
        """Labels that are stored once and named by jobs."""
        return AsyncLabelSets(self)

    async def aclose(self) -> None:
        """Close the connections. Jobs continue."""
        if not self._connection.inherited:
            await self._connection.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _send_call(self, call: Call[T]) -> T:
        return await self._run_flow(flows.send_call(call, self._retry))

    async def _run_flow(self, flow: Flow[T]) -> T:
        run = Run(flow)
        while run.command is not None:
            await self._execute(run, run.command)
        return run.value

    async def _stream_flow(
        self, flow: Flow[None], source: AsyncIterator[Document] | None = None
    ) -> AsyncIterator[Any]:
        run = Run(flow)
        while run.command is not None:
            if isinstance(run.command, flows.Emit):
                for item in run.command.items:
                    yield item
                run.answer()
            elif isinstance(run.command, flows.Pull) and source is not None:
                run.answer(await anext(source, flows.END))
            else:
                await self._execute(run, run.command)

    async def _execute(self, run: Run[Any], command: flows.Command) -> None:
        if isinstance(command, flows.Sleep):
            await asyncio.sleep(command.seconds)
            run.answer()
            return
        if not isinstance(command, flows.Send):
            raise TypeError(f"{type(command).__name__} is allowed only in streams")
        try:
            request = self._connection.build_request(command.call, _iterate_async)
            response = await self._connection.http.send(request)
        except httpx.RequestError as error:
            run.fail(self._connection.name_proxy(error))
        else:
            run.answer(response)


async def _iterate_async(source: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item
