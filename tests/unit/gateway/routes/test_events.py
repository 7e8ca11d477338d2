"""A job's progress as events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from gateway.errors import GatewayError, StreamAbortedError
from gateway.reading.views import queued_job
from gateway.routes import events
from gateway.routes.dependencies import Services
from gateway.routes.events import follow_job
from jobs.ledger import LedgerUnavailableError
from jobs.schema import Job, JobStatus
from tests.support.fakes.routes import FakeJobs, make_http_request, make_services
from tests.support.fakes.submissions import CALLER
from tests.support.ledger import CODEC, new_job

pytestmark = pytest.mark.anyio

JOB_ID = "job_" + "0" * 26


def make_job(version: int, status: JobStatus = JobStatus.RUNNING) -> Job:
    """Return a version of the job."""
    return replace(queued_job(new_job(JOB_ID), created=1), version=version, status=status)


class FakeWaiter:
    """Wakes the stream for each of the job's replies; None is a time without a message."""

    def __init__(self, wakeups: list[bool]) -> None:
        self.wakeups = wakeups

    async def follow_job(
        self, _job_id: str, read: Callable[[], Awaitable[Any]], _silence_s: float
    ) -> AsyncIterator[Any]:
        """Yield what is read at each wakeup, None otherwise."""
        for is_awake in self.wakeups:
            yield await read() if is_awake else None


class FakeAuthenticator:
    """Checks callers again; the check after the last good one fails."""

    def __init__(self, good_checks: int) -> None:
        self.good_checks = good_checks

    async def recheck_caller(self, _: object) -> None:
        """Check the caller."""
        self.good_checks -= 1
        if self.good_checks < 0:
            raise GatewayError("unauthenticated", "revoked")


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MIN_INTERVAL_S", 0.0)


def follow(replies: list[Any], wakeups: list[bool] | None = None, good_checks: int = 99) -> Services:
    """Return services that know this job, and wake its followers so often."""
    return make_services(
        codec=CODEC,
        jobs=FakeJobs(*replies),
        waiter=FakeWaiter(wakeups or [True] * len(replies)),
        authenticator=FakeAuthenticator(good_checks),
        streams=SimpleNamespace(hold_slot=lambda _: nullcontext()),
    )


async def read_events(services: Services, seen: int = 0) -> list[str]:
    """Return the events as text, after the first one, which sets the time of reconnections."""
    sent = [event.decode() async for event in events._stream_events(services, CALLER, JOB_ID, seen, "request-1")]
    assert sent[0] == "retry: 1000\n\n"
    return sent[1:]


def list_ids(sent: list[str]) -> list[str]:
    """Return (id, event) of each event."""
    return [event.partition("\ndata")[0].replace("\nevent", "") for event in sent]


async def test_every_version_is_sent_once_until_the_end() -> None:
    """A wakeup without a change sends nothing; nothing comes after the end."""
    ended = make_job(3, JobStatus.SUCCEEDED)
    sent = await read_events(follow([make_job(1), make_job(1), make_job(2), ended, ended]))
    assert list_ids(sent) == ["id: 1: progress", "id: 2: progress", "id: 3: terminal"]
    assert orjson.loads(sent[-1].partition("data: ")[2])["status"] == "succeeded"


async def test_events_that_were_received_are_not_repeated() -> None:
    """Except for the end: a client that asks again wants to know it."""
    ended = make_job(2, JobStatus.FAILED)
    assert list_ids(await read_events(follow([make_job(1), ended]), seen=1)) == ["id: 2: terminal"]
    assert list_ids(await read_events(follow([ended]), seen=2)) == ["id: 2: terminal"]


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies close connections that are silent."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.0)
    sent = await read_events(follow([make_job(1)], [True, False, False]))
    assert sent[1:] == [": waiting\n\n"] * 2


async def test_an_outage_of_redis_is_survived() -> None:
    """A later read finds the change."""
    sent = await read_events(follow([make_job(1), LedgerUnavailableError("down"), make_job(2)]))
    assert list_ids(sent) == ["id: 1: progress", "id: 2: progress"]


async def test_a_revoked_key_ends_the_stream_with_a_problem() -> None:
    """Its data is that of a response with this error."""
    sent = await read_events(follow([make_job(1), make_job(2)], good_checks=1))
    assert list_ids(sent) == ["id: 1: progress", "event: error"]
    problem = orjson.loads(sent[-1].partition("data: ")[2])
    assert (problem["code"], problem["request_id"]) == ("unauthenticated", "request-1")


async def test_a_job_that_is_removed_breaks_the_stream() -> None:
    """It must not look like an end."""
    with pytest.raises(StreamAbortedError, match="job_purged"):
        await read_events(follow([make_job(1), GatewayError("job_purged", "removed")]))


@pytest.mark.parametrize(
    ("last_event_id", "status"),
    [("7", 204), ("6", 200), (None, 200), ("", 200), ("x", 200), ("\u0667", 200)],
)
async def test_a_client_that_has_seen_the_end_need_not_come_again(last_event_id: str | None, status: int) -> None:
    """204 stops the reconnections of browsers; an id that is none begins again."""
    services = follow([make_job(7, JobStatus.SUCCEEDED)])
    response = await follow_job(make_http_request(), services, CALLER, JOB_ID, last_event_id)
    assert response.status_code == status
