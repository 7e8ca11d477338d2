"""Jobs are read for their owners only."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import GatewayError
from gateway.reading.job_reader import JobReader, _parse_inline_page
from gateway.reading.job_waiter import CompletionWatch, _Subscription
from gateway.reading.views import queued_job
from jobs.ledger import FoundDocument, Gone, Leftovers, Page
from jobs.observability.metrics import GatewayMetrics
from jobs.schema import Job, JobStatus
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER, make_open_authenticator
from tests.support.ledger import new_job

pytestmark = pytest.mark.anyio

JOB_ID = "job_" + "0" * 26


def make_job(tenant: str = "acme", status: JobStatus = JobStatus.QUEUED) -> Job:
    """Return a job of a tenant."""
    return replace(queued_job(new_job(JOB_ID, tenant=tenant), created=1), status=status)


def make_reader(**replies: Any) -> tuple[JobReader, ScriptedLedger]:
    """Return a reader on a ledger with these replies; nothing waits."""
    ledger = ScriptedLedger(**replies)
    authenticator = make_open_authenticator(ledger, GatewayMetrics(CollectorRegistry()))
    return JobReader(ledger, None, authenticator), ledger  # type: ignore[arg-type]


async def read_everything(reader: JobReader) -> list[str]:
    """Read the job in every way; return the code of each refusal."""
    reads = (
        reader.get_job(CALLER, JOB_ID),
        reader.get_page(CALLER, JOB_ID),
        reader.find_document(CALLER, JOB_ID, "a"),
        reader.get_leftovers(CALLER, JOB_ID, 0),
    )
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    return [outcome.code for outcome in outcomes if isinstance(outcome, GatewayError)]


def make_replies(job: Job) -> dict[str, Any]:
    """Return the ledger's replies about a job."""
    return {
        "read_job": job,
        "read_page": Page(job, (), 1),
        "find_document": FoundDocument(job, 0, None),
        "read_leftovers": Leftovers(job, (), None, ""),
    }


@pytest.mark.parametrize(
    ("replies", "codes"),
    [
        (make_replies(make_job()), []),
        (make_replies(make_job("other")), ["job_not_found"] * 4),
        (dict.fromkeys(make_replies(make_job())), ["job_not_found"] * 4),
        (dict.fromkeys(make_replies(make_job()), Gone("acme")), ["job_purged"] * 4),
        (dict.fromkeys(make_replies(make_job()), Gone("other")), ["job_not_found"] * 4),
    ],
)
async def test_another_tenant_s_job_is_as_good_as_none(replies: dict[str, Any], codes: list[str]) -> None:
    """Only its owner can tell if it exists, existed or never did."""
    reader, _ = make_reader(**replies)
    assert await read_everything(reader) == codes


@pytest.mark.parametrize("job_id", ["", "job_1", "job_" + "0" * 27, "job_" + "A" * 26, JOB_ID + "\n"])
async def test_what_is_no_id_costs_no_round_trip(job_id: str) -> None:
    """It is no job of any tenant."""
    reader, ledger = make_reader()
    with pytest.raises(GatewayError, match="job_not_found"):
        await reader.get_job(CALLER, job_id)
    assert ledger.script.calls == []


@pytest.mark.parametrize(
    ("job", "job_id", "is_used"),
    [
        (make_job(status=JobStatus.SUCCEEDED), JOB_ID, True),
        (make_job(status=JobStatus.RUNNING), JOB_ID, False),
        (make_job("other", JobStatus.SUCCEEDED), JOB_ID, False),
        (make_job(status=JobStatus.SUCCEEDED), "job_" + "1" * 26, False),
        (None, JOB_ID, False),
    ],
)
def test_results_of_a_completion_message_are_used_if_they_are_the_caller_s(
    job: Job | None, job_id: str, is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise they are read; so they are after a message that cannot be parsed."""
    page = None if job is None else Page(job, (), 0)
    monkeypatch.setattr("jobs.ledger.parse_announced_page", lambda _job_id, _results: page)
    subscription = _Subscription(JOB_ID)
    subscription.inline_results = b"results"
    watch = CompletionWatch(JOB_ID, "channel", asyncio.Event(), subscription)
    assert _parse_inline_page(CALLER, job_id, watch) == (page if is_used else None)
