"""/v1/jobs: submit, list, follow, cancel, retry and delete jobs."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, Field
from starlette.responses import Response

from gateway.access import Caller
from gateway.errors import GatewayError
from gateway.http import openapi
from gateway.http.middleware import report_rate_limits
from gateway.http.requests import run_while_connected, to_incoming
from gateway.http.responses import accepted_headers, accepted_response, job_response
from gateway.reading import cursors
from gateway.reading.views import build_etag, decode_metadata, job_json, to_epoch_ms
from gateway.routes.dependencies import Lister, Services, ServicesDep, Submission, Submitter, Viewer
from gateway.routes.direct import DirectRoute
from gateway.schemas.jobs import JobBody, JobsPage
from gateway.submission.headers import preferred_wait, read_idempotency_key, trace_context
from gateway.submission.parsing.ndjson import OnBadLine
from gateway.submission.types import AcceptedJob, SubmissionContext
from jobs import ledger
from jobs.ledger import LedgerUnavailableError
from jobs.schema import JobStatus

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class JobsQuery(BaseModel):
    """Query of `list_jobs`."""

    status: list[JobStatus] | None = Field(None, description="Only jobs with one of these statuses.")
    created_after: AwareDatetime | None = Field(None, description="Only jobs created after this time.")
    cursor: str | None = Field(None, description="The previous page's `next_cursor`.")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Most jobs per page.")


submitting = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=DirectRoute)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(description="A job's id.", examples=["job_01kb4t7w3vq9x2m5n8r6c1d0fz"])]


@submitting.post(
    "",
    operation_id="submit_job",
    summary="Submit a job",
    status_code=202,
    response_model=None,
    responses={
        202: {"model": JobBody, "description": "The job is stored and will end."},
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
        Query(description="NDJSON only: an invalid line rejects the job, or becomes a failed document."),
    ] = "reject",
) -> Response:
    """Submit documents and labels; the response comes as soon as the job is stored safely.

    Send JSON, or for many documents NDJSON, which is read as a stream: the first line holds everything but
    `documents`, each further line is one document. With `Prefer: wait=n` the response comes when the job ends, or
    after n seconds.
    """
    accepted = await services.submissions.accept_job(to_incoming(request), caller, on_bad_line)
    report_rate_limits(request.scope, accepted.rate_limits)
    wait = preferred_wait(", ".join(request.headers.getlist("prefer")), services.settings.max_wait_s)
    with ExitStack() as stack:
        try:
            if wait:
                stack.enter_context(services.streams.hold_slot(caller))
        except GatewayError:
            wait = 0  # the job is created; the wait is only a preference
        if not wait:
            return accepted_response(accepted)
        return await _wait_for_accepted(request, services, caller, accepted, wait)


async def _wait_for_accepted(
    request: Request, services: Services, caller: Caller, accepted: AcceptedJob, wait: int
) -> Response:
    headers = {"Preference-Applied": f"wait={wait}", **accepted_headers(accepted)}
    try:
        job = await run_while_connected(request, services.jobs.wait_for_end(caller, accepted.job_id, wait))
    except LedgerUnavailableError:
        return accepted_response(accepted, headers)  # the job is safe; only reading it failed
    status = 200 if job.status.is_terminal else 202
    return job_response(services.codec, job, status, headers, accepted.webhook)


@router.get(
    "",
    operation_id="list_jobs",
    summary="List your jobs",
    response_model=None,
    responses={
        200: {
            "model": JobsPage,
            "description": "Newest first. A page may hold fewer jobs than `limit` although another page follows.",
        },
        **openapi.error_responses("bad_cursor", "validation_failed"),
    },
)
async def list_jobs(
    services: ServicesDep,
    caller: Lister,
    query: Annotated[JobsQuery, Query()],
) -> Response:
    """List your tenant's jobs, newest first; a cursor stays valid while jobs come and go."""
    page = await services.ledger.run(
        ledger.list_jobs(
            caller.tenant,
            query.limit,
            created_after=None if query.created_after is None else to_epoch_ms(query.created_after),
            behind=cursors.decode_job_cursor(query.cursor),
            statuses=frozenset(query.status or ()),
        )
    )
    jobs = b",".join(job_json(job, decode_metadata(services.codec, job)) for job in page.jobs)
    next_cursor = orjson.dumps(None if page.next is None else cursors.encode_job_cursor(page.next))
    return Response(b'{"data":[%b],"next_cursor":%b}' % (jobs, next_cursor), media_type="application/json")


@router.get(
    "/{job_id}",
    operation_id="get_job",
    summary="Get a job",
    response_model=None,
    responses={
        200: {"model": JobBody, "description": "The job as it is now."},
        304: {"description": "It has not changed since the ETag of `If-None-Match`."},
        **openapi.error_responses(*openapi.JOB, "validation_failed"),
    },
    openapi_extra={
        "parameters": [
            openapi.header_parameter(
                "If-None-Match", "An ETag of an earlier response: 304 if nothing changed.", 'W/"7"'
            )
        ]
    },
)
async def get_job(
    request: Request,
    services: ServicesDep,
    caller: Viewer,
    job_id: JobId,
    wait: Annotated[
        int, Query(ge=0, le=60, description="Respond when the job ends, or after this many seconds.")
    ] = 0,
) -> Response:
    """Return the job's status, counts, progress and ETA; with `wait`, once it has ended."""
    job = await services.jobs.get_job(caller, job_id)
    seconds = min(wait, services.settings.max_wait_s)
    if seconds and not job.status.is_terminal:
        with services.streams.hold_slot(caller):
            job = await run_while_connected(request, services.jobs.wait_for_end(caller, job_id, seconds))
    if build_etag(job) in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers={"ETag": build_etag(job)})
    return job_response(services.codec, job)


@router.post(
    "/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_model=None,
    responses={
        200: {"model": JobBody, "description": "The job has ended."},
        202: {"model": JobBody, "description": "Running documents may still finish; then the job ends."},
        **openapi.error_responses(*openapi.JOB),
    },
)
async def cancel_job(services: ServicesDep, caller: Submitter, job_id: JobId) -> Response:
    """Cancel the documents that have not begun; finished results are kept. A repetition changes nothing."""
    await services.jobs.get_job(caller, job_id)
    if await services.ledger.run(ledger.cancel_job(job_id)) is ledger.CancelOutcome.CLOSED:
        services.metrics.jobs.labels("cancelled").inc()
    await services.barrier.confirm_writes()
    job = await services.jobs.get_job(caller, job_id)
    return job_response(services.codec, job, 200 if job.status.is_terminal else 202)


@router.post(
    "/{job_id}/retry",
    operation_id="retry_job",
    summary="Retry documents that did not succeed",
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
    """Create a job from an ended job's failed, cancelled and expired documents, with the same labels and options.

    Documents keep their ids. A job can be retried once, and its texts move to the new job, which can be retried in
    turn. A cancelled job can be retried within the `retry_text_ttl_s` of GET /v1/limits.
    """
    key = read_idempotency_key(to_incoming(request), b"")
    context = SubmissionContext(caller, key, trace_context(request.headers))
    accepted = await services.retries.create_retry(context, job_id)
    report_rate_limits(request.scope, accepted.rate_limits)
    await services.barrier.confirm_writes(accepted.created)
    return accepted_response(accepted)


@router.delete(
    "/{job_id}",
    operation_id="delete_job",
    summary="Delete a job",
    status_code=204,
    response_model=None,
    responses={
        204: {"description": "Texts, results and metadata are deleted."},
        **openapi.error_responses(*openapi.JOB, "job_not_terminal"),
    },
)
async def delete_job(services: ServicesDep, caller: Submitter, job_id: JobId) -> Response:
    """Delete an ended job and all of its data at once; its id returns 410 for seven days.

    This deletes texts, results, metadata, the stored response of its Idempotency-Key, its inline webhook endpoint
    with its secret, and its deliveries. A pending delivery is still sent, without metadata.
    """
    await services.jobs.get_job(caller, job_id)
    outcome = await services.ledger.run(ledger.purge_job(job_id))
    if outcome is ledger.PurgeOutcome.NOT_TERMINAL:
        raise GatewayError("job_not_terminal", "the job has not ended; cancel it first")
    if outcome is not ledger.PurgeOutcome.PURGED:
        await services.jobs.get_job(caller, job_id)  # raises if the job was deleted meanwhile
    await services.barrier.confirm_writes()
    return Response(status_code=204)
