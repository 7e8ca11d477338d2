"""Bodies of events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.webhooks.payload import build_job_event, build_test_event


def freeze(**fields: Any) -> bytes:
    """Return an event as the ledger stores it."""
    event = {
        "event": "job.succeeded", "job_id": "job_1", "status": "succeeded", "total": 3, "succeeded": 3, "failed": 0,
        "cancelled": 0, "expired": 0, "errors": {}, "finished": 1_700_000_000_001,
        "results_expire_at": 1_700_000_060_000,
    }  # fmt: skip
    return orjson.dumps(event | fields)


def test_a_job_s_event_says_how_it_ended_and_where_its_results_are() -> None:
    """Times are RFC 3339, and no document is left in the queue."""
    event = orjson.loads(build_job_event(freeze(), {"batch": "42"}, "https://gleaner.example.com/"))
    assert event == {
        "type": "job.succeeded",
        "timestamp": "2023-11-14T22:13:20.001Z",
        "data": {
            "job_id": "job_1",
            "status": "succeeded",
            "counts": {
                "total": 3, "queued": 0, "running": 0, "succeeded": 3, "failed": 0, "cancelled": 0, "expired": 0,
            },
            "error_summary": [],
            "results_url": "https://gleaner.example.com/v1/jobs/job_1/results",
            "results_expire_at": "2023-11-14T22:14:20.000Z",
            "metadata": {"batch": "42"},
        },
    }  # fmt: skip


@pytest.mark.parametrize("public_url", ["", "/"])
def test_without_a_public_url_the_results_have_a_path(public_url: str) -> None:
    """Receivers know the service's address."""
    event = orjson.loads(build_job_event(freeze(), {}, public_url))
    assert event["data"]["results_url"] == "/v1/jobs/job_1/results"


def test_errors_are_listed() -> None:
    """The summary is the one of the job."""
    errors = [{"code": "empty_text", "count": 1}]
    event = orjson.loads(build_job_event(freeze(errors=errors, failed=1), {}, ""))
    assert event["data"]["error_summary"] == errors


def test_every_attempt_has_the_same_bytes() -> None:
    """Or its signature and its deduplication by receivers would differ."""
    assert build_job_event(freeze(), {"a": "b"}, "") == build_job_event(freeze(), {"a": "b"}, "")


def test_a_test_event_names_its_endpoint() -> None:
    """It is recognised by its type, and by `test`."""
    assert orjson.loads(build_test_event("ep_1", 0)) == {
        "type": "webhook.test",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "data": {"endpoint_id": "ep_1", "test": True},
    }
