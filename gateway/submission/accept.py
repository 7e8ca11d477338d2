"""Accepts a submission, from its headers to the ledger: the steps of POST /v1/jobs and /v1/extract in order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from fastapi import Request
from starlette.responses import Response

from gateway.access.auth import Caller, recheck_caller
from gateway.reading.job_waiter import CompletionWatch
from gateway.reading.views import job_url
from gateway.services import Services
from gateway.submission.body_memory import LARGE_BYTES, Reservation
from gateway.submission.create import AcceptedJob, SubmissionContext, create_job, new_job_id
from gateway.submission.headers import body_limits, check_media_type, read_body, read_idempotency_key, trace_context
from gateway.submission.ndjson import MEDIA_TYPE, OnBadLine
from gateway.submission.packing import PackedDocuments, pack_documents
from gateway.submission.parsing import Submission, parse_submission
from gateway.submission.stream import accept_upload

_INLINE_BYTES = 64 * 1024
"""Bodies up to this size are parsed and packed on the event loop; a thread would cost more than it saves."""


async def accept_job(
    request: Request,
    services: Services,
    caller: Caller,
    *,
    on_bad_line: OnBadLine = "reject",
    watch: CompletionWatch | None = None,
) -> AcceptedJob:
    """Read, check and create the job of a request.

    With `watch`, of POST /v1/extract: the request waits for the end of the job itself.

    Raises:
        GatewayError: the request is not valid, or there is no capacity for it.
        LedgerUnavailableError: the job may or may not exist.
        ClientDisconnect: the client closed the connection before the body was read.
    """
    if watch is None and check_media_type(request, "application/json", MEDIA_TYPE) == MEDIA_TYPE:
        accepted = await accept_upload(request, services, caller, on_bad_line)
    else:
        accepted = await _accept_json(request, services, caller, watch)
    if watch is None:  # /v1/extract responds with results; if it falls back to a 202, it confirms then
        await services.barrier.confirm_writes()
    return accepted


async def _accept_json(
    request: Request, services: Services, caller: Caller, watch: CompletionWatch | None
) -> AcceptedJob:
    settings = services.settings
    async with services.body_memory.reserve_for(caller.tenant) as reservation:
        body = await read_body(request, body_limits(settings, settings.max_body_bytes), reservation)
        await recheck_caller(services, caller)
        if len(body) > LARGE_BYTES:
            key = await asyncio.to_thread(read_idempotency_key, request, body)
        else:
            key = read_idempotency_key(request, body)
        context = SubmissionContext(caller, key, trace_context(request), watch)
        read = partial(_parse_and_pack, services, body, reservation, extract=watch is not None)
        return await create_job(services, context, read)


async def _parse_and_pack(
    services: Services, body: bytearray, reservation: Reservation, *, extract: bool
) -> Submission[PackedDocuments]:
    settings, size = services.settings, len(body)

    def parse() -> Submission[PackedDocuments]:
        pack = partial(pack_documents, services.codec, new_job_id())
        max_documents = settings.extract_max_documents if extract else settings.max_documents
        submission = parse_submission(body, settings, pack, max_documents=max_documents, extract=extract)
        body.clear()  # the packed documents replace it in memory
        return submission

    if size <= _INLINE_BYTES:
        return parse()
    if size <= LARGE_BYTES:
        return await asyncio.to_thread(parse)
    async with reservation.parsing_turn():
        return await asyncio.to_thread(parse)


def accepted_response(accepted: AcceptedJob, headers: Mapping[str, str] | None = None) -> Response:
    """Return the 202 of a submission; a replay is the stored response."""
    return Response(
        accepted.render_body(),
        202,
        media_type="application/json",
        headers={"Retry-After": "1", **accepted_headers(accepted), **(headers or {})},
    )


def accepted_headers(accepted: AcceptedJob) -> dict[str, str]:
    """Return the headers with the job's URL, and whether an earlier request created it."""
    headers = {"Location": job_url(accepted.job_id)}
    if accepted.is_replay:
        headers["Idempotency-Replayed"] = "true"
    return headers
