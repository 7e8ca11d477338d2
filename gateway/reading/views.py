"""Converts ledger records into API bodies: `Job` -> a `JobBody`'s JSON, `ModelStats` -> `ModelBody`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import orjson

from gateway.schemas.jobs import JobWebhook
from jobs.codec import Codec
from jobs.ledger import NewJob, associated_data
from jobs.lines import escape_line_breaks
from jobs.schema import Counts, Job, JobStatus, Usage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_POLL_S = 30


def job_json(job: Job, metadata: Mapping[str, str], webhook: JobWebhook | None = None) -> bytes:
    """Return the job as the JSON of a `JobBody`; `metadata` is `job.meta`, decoded."""
    url = job_url(job.id)
    body = {
        "id": job.id,
        "object": "job",
        "status": job.status,
        "status_reason": job.status_reason,
        "counts": job.counts,
        "progress": round(job.counts.finished / job.counts.total, 4),
        "eta_s": job.eta_s,
        "queue_position": job.queue_position,
        "usage": job.usage,
        "model": job.model,
        "model_revision": job.model_revision,
        "default_threshold": job.default_threshold,
        "label_set": job.label_set,
        "priority": job.priority,
        "created_at": format_rfc3339(job.created_at),
        "started_at": format_optional_time(job.started_at),
        "finished_at": format_optional_time(job.finished_at),
        "deadline_at": format_rfc3339(job.deadline_at),
        "results_expire_at": format_optional_time(job.results_expire_at),
        "error_summary": [{"code": code, "count": count} for code, count in job.error_summary.items()],
        "warnings": job.warnings,
        "urls": {
            "self": url,
            "results": results_url(job.id),
            "cancel": f"{url}/cancel",
            "events": f"{url}/events",
        },
        "metadata": metadata,
        "retry_of": job.retry_of,
        "retried_by": job.retried_by,
        "webhook": None if webhook is None else webhook.model_dump(),
    }
    return escape_line_breaks(orjson.dumps(body))


def decode_metadata(codec: Codec, job: Job) -> dict[str, str]:
    """Decode a job's metadata.

    Raises:
        CodecError: the blob cannot be decoded.
    """
    if not job.meta:
        return {}
    metadata: dict[str, str] = orjson.loads(codec.decode(job.meta, associated_data("meta", job.id)))
    return metadata


def queued_job(new: NewJob, created: int) -> Job:
    """Return a new job before any of it has run; `created` is the ledger's time (ms)."""
    total = sum(documents for documents, _ in new.sizes)
    return Job(
        id=new.id,
        tenant=new.tenant,
        status=JobStatus.QUEUED,
        status_reason=None,
        counts=Counts(total, total, 0, 0, 0, 0, 0),
        eta_s=None,
        queue_position=None,
        usage=Usage(characters=new.characters),
        model=new.model,
        model_revision=None,
        priority=new.priority,
        created_at=created,
        started_at=None,
        finished_at=None,
        deadline_at=created + int(new.deadline_s * 1000),
        results_expire_at=None,
        error_summary={},
        opts=new.opts,
        meta=new.meta,
        retry_of=new.retry_of or None,
        retried_by=None,
        version=1,
        now=created,
        label_set=new.label_set or None,
    )


def job_url(job_id: str) -> str:
    """Return a job's URL, relative to the service."""
    return f"/v1/jobs/{job_id}"


def results_url(job_id: str) -> str:
    """Return the URL of a job's results, relative to the service."""
    return f"{job_url(job_id)}/results"


def retry_after_s(job: Job) -> int:
    """Return when a polling client should ask again: after half of the remaining time, within 1 to 30 s."""
    return 1 if job.eta_s is None else min(max(1, round(job.eta_s / 2)), _MAX_POLL_S)


def build_etag(job: Job) -> str:
    """Return a weak validator of the job's version; the ETA changes without a new version."""
    return f'W/"{job.version}"'


def format_rfc3339(ms: int) -> str:
    """Format UTC milliseconds since the epoch as RFC 3339 with milliseconds."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC).isoformat()[:19]}.{ms % 1000:03d}Z"


def to_epoch_ms(moment: datetime) -> int:
    """Convert an aware datetime to UTC milliseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def format_optional_time(ms: int | None) -> str | None:
    """Format a time as `format_rfc3339`; None stays None."""
    return None if ms is None else format_rfc3339(ms)
