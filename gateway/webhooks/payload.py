"""Turns an event frozen in the ledger into the body that is sent: ids and counts, no text, no entity. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.reading.views import format_rfc3339, results_url

JOB_EVENTS = ("job.succeeded", "job.partially_succeeded", "job.failed", "job.cancelled", "job.expired")
TEST_EVENT = "webhook.test"


def build_job_event(frozen: bytes, metadata: Mapping[str, str], public_url: str) -> bytes:
    """The body of a job's event, the same bytes at every attempt.

    Args:
        frozen: what the ledger wrote when the job ended.
        metadata: the job's, opened.
        public_url: put before paths, or "".
    """
    event = orjson.loads(frozen)
    ended = {name: event[name] for name in ("succeeded", "failed", "cancelled", "expired")}
    job_id = event["job_id"]
    data = {
        "job_id": job_id,
        "status": event["status"],
        "counts": {"total": event["total"], "queued": 0, "running": 0, **ended},
        "error_summary": list(event["errors"] or ()),  # Lua writes an empty list as {}
        "results_url": public_url.rstrip("/") + results_url(job_id),
        "results_expire_at": format_rfc3339(event["results_expire_at"]),
        "metadata": dict(metadata),
    }
    return orjson.dumps({"type": event["event"], "timestamp": format_rfc3339(event["finished"]), "data": data})


def test_event(endpoint: str, now_ms: int) -> bytes:
    """The body of a `webhook.test`."""
    return orjson.dumps(
        {"type": TEST_EVENT, "timestamp": format_rfc3339(now_ms), "data": {"endpoint_id": endpoint, "test": True}}
    )
