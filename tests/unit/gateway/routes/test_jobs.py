"""Submitting, reading, cancelling and deleting jobs: what each route answers, and what it confirms first."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from gateway.errors import GatewayError
from gateway.reading.cursors import encode_job_cursor
from gateway.reading.views import queued_job
from gateway.routes import jobs as routes
from gateway.routes.jobs import JobsQuery
from gateway.settings import GatewaySettings
from gateway.submission.types import AcceptedJob
from jobs.ledger import CancelOutcome, JobList, JobPosition, LedgerUnavailableError, PurgeOutcome
from jobs.observability.metrics import GatewayMetrics
from jobs.schema import JobStatus
from tests.support.fakes.routes import FakeBarrier, FakeJobs, FullStreams, make_http_request, make_services
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER
from tests.support.ledger import CODEC, new_job

pytestmark = pytest.mark.anyio

JOB_ID = "job_" + "0" * 26
QUEUED = queued_job(new_job(JOB_ID), created=1)
ENDED = replace(QUEUED, status=JobStatus.SUCCEEDED, version=2)
OPEN_STREAMS = SimpleNamespace(hold_slot=lambda _: nullcontext())


class Routes:
    """The objects that the routes call, with these replies."""

    def __init__(self, *reads: Any, streams: Any = OPEN_STREAMS, **replies: Any) -> None:
        self.jobs, self.barrier, self.registry = FakeJobs(*reads), FakeBarrier(), CollectorRegistry()
        self.ledger = ScriptedLedger(**replies)
        self.services = make_services(
            settings=GatewaySettings(auth="off", max_wait_s=30),
            codec=CODEC,
            ledger=self.ledger,
            barrier=self.barrier,
            jobs=self.jobs,
            streams=streams,
            submissions=SimpleNamespace(accept_job=self.accept_job),
            metrics=GatewayMetrics(self.registry),
        )

    async def accept_job(self, *_: object) -> AcceptedJob:
        """Accept a job."""
        return AcceptedJob(JOB_ID, lambda: b'{"id":"accepted"}')

    async def submit(self, prefer: str = "") -> Response:
        """Submit a job."""
        request = make_http_request("POST", headers={"Prefer": prefer} if prefer else {})
        return await routes.submit_job(request, self.services, CALLER)

    async def get(self, wait: int = 0, **headers: str) -> Response:
        """Get the job."""
        request = make_http_request(headers={name.replace("_", "-"): value for name, value in headers.items()})
        return await routes.get_job(request, self.services, CALLER, JOB_ID, wait)


async def test_a_submission_is_answered_at_once() -> None:
    """Without reading the job."""
    api = Routes()
    response = await api.submit()
    assert (response.status_code, response.body) == (202, b'{"id":"accepted"}')
    assert api.jobs.reads == []


@pytest.mark.parametrize(
    ("read", "status", "job_id"),
    [(ENDED, 200, JOB_ID), (QUEUED, 202, JOB_ID), (LedgerUnavailableError("down"), 202, "accepted")],
)
async def test_a_submission_may_wait_for_its_job(read: Any, status: int, job_id: str) -> None:
    """An outage in the meantime does not make it look as if the job had not been accepted."""
    response = await Routes(read).submit("wait=90")
    assert (response.status_code, response.headers["preference-applied"]) == (status, "wait=30")
    assert orjson.loads(response.body)["id"] == job_id


async def test_a_wait_that_is_not_possible_refuses_no_submission() -> None:
    """The job is created; the wait is only a preference."""
    response = await Routes(streams=FullStreams()).submit("wait=5")
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize(
    ("wait", "first", "reads"),
    [(0, QUEUED, ["get_job"]), (5, QUEUED, ["get_job", "wait_for_end"]), (5, ENDED, ["get_job"])],
)
async def test_only_an_open_job_is_waited_for(wait: int, first: Any, reads: list[str]) -> None:
    """An ended one is returned at once."""
    api = Routes(first, ENDED)
    assert (await api.get(wait)).status_code == 200
    assert api.jobs.reads == reads


async def test_a_wait_needs_a_slot() -> None:
    """Unlike a submission's, this wait is all that was asked for."""
    with pytest.raises(GatewayError, match="rate_limited"):
        await Routes(QUEUED, streams=FullStreams()).get(5)


@pytest.mark.parametrize(
    ("etags", "status"), [('W/"2"', 304), ('W/"1", W/"2"', 304), ('W/"1"', 200), ("", 200), ('"2"', 200)]
)
async def test_a_job_that_has_not_changed_is_not_sent_again(etags: str, status: int) -> None:
    """The ETag is that of its version."""
    response = await Routes(ENDED).get(if_none_match=etags)
    assert (response.status_code, response.headers["etag"]) == (status, 'W/"2"')
    assert bool(response.body) is (status == 200)


@pytest.mark.parametrize(
    ("outcome", "after", "status", "counted"),
    [
        (CancelOutcome.CLOSED, ENDED, 200, 1),
        (CancelOutcome.CANCELLING, QUEUED, 202, 0),
    ],
)
async def test_a_cancelled_job_is_confirmed_and_read_again(
    outcome: CancelOutcome, after: Any, status: int, counted: int
) -> None:
    """A job that was closed by this request is counted here, and by no worker."""
    api = Routes(QUEUED, after, cancel_job=outcome)
    response = await routes.cancel_job(api.services, CALLER, JOB_ID)
    assert response.status_code == status
    assert api.barrier.confirmed == 1
    assert (api.registry.get_sample_value("gleaner_jobs_total", {"status": "cancelled"}) or 0) == counted


async def test_an_open_job_is_not_deleted() -> None:
    """It must be cancelled first."""
    api = Routes(QUEUED, purge_job=PurgeOutcome.NOT_TERMINAL)
    with pytest.raises(GatewayError, match="job_not_terminal"):
        await routes.delete_job(api.services, CALLER, JOB_ID)
    assert api.barrier.confirmed == 0


async def test_a_deletion_is_confirmed() -> None:
    """204 means that the texts are gone."""
    api = Routes(ENDED, purge_job=PurgeOutcome.PURGED)
    assert (await routes.delete_job(api.services, CALLER, JOB_ID)).status_code == 204
    assert (api.barrier.confirmed, api.jobs.reads) == (1, ["get_job"])


async def test_a_job_that_was_deleted_in_the_meantime_is_gone() -> None:
    """The second of two requests gets 410."""
    outcome = next(outcome for outcome in PurgeOutcome if outcome.value not in ("purged", "not_terminal"))
    api = Routes(ENDED, GatewayError("job_purged", "deleted"), purge_job=outcome)
    with pytest.raises(GatewayError, match="job_purged"):
        await routes.delete_job(api.services, CALLER, JOB_ID)


@pytest.mark.parametrize("position", [None, JobPosition(7, JOB_ID)])
async def test_a_list_has_a_cursor_while_more_follows(position: JobPosition | None) -> None:
    """The last page has none."""
    api = Routes(list_jobs=JobList((QUEUED, ENDED), position))
    page = orjson.loads((await routes.list_jobs(api.services, CALLER, JobsQuery())).body)
    assert [job["id"] for job in page["data"]] == [JOB_ID] * 2
    assert page["next_cursor"] == (None if position is None else encode_job_cursor(position))
