"""Results in the response of the submission, or the accepted job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from gateway.reading.decode_memory import DecodeMemory
from gateway.reading.job_reader import JobReader
from gateway.reading.job_waiter import CompletionWatch, _Subscription
from gateway.reading.results import Results
from gateway.reading.views import queued_job
from gateway.routes.extract import extract
from gateway.settings import GatewaySettings
from gateway.submission.types import AcceptedJob
from jobs.ledger import LedgerUnavailableError, Page, StoredShard, associated_data
from jobs.observability.metrics import GatewayMetrics
from jobs.schema import DocumentResult, DocumentStatus, JobStatus
from jobs.shards import encode_results
from tests.support.fakes.routes import FakeBarrier, FakeJobs, make_http_request, make_services
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER, make_open_authenticator
from tests.support.ledger import CODEC, new_job

pytestmark = pytest.mark.anyio

JOB_ID = "job_" + "0" * 26
QUEUED = queued_job(new_job(JOB_ID, tenant=CALLER.tenant), created=1)
SHARD = StoredShard(
    0,
    "d",
    1,
    CODEC.encode(
        encode_results([DocumentResult(0, "a", DocumentStatus.SUCCEEDED)]), associated_data("out", JOB_ID, 0)
    ),
)


async def run_extract(reply: Any) -> tuple[Response, FakeBarrier]:
    """Extract from one document whose job is read with this reply; return the response and the barrier."""
    ledger, barrier = ScriptedLedger(), FakeBarrier()
    authenticator = make_open_authenticator(ledger, GatewayMetrics(CollectorRegistry()))
    jobs = JobReader(ledger, None, authenticator)  # type: ignore[arg-type]  # the page is read already

    @asynccontextmanager
    async def watch_completion(job_id: str) -> AsyncIterator[CompletionWatch]:
        yield CompletionWatch(job_id, "", asyncio.Event(), _Subscription(job_id))

    async def accept_json(*_: object) -> AcceptedJob:
        return AcceptedJob(JOB_ID, lambda: b'{"id":"accepted"}')

    services = make_services(
        settings=GatewaySettings(auth="off"),
        codec=CODEC,
        barrier=barrier,
        jobs=FakeJobs(reply),
        results=Results(jobs, CODEC, DecodeMemory(), authenticator),
        submissions=SimpleNamespace(accept_json=accept_json),
        waiter=SimpleNamespace(watch_completion=watch_completion),
    )
    return await extract(make_http_request("POST"), services, CALLER), barrier


async def test_a_job_that_ended_comes_with_its_results() -> None:
    """It need not be confirmed: its results are here, and nothing of it is needed later."""
    ended = replace(QUEUED, status=JobStatus.SUCCEEDED)
    response, barrier = await run_extract(Page(ended, (SHARD,), 1))
    body = orjson.loads(response.body)
    assert (response.status_code, response.headers["location"]) == (200, f"/v1/jobs/{JOB_ID}")
    assert (body["job"]["status"], [result["id"] for result in body["results"]]) == ("succeeded", ["a"])
    assert barrier.confirmed == 0


async def test_a_job_that_takes_longer_is_confirmed_and_followed() -> None:
    """It is answered like one that was submitted with POST /v1/jobs."""
    response, barrier = await run_extract(Page(QUEUED, (), 1))
    assert (response.status_code, response.headers["retry-after"]) == (202, "1")
    assert orjson.loads(response.body)["id"] == JOB_ID
    assert barrier.confirmed == 1


async def test_a_job_that_cannot_be_read_is_accepted_all_the_same() -> None:
    """It exists; only reading it failed."""
    response, barrier = await run_extract(LedgerUnavailableError("down"))
    assert (response.status_code, response.body) == (202, b'{"id":"accepted"}')
    assert barrier.confirmed == 1
