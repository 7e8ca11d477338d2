"""Responses with a job or its results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar, cast

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gateway.access.streams import ReleasingResponse
from gateway.reading.results import ResultsReader
from gateway.reading.views import build_etag, decode_metadata, job_json, retry_after_s
from gateway.schemas.jobs import JobWebhook
from jobs.codec import Codec
from jobs.schema import Job

T = TypeVar("T")


async def run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; cancel it if the client closes the connection first.

    Raises:
        ClientDisconnect: the client closed the connection.
    """
    disconnected = False

    async def cancel_on_disconnect(task: asyncio.Task[Any]) -> None:
        nonlocal disconnected
        while (await request.receive())["type"] != "http.disconnect":
            pass
        disconnected = True
        task.cancel()

    task = cast("asyncio.Task[Any]", asyncio.current_task())  # a running coroutine is always in a task
    watcher = asyncio.create_task(cancel_on_disconnect(task))
    try:
        return await work
    except asyncio.CancelledError:
        if disconnected and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()


async def results_response(
    reader: ResultsReader,
    head: bytes = b"",
    end: Callable[[ResultsReader], bytes] = lambda _: b"",
    headers: Mapping[str, str] | None = None,
    slot: AbstractContextManager[None] | None = None,
) -> Response:
    """Return JSON with the results between `head` and `end`: at once if they are small, else as a stream.

    `slot` counts a stream until it ends.

    Raises:
        GatewayError: job_not_found or job_purged; rate_limited by `slot`.
        LedgerUnavailableError: Redis does not answer.
    """
    first = await reader.read_first()
    if reader.done:
        return Response(head + first + end(reader), media_type="application/json", headers=headers)
    with ExitStack() as resources:
        if slot is not None:
            resources.enter_context(slot)
        content = stream_results(reader, first, head, end)
        return ReleasingResponse(content, resources.pop_all(), "application/json", headers)


async def stream_results(
    reader: ResultsReader, first: bytes, head: bytes = b"", end: Callable[[ResultsReader], bytes] = lambda _: b""
) -> AsyncIterator[bytes]:
    """Yield `head`, the results of `reader` beginning with `first`, and the `end`."""
    async for chunk in reader.stream(head + first):
        yield chunk
    if tail := end(reader):
        yield tail


def job_response(
    codec: Codec,
    job: Job,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    webhook: JobWebhook | None = None,
) -> Response:
    """Return a job as a response with its ETag, and Retry-After until it has ended."""
    body = job_json(job, decode_metadata(codec, job), webhook)
    all_headers = {"ETag": build_etag(job), **(headers or {})}
    if not job.status.is_terminal:
        all_headers["Retry-After"] = str(retry_after_s(job))
    return Response(body, status, media_type="application/json", headers=all_headers)
