"""Builds webhook bodies from events stored in the ledger: ids and counts, no text, no entity. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.reading.views import format_rfc3339, results_url

JOB_EVENTS = ("job.succeeded", "job.partially_succeeded", "job.failed", "job.cancelled", "job.expired")
TEST_EVENT = "webhook.test"


def build_job_event(frozen: bytes, metadata: Mapping[str, str], public_url: str) -> bytes:
    """Return the body of a job's event, the same bytes at every attempt.

    Args:
        frozen: the event as the ledger stored it when the job ended.
        metadata: the job's metadata, decoded.
        public_url: prefix for paths, or "".
    """
    event = orjson.loads(frozen)
    ended_counts = {name: event[name] for name in ("succeeded", "failed", "cancelled", "expired")}
    job_id = event["job_id"]
    data = {
        "job_id": job_id,
        "status": event["status"],
        "counts": {"total": event["total"], "queued": 0, "running": 0, **ended_counts},
        "error_summary": list(event["errors"] or ()),  # Lua writes an empty list as {}
        "results_url": public_url.rstrip("/") + results_url(job_id),
        "results_expire_at": format_rfc3339(event["results_expire_at"]),
        "metadata": dict(metadata),
    }
    return orjson.dumps({"type": event["event"], "timestamp": format_rfc3339(event["finished"]), "data": data})


def build_test_event(endpoint: str, now_ms: int) -> bytes:
    """Return the body of a `webhook.test`."""
    return orjson.dumps(
        {"type": TEST_EVENT, "timestamp": format_rfc3339(now_ms), "data": {"endpoint_id": endpoint, "test": True}}
    )
