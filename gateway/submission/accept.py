"""What the routes share: a submission from head to ledger, a wait while the client is there, the job as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, TypeVar, cast

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gateway.access.auth import Caller, recheck_caller
from gateway.access.streams import ReleasingResponse
from gateway.http.schemas import JobWebhook
from gateway.http.services import Services
from gateway.reading.job_access import get_owned_job, parse_announced_page
from gateway.reading.job_waiter import CompletionWatch, Condition
from gateway.reading.results import ResultsReader, get_first_page
from gateway.reading.views import build_etag, job_json, job_url, retry_after_s
from gateway.submission.body_memory import LARGE_BYTES
from gateway.submission.create import AcceptedJob, create_job, new_job_id
from gateway.submission.headers import body_limits, check_media_type, read_body, read_idempotency_key, trace_context
from gateway.submission.ndjson import MEDIA_TYPE, OnBadLine
from gateway.submission.packing import PackedDocuments, pack_documents, unpack_metadata
from gateway.submission.parsing import Submission, parse_submission
from gateway.submission.stream import accept_upload
from jobs.ledger import Page
from jobs.schema import Job

T = TypeVar("T")

_INLINE_BYTES = 64 * 1024
"""Smaller bodies are parsed and packed in place; a thread would cost more than it saves."""


async def accept_job(
    request: Request,
    services: Services,
    caller: Caller,
    *,
    max_documents: int,
    on_bad_line: OnBadLine = "reject",
    expected: CompletionWatch | None = None,
) -> AcceptedJob:
    """Read, check and submit the request's job; of /v1/extract if its end is expected in this very request.

    Raises:
        Problem: whatever is wrong with the request, or with there being room for it.
        LedgerUnavailableError: the job may or may not exist.
        ClientDisconnect: the client went away before it was read.
    """
    settings, extract = services.settings, expected is not None
    if not extract and check_media_type(request, "application/json", MEDIA_TYPE) == MEDIA_TYPE:
        accepted = await accept_upload(request, services, caller, on_bad_line)
        await services.barrier.confirm_writes()
        return accepted
    async with services.body_memory.reserve_for(caller.tenant) as reservation:
        body = await read_body(request, body_limits(settings, settings.max_body_bytes), reservation)
        await recheck_caller(services, caller)
        large = len(body) > LARGE_BYTES

        def parsed() -> Submission[PackedDocuments]:
            take = partial(pack_documents, services.codec, new_job_id())
            submission = parse_submission(body, settings, take, max_documents=max_documents, extract=extract)
            body.clear()
            return submission

        async def read() -> Submission[PackedDocuments]:
            if len(body) <= _INLINE_BYTES:
                return parsed()
            if not large:
                return await asyncio.to_thread(parsed)
            async with reservation.parsing_turn():
                return await asyncio.to_thread(parsed)

        key = (
            await asyncio.to_thread(read_idempotency_key, request, body)
            if large
            else read_idempotency_key(request, body)
        )
        accepted = await create_job(services, caller, read, key, trace_context(request), expected)
    if not extract:  # whose answer is the result; where it is a 202 after all, it is confirmed then
        await services.barrier.confirm_writes()
    return accepted


async def wait_for_end(request: Request, services: Services, caller: Caller, job_id: str, seconds: float) -> Job:
    """The job when it ends, or as it is after so many seconds.

    Raises:
        Problem: job_not_found or job_purged; or the caller's key is not good any more.
        ClientDisconnect: nobody waits for the answer any more.
    """

    async def read() -> Job:
        return await get_owned_job(services, caller, job_id)

    return await while_connected(
        request,
        services.waiter.wait_until(
            job_id,
            seconds,
            Condition(read, lambda job: job.status.is_terminal, partial(recheck_caller, services, caller)),
        ),
    )


async def wait_for_page(
    request: Request, services: Services, caller: Caller, job_id: str, seconds: float, expected: CompletionWatch
) -> Page:
    """Wait like `wait_for_end`; return the first results too, from the announcement of the end if it has them."""

    async def read() -> Page:
        return parse_announced_page(caller, job_id, expected.inline_results) or await get_first_page(
            services, caller, job_id
        )

    return await while_connected(
        request,
        services.waiter.wait_until(
            job_id,
            seconds,
            Condition(read, lambda page: page.job.status.is_terminal, partial(recheck_caller, services, caller)),
            expected,
        ),
    )


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result, unless the client goes away first; the work is then cancelled.

    Raises:
        ClientDisconnect: it did.
    """
    gone = False

    async def watch(working: asyncio.Task[Any]) -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        working.cancel()

    working = cast("asyncio.Task[Any]", asyncio.current_task())  # where there is a coroutine, there is a task
    watching = asyncio.create_task(watch(working))
    try:
        return await work
    except asyncio.CancelledError:
        if gone and not working.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


async def results_response(
    reader: ResultsReader,
    head: bytes = b"",
    end: Callable[[ResultsReader], bytes] = lambda _: b"",
    headers: Mapping[str, str] | None = None,
    hold: AbstractContextManager[None] | None = None,
) -> Response:
    """Return JSON with what `reader` reads between `head` and `end`: whole if it is small, else as a stream.

    A stream is counted by `hold`, if it is given, until it ends.

    Raises:
        Problem: job_not_found or job_purged; rate_limited by `hold`.
        LedgerUnavailableError: the store does not answer.
    """
    first = await reader.read_first()
    if reader.done:
        return Response(head + first + end(reader), media_type="application/json", headers=headers)
    with ExitStack() as held:
        if hold is not None:
            held.enter_context(hold)
        content = stream_results(reader, first, head, end)
        return ReleasingResponse(content, held.pop_all(), "application/json", headers)


async def stream_results(
    reader: ResultsReader, first: bytes, head: bytes = b"", end: Callable[[ResultsReader], bytes] = lambda _: b""
) -> AsyncIterator[bytes]:
    """Yield `head`, what `reader` began to read with `first`, and the `end`."""
    async for piece in reader.stream(head + first):
        yield piece
    if tail := end(reader):
        yield tail


def job_response(
    services: Services,
    job: Job,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    webhook: JobWebhook | None = None,
) -> Response:
    """The job as a response, with its ETag, and when to look again while it is open."""
    body = job_json(job, unpack_metadata(services.codec, job), webhook)
    all_headers = {"ETag": build_etag(job), **(headers or {})}
    if not job.status.is_terminal:
        all_headers["Retry-After"] = str(retry_after_s(job))
    return Response(body, status, media_type="application/json", headers=all_headers)


def accepted_response(accepted: AcceptedJob, headers: Mapping[str, str] | None = None) -> Response:
    """The 202 of a submission: the stored answer, byte by byte."""
    return Response(
        accepted.answer(),
        202,
        media_type="application/json",
        headers={"Retry-After": "1", **accepted_headers(accepted), **(headers or {})},
    )


def accepted_headers(accepted: AcceptedJob) -> dict[str, str]:
    """Where the job is, and whether it was made by this very request."""
    headers = {"Location": job_url(accepted.job_id)}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return headers
