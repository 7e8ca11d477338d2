"""/v1/jobs: submit, list, follow, cancel, retry, remove."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from gateway.access.auth import LIST_COST, Caller, require
from gateway.http import openapi
from gateway.http.problems import Problem
from gateway.http.schemas.jobs import JobBody, JobsPage
from gateway.http.services import Services, ServicesDep
from gateway.reading import cursors
from gateway.reading.job_access import get_owned_job
from gateway.reading.responses import job_response, wait_for_end
from gateway.reading.views import build_etag, decode_metadata, job_json, to_epoch_ms
from gateway.submission.accept import accept_job, accepted_headers, accepted_response
from gateway.submission.create import AcceptedJob
from gateway.submission.headers import preferred_wait, read_idempotency_key, trace_context
from gateway.submission.ndjson import OnBadLine
from gateway.submission.retry import create_retry
from jobs import ledger
from jobs.api_keys import Role
from jobs.ledger import LedgerUnavailableError
from jobs.schema import JobStatus

DEFAULT_LIMIT = 20
MAX_LIMIT = 100

submitting = APIRouter(prefix="/v1/jobs", tags=["jobs"])
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Viewer = Annotated[Caller, Depends(require(Role.VIEWER))]
Submitter = Annotated[Caller, Depends(require(Role.SUBMITTER))]
Submission = Annotated[Caller, Depends(require(Role.SUBMITTER, submits=True))]
JobId = Annotated[str, Path(description="A job's id.", examples=["job_01kb4t7w3vq9x2m5n8r6c1d0fz"])]


@submitting.post(
    "",
    operation_id="submit_job",
    summary="Submit a job",
    status_code=202,
    response_model=None,
    responses={
        202: {"model": JobBody, "description": "The job is in the ledger and will end."},
        200: {"model": JobBody, "description": "The job ended within `Prefer: wait`."},
        **openapi.error_responses(*openapi.SUBMIT),
    },
    openapi_extra={
        **openapi.JOB_OR_LINES,
        "parameters": [openapi.IDEMPOTENCY_KEY, openapi.PREFER, openapi.CONTENT_ENCODING],
    },
)
async def submit_job(
    request: Request,
    services: ServicesDep,
    caller: Submission,
    on_bad_line: Annotated[
        OnBadLine,
        Query(description="NDJSON only: a line that is no document rejects the job, or fails as a document."),
    ] = "reject",
) -> Response:
    """Hand in documents and labels; the answer comes as soon as the job is safe.

    As JSON, or for many documents as NDJSON, which is read as it comes: the first line holds everything but
    `documents`, each further line is one document. With `Prefer: wait=n` the answer comes when the job ends, or
    after n seconds.
    """
    accepted = await accept_job(request, services, caller, on_bad_line=on_bad_line)
    wait = preferred_wait(request, services.settings.max_wait_s)
    with ExitStack() as held:
        try:
            if wait:
                held.enter_context(services.streams.hold_slot(caller))
        except Problem:
            wait = 0  # the job is made; a wait is a preference
        if not wait:
            return accepted_response(accepted)
        return await _wait_for_accepted(request, services, caller, accepted, wait)


async def _wait_for_accepted(
    request: Request, services: Services, caller: Caller, accepted: AcceptedJob, wait: int
) -> Response:
    headers = {"Preference-Applied": f"wait={wait}", **accepted_headers(accepted)}
    try:
        job = await wait_for_end(request, services, caller, accepted.job_id, wait)
    except LedgerUnavailableError:
        return accepted_response(accepted, headers)  # the job is safe; only looking at it failed
    status = 200 if job.status.is_terminal else 202
    return job_response(services, job, status, headers, accepted.webhook)


@router.get(
    "",
    operation_id="list_jobs",
    summary="List your jobs",
    response_model=None,
    responses={
        200: {
            "model": JobsPage,
            "description": "Newest first. A page may hold fewer jobs than asked for and yet have a next one.",
        },
        **openapi.error_responses("bad_cursor", "validation_failed"),
    },
)
async def list_jobs(
    services: ServicesDep,
    caller: Annotated[Caller, Depends(require(Role.VIEWER, cost=LIST_COST))],
    status: Annotated[list[JobStatus] | None, Query(description="Only jobs in one of these states.")] = None,
    created_after: Annotated[AwareDatetime | None, Query(description="Only jobs created later than this.")] = None,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most jobs.")] = DEFAULT_LIMIT,
) -> Response:
    """Your tenant's jobs, newest first; a cursor stays good while jobs come and go."""
    found = await services.ledger.run(
        ledger.list_jobs(
            caller.tenant,
            limit,
            created_after=None if created_after is None else to_epoch_ms(created_after),
            behind=cursors.decode_job_cursor(cursor),
            statuses=frozenset(status or ()),
        )
    )
    jobs = b",".join(job_json(job, decode_metadata(services.codec, job)) for job in found.jobs)
    behind = orjson.dumps(None if found.next is None else cursors.encode_job_cursor(found.next))
    return Response(b'{"data":[%b],"next_cursor":%b}' % (jobs, behind), media_type="application/json")


@router.get(
    "/{job_id}",
    operation_id="get_job",
    summary="Look at a job",
    response_model=None,
    responses={
        200: {"model": JobBody, "description": "The job as it is now."},
        304: {"description": "It has not changed since the ETag of `If-None-Match`."},
        **openapi.error_responses(*openapi.JOB, "validation_failed"),
    },
    openapi_extra={
        "parameters": [
            openapi.header_parameter("If-None-Match", "An ETag seen before: 304 if nothing changed.", 'W/"7"')
        ]
    },
)
async def get_job(
    request: Request,
    services: ServicesDep,
    caller: Viewer,
    job_id: JobId,
    wait: Annotated[int, Query(ge=0, le=60, description="Answer when the job ends, or after so many seconds.")] = 0,
) -> Response:
    """The job's state, counts, progress and ETA; with `wait`, once it has ended."""
    job = await get_owned_job(services, caller, job_id)
    seconds = min(wait, services.settings.max_wait_s)
    if seconds and not job.status.is_terminal:
        with services.streams.hold_slot(caller):
            job = await wait_for_end(request, services, caller, job_id, seconds)
    if build_etag(job) in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers={"ETag": build_etag(job)})
    return job_response(services, job)


@router.post(
    "/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_model=None,
    responses={
        200: {"model": JobBody, "description": "The job has ended."},
        202: {"model": JobBody, "description": "What runs now may still finish; then the job ends."},
        **openapi.error_responses(*openapi.JOB),
    },
)
async def cancel_job(services: ServicesDep, caller: Submitter, job_id: JobId) -> Response:
    """End what has not begun; what finished is kept. Repeating it changes nothing."""
    await get_owned_job(services, caller, job_id)
    if await services.ledger.run(ledger.cancel_job(job_id)) is ledger.CancelOutcome.CLOSED:
        services.metrics.jobs.labels("cancelled").inc()
    await services.barrier.confirm_writes()
    job = await get_owned_job(services, caller, job_id)
    return job_response(services, job, 200 if job.status.is_terminal else 202)


@router.post(
    "/{job_id}/retry",
    operation_id="retry_job",
    summary="Retry what did not succeed",
    status_code=202,
    response_model=None,
    responses={
        202: {"model": JobBody, "description": "The new job; `retry_of` names this one."},
        **openapi.error_responses(
            *openapi.JOB,
            "job_not_terminal",
            "nothing_to_retry",
            "already_retried",
            "texts_dropped",
            "idempotency_in_progress",
            "idempotency_key_reused",
            "validation_failed",
            "unknown_model",
            "quota_exceeded",
            "overloaded",
        ),
    },
    openapi_extra={"parameters": [openapi.IDEMPOTENCY_KEY]},
)
async def retry_job(request: Request, services: ServicesDep, caller: Submission, job_id: JobId) -> Response:
    """A new job of an ended one's failed, cancelled and expired documents, with the same labels and options.

    Documents keep their ids. A job is retried once, and its texts move to the retry; what that leaves over is
    retried from there. A cancelled job can be retried for the `retry_text_ttl_s` of GET /v1/limits.
    """
    key = read_idempotency_key(request, b"")
    accepted = await create_retry(services, caller, job_id, key, trace_context(request))
    await services.barrier.confirm_writes()
    return accepted_response(accepted)


@router.delete(
    "/{job_id}",
    operation_id="delete_job",
    summary="Remove a job",
    status_code=204,
    response_model=None,
    responses={
        204: {"description": "Texts, results and metadata are gone."},
        **openapi.error_responses(*openapi.JOB, "job_not_terminal"),
    },
)
async def delete_job(services: ServicesDep, caller: Submitter, job_id: JobId) -> Response:
    """Remove an ended job and all that was said of it at once; its id answers 410 for seven days.

    That is texts, results, metadata, what its Idempotency-Key answers, its own webhook endpoint with its secret,
    and its deliveries. One that is still to come goes out without metadata.
    """
    await get_owned_job(services, caller, job_id)
    outcome = await services.ledger.run(ledger.purge_job(job_id))
    if outcome is ledger.PurgeOutcome.NOT_TERMINAL:
        raise Problem("job_not_terminal", "the job has not ended; cancel it first")
    if outcome is not ledger.PurgeOutcome.PURGED:
        await get_owned_job(services, caller, job_id)  # says what became of it meanwhile
    await services.barrier.confirm_writes()
    return Response(status_code=204)
