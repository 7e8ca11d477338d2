"""/v1/extract: results of a few documents in one call."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gateway.access.auth import Caller, require
from gateway.http import openapi
from gateway.reading.encoding import ReadOptions
from gateway.reading.job_waiter import CompletionWatch
from gateway.reading.responses import job_response, results_response, wait_for_page
from gateway.reading.results import ResultsReader
from gateway.reading.rows import encode_json
from gateway.reading.views import decode_metadata, job_json
from gateway.schemas.jobs import JobBody
from gateway.schemas.results import Extraction
from gateway.services import Services, ServicesDep
from gateway.submission.accept import accept_job, accepted_headers, accepted_response
from jobs.api_keys import Role
from jobs.ledger import LedgerUnavailableError

router = APIRouter(prefix="/v1/extract", tags=["jobs"])


@router.post(
    "",
    operation_id="extract",
    summary="Extract from a few documents in one call",
    response_model=None,
    responses={
        200: {"model": Extraction, "description": "The job ended; its results."},
        202: {"model": JobBody, "description": "The job takes longer; poll or follow it."},
        **openapi.error_responses(*openapi.SUBMIT),
    },
    openapi_extra={**openapi.JOB_REQUEST, "parameters": [openapi.IDEMPOTENCY_KEY]},
)
async def extract(
    request: Request,
    services: ServicesDep,
    caller: Annotated[Caller, Depends(require(Role.SUBMITTER, submits=True))],
) -> Response:
    """Extract from at most 32 documents at interactive priority; the body is that of a job."""
    async with services.waiter.watch_completion() as watch:
        return await _extract_and_wait(request, services, caller, watch)


async def _extract_and_wait(
    request: Request, services: Services, caller: Caller, watch: CompletionWatch
) -> Response:
    accepted = await accept_job(request, services, caller, watch=watch)
    headers = accepted_headers(accepted)
    try:
        page = await wait_for_page(request, services, caller, accepted.job_id, watch)
        job = page.job
        if not job.status.is_terminal:
            await services.barrier.confirm_writes()
            return job_response(services, job, 202, headers, accepted.webhook)
        body = job_json(job, decode_metadata(services.codec, job), accepted.webhook)
        reader = ResultsReader(services, caller, job.id, ReadOptions(encode_json, separator=b","), page)
        return await results_response(reader, b'{"job":%b,"results":[' % body, lambda _: b"]}", headers)
    except LedgerUnavailableError:
        await services.barrier.confirm_writes()
        return accepted_response(accepted)  # the job is safe; only reading it failed
