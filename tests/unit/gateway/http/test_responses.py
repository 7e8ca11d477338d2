from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from starlette.types import Message

from gateway.http.responses import ReleasingResponse, accepted_response, job_response
from gateway.reading.views import queued_job
from gateway.submission.types import AcceptedJob
from jobs.schema import JobStatus
from tests.support.ledger import CODEC, new_job

JOB_ID = "job_" + "0" * 26


def test_the_first_response_and_its_replay_differ_in_one_header() -> None:
    """A client learns where the job is, when to ask, and whether this request created it."""
    first = accepted_response(AcceptedJob(JOB_ID, lambda: b"{}"))
    replay = accepted_response(AcceptedJob(JOB_ID, lambda: b"{}", is_replay=True), {"Retry-After": "7"})

    assert (first.status_code, first.headers["location"], first.headers["retry-after"]) == (
        202,
        f"/v1/jobs/{JOB_ID}",
        "1",
    )
    assert "idempotency-replayed" not in first.headers
    assert (replay.headers["idempotency-replayed"], replay.headers["retry-after"]) == ("true", "7")


def test_an_ended_job_is_not_asked_for_again() -> None:
    """Retry-After only while the job can change; its ETag always."""
    job = queued_job(new_job(JOB_ID), created=1)
    waiting = job_response(CODEC, job)
    ended = job_response(CODEC, replace(job, status=JobStatus.SUCCEEDED))

    assert (waiting.headers["etag"], waiting.headers["retry-after"]) == ('W/"1"', "1")
    assert ended.headers["etag"] == 'W/"1"'
    assert "retry-after" not in ended.headers


@pytest.mark.anyio
async def test_a_stream_that_never_begins_releases_too() -> None:
    """A client that is gone before the first byte holds no slot."""
    released: list[str] = []
    resources = ExitStack()
    resources.callback(released.append, "slot")

    async def content() -> AsyncIterator[bytes]:
        yield b"x"

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        raise ConnectionResetError

    with pytest.raises((ConnectionResetError, ExceptionGroup)):
        await ReleasingResponse(content(), resources, "text/plain")({"type": "http"}, receive, send)
    assert released == ["slot"]
