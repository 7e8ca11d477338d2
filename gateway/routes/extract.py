"""/v1/extract: results of a few documents in one call."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.access import Caller
from gateway.http import openapi
from gateway.http.middleware import report_rate_limits
from gateway.http.requests import run_while_connected, to_incoming
from gateway.http.responses import accepted_headers, accepted_response, job_response, results_response
from gateway.reading.encoding import ReadOptions
from gateway.reading.job_waiter import CompletionWatch
from gateway.reading.results import ResultsReader
from gateway.reading.rows import encode_json
from gateway.reading.views import decode_metadata, job_json
from gateway.routes.dependencies import Services, ServicesDep, Submission
from gateway.routes.direct import DirectRoute
from gateway.schemas.jobs import JobBody
from gateway.schemas.results import Extraction
from gateway.submission.create import new_job_id
from jobs.ledger import LedgerUnavailableError

router = APIRouter(prefix="/v1/extract", tags=["jobs"], route_class=DirectRoute)


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
async def extract(request: Request, services: ServicesDep, caller: Submission) -> Response:
    """Extract from at most 32 documents at interactive priority; the body is that of a job."""
    async with services.waiter.watch_completion(new_job_id()) as watch:
        return await _extract_and_wait(request, services, caller, watch)


async def _extract_and_wait(
    request: Request, services: Services, caller: Caller, watch: CompletionWatch
) -> Response:
    accepted = await services.submissions.accept_json(to_incoming(request), caller, watch)
    report_rate_limits(request.scope, accepted.rate_limits)
    headers = accepted_headers(accepted)
    try:
        page = await run_while_connected(
            request,
            services.jobs.wait_for_page(caller, accepted.job_id, services.settings.extract_wait_s, watch),
        )
        job = page.job
        if not job.status.is_terminal:
            await services.barrier.confirm_writes(accepted.created)
            return job_response(services.codec, job, 202, headers, accepted.webhook)
        body = job_json(job, decode_metadata(services.codec, job), accepted.webhook)
        reader = ResultsReader(services.results, caller, job.id, ReadOptions(encode_json, separator=b","), page)
        return await results_response(reader, b'{"job":%b,"results":[' % body, lambda _: b"]}", headers)
    except LedgerUnavailableError:
        await services.barrier.confirm_writes(accepted.created)
        return accepted_response(accepted)  # the job is safe; only reading it failed
