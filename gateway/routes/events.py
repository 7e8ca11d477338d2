"""/v1/jobs/{id}/events: a job's progress as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from gateway.access import Caller
from gateway.errors import GatewayError, StreamAbortedError
from gateway.http import openapi
from gateway.http.middleware import get_request_id
from gateway.http.problems import to_problem
from gateway.http.responses import ReleasingResponse
from gateway.reading.job_waiter import CHECK_EVERY_S
from gateway.reading.views import decode_metadata, job_json
from gateway.routes.dependencies import Services, ServicesDep, Viewer
from gateway.routes.jobs import JobId
from jobs.codec import Codec
from jobs.ledger import LedgerUnavailableError
from jobs.schema import Job

EVENT_STREAM = "text/event-stream"
HEARTBEAT_S = 15.0
"""Seconds of silence after which a comment is sent, so that proxies and clients see that the stream is alive."""
MIN_INTERVAL_S = 0.25
"""Shortest time between two progress events."""
_RETRY_MS = 1000

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get(
    "/{job_id}/events",
    operation_id="follow_job",
    summary="Follow a job",
    response_model=None,
    responses={
        200: {
            "description": "`progress` events, then one `terminal` event; each event's data is the job, its id the "
            "job's version. If the key becomes invalid, the last event is `error`, with a problem as data.",
            "content": {
                EVENT_STREAM: {
                    "schema": {"type": "string"},
                    "example": 'id: 3\nevent: progress\ndata: {"status":"running"}\n\n',
                }
            },
        },
        204: {"description": "The job has ended and `Last-Event-ID` is its last event."},
        **openapi.error_responses(*openapi.JOB, "validation_failed"),
    },
)
async def follow_job(
    request: Request,
    services: ServicesDep,
    caller: Viewer,
    job_id: JobId,
    last_event_id: Annotated[
        str | None,
        Header(max_length=64, description="The last event that was received; earlier events are not repeated."),
    ] = None,
) -> Response:
    """Stream the job now and after every change until its end; intermediate states may be skipped.

    The stream also ends when the gateway stops: reconnect with `Last-Event-ID`, as browsers do automatically.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(services.streams.hold_slot(caller))
        job = await services.jobs.get_job(caller, job_id)
        seen = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else 0
        if job.status.is_terminal and seen == job.version:
            return Response(status_code=204)
        return ReleasingResponse(
            _stream_events(services, caller, job_id, seen, get_request_id(request.scope)),
            stack.pop_all(),
            media_type=EVENT_STREAM,
            headers={"X-Accel-Buffering": "no"},  # nginx would buffer events
        )


async def _stream_events(
    services: Services, caller: Caller, job_id: str, seen: int, request: str = ""
) -> AsyncIterator[bytes]:
    """Yield events as they come; each is built when the client takes it.

    Raises:
        StreamAbortedError: the job was removed.
    """

    async def read() -> Job | None:
        try:
            return await services.jobs.get_job(caller, job_id)
        except LedgerUnavailableError:
            return None  # the stream survives an outage: a later read finds the change
        except GatewayError as error:
            raise StreamAbortedError(error.code) from error

    yield f"retry: {_RETRY_MS}\n\n".encode()
    silent_since = time.monotonic()
    async for job in services.waiter.follow_job(job_id, read, CHECK_EVERY_S):
        try:
            await services.authenticator.recheck_caller(caller)
        except GatewayError as error:
            yield b"event: error\ndata: %b\n\n" % orjson.dumps(to_problem(error).to_dict(request))
            return
        if job is not None and (job.version != seen or job.status.is_terminal):
            silent_since, seen = time.monotonic(), job.version
            yield _encode_event(services.codec, job)
            if job.status.is_terminal:
                return
            await asyncio.sleep(MIN_INTERVAL_S)
        elif time.monotonic() - silent_since >= HEARTBEAT_S:
            silent_since = time.monotonic()
            yield b": waiting\n\n"


def _encode_event(codec: Codec, job: Job) -> bytes:
    name = b"terminal" if job.status.is_terminal else b"progress"
    data = job_json(job, decode_metadata(codec, job))
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (job.version, name, data)
