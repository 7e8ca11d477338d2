"""/v1/jobs: submit, follow, read, cancel, remove."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from gateway import cursors, openapi, results
from gateway.admission import preferred_wait
from gateway.auth import Caller, require
from gateway.lookup import owned_job
from gateway.problems import Problem
from gateway.routes.answers import (
    accept,
    accepted_headers,
    accepted_response,
    job_response,
    wait_for_end,
)
from gateway.schemas import JobBody, ResultsPage
from gateway.services import ServicesDep
from gateway.views import etag
from jobs import ledger
from jobs.keys import Role
from jobs.ledger import LedgerUnavailableError
from jobs.schema import DocumentStatus

NDJSON = "application/x-ndjson"
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Viewer = Annotated[Caller, Depends(require(Role.viewer))]
Submitter = Annotated[Caller, Depends(require(Role.submitter))]
Submission = Annotated[Caller, Depends(require(Role.submitter, submits=True))]
JobId = Annotated[str, Path(description="A job's id.", examples=["job_01kb4t7w3vq9x2m5n8r6c1d0fz"])]


@router.post(
    "",
    operation_id="submit_job",
    summary="Submit a job",
    status_code=202,
    response_model=None,
    responses={
        202: {"model": JobBody, "description": "The job is in the ledger and will end."},
        200: {"model": JobBody, "description": "The job ended within `Prefer: wait`."},
        **openapi.answers(*openapi.SUBMIT),
    },
    openapi_extra={**openapi.JOB_REQUEST, "parameters": [openapi.IDEMPOTENCY_KEY, openapi.PREFER]},
)
async def submit_job(request: Request, services: ServicesDep, caller: Submission) -> Response:
    """Hand in documents and labels; the answer comes as soon as the job is safe.

    With `Prefer: wait=n` it comes when the job ends, or after n seconds.
    """
    accepted = await accept(request, services, caller, max_documents=services.settings.max_documents)
    wait = preferred_wait(request, services.settings.max_wait_s)
    if not wait:
        return accepted_response(accepted)
    headers = {"Preference-Applied": f"wait={wait}", **accepted_headers(accepted)}
    try:
        job = await wait_for_end(request, services, caller, accepted.job_id, wait)
    except LedgerUnavailableError:
        return accepted_response(accepted, headers)  # the job is safe; only looking at it failed
    status = 200 if job.status.terminal else 202
    return job_response(services, job, status, headers, accepted.webhook)


@router.get(
    "/{job_id}",
    operation_id="get_job",
    summary="Look at a job",
    response_model=None,
    responses={
        200: {"model": JobBody, "description": "The job as it is now."},
        304: {"description": "It has not changed since the ETag of `If-None-Match`."},
        **openapi.answers(*openapi.JOB, "validation_failed"),
    },
    openapi_extra={
        "parameters": [openapi.header("If-None-Match", "An ETag seen before: 304 if nothing changed.", 'W/"7"')]
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
    job = await owned_job(services, caller, job_id)
    seconds = min(wait, services.settings.max_wait_s)
    if seconds and not job.status.terminal:
        job = await wait_for_end(request, services, caller, job_id, seconds)
    if etag(job) in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers={"ETag": etag(job)})
    return job_response(services, job)


@router.get(
    "/{job_id}/results",
    operation_id="get_results",
    summary="Read a job's results",
    response_model=None,
    responses={
        200: {
            "description": "Finished documents in input order: a page, or all of them as lines where `Accept` "
            "asks for `application/x-ndjson`; then the header `Gleaner-Complete` says whether the job had ended.",
            "model": ResultsPage,
            "content": {NDJSON: {"schema": {"type": "string", "description": "One result object a line."}}},
        },
        **openapi.answers("bad_cursor", *openapi.JOB, "validation_failed"),
    },
)
async def get_results(
    request: Request,
    services: ServicesDep,
    caller: Viewer,
    job_id: JobId,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[
        int | None,
        Query(ge=1, le=MAX_LIMIT, description="Most results; 100 a page, all of an NDJSON stream by default."),
    ] = None,
    status: Annotated[list[DocumentStatus] | None, Query(description="Only results of this status.")] = None,
) -> Response:
    """Finished documents, in input order without gaps; also while the job runs."""
    start, statuses = cursors.decode(cursor), frozenset(status or ())
    if NDJSON in request.headers.get("accept", "").lower():
        most = limit or services.settings.max_documents * 1000
        first = await results.read_page(services, caller, job_id, start, most, statuses, pieces=1)
        return StreamingResponse(
            results.stream(services, caller, job_id, first, most, statuses),
            media_type=NDJSON,
            headers={"Gleaner-Complete": "true" if first.complete else "false"},
        )
    page = await results.read_page(services, caller, job_id, start, limit or DEFAULT_LIMIT, statuses)
    next_cursor = "null" if page.next is None else f'"{cursors.encode(page.next)}"'
    complete = "true" if page.complete else "false"
    body = b'{"data":[%b],"next_cursor":%b,"complete":%b}' % (
        b",".join(page.rows),
        next_cursor.encode(),
        complete.encode(),
    )
    return Response(body, media_type="application/json")


@router.post(
    "/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_model=None,
    responses={
        200: {"model": JobBody, "description": "The job has ended."},
        202: {"model": JobBody, "description": "What runs now may still finish; then the job ends."},
        **openapi.answers(*openapi.JOB),
    },
)
async def cancel_job(services: ServicesDep, caller: Submitter, job_id: JobId) -> Response:
    """End what has not begun; what finished is kept. Repeating it changes nothing."""
    await owned_job(services, caller, job_id)
    if await services.ledger.run(ledger.cancel(job_id)) == "closed":
        services.metrics.jobs.labels("cancelled").inc()
    await services.barrier.confirm()
    job = await owned_job(services, caller, job_id)
    return job_response(services, job, 200 if job.status.terminal else 202)


@router.delete(
    "/{job_id}",
    operation_id="delete_job",
    summary="Remove a job",
    status_code=204,
    response_model=None,
    responses={
        204: {"description": "Texts and results are gone."},
        **openapi.answers(*openapi.JOB, "job_not_terminal"),
    },
)
async def delete_job(services: ServicesDep, caller: Submitter, job_id: JobId) -> Response:
    """Remove an ended job's texts and results at once; its id answers 410 for seven days."""
    await owned_job(services, caller, job_id)
    outcome = await services.ledger.run(ledger.purge(job_id))
    if outcome == "not_terminal":
        raise Problem("job_not_terminal", "the job has not ended; cancel it first")
    if outcome != "purged":
        await owned_job(services, caller, job_id)  # says what became of it meanwhile
    await services.barrier.confirm()
    return Response(status_code=204)
