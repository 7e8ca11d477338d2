from __future__ import annotations

import orjson
import pytest

from gateway.reading.views import build_etag, format_rfc3339, job_json, retry_after_s
from gateway.schemas.jobs import JobBody, JobWebhook
from jobs.schema import Counts, Job, JobStatus, Priority, Usage


def make_job(**fields: object) -> Job:
    """Return a job that is half done."""
    base = Job(
        id="job_1",
        tenant="acme",
        status=JobStatus.RUNNING,
        status_reason=None,
        counts=Counts(3, 1, 1, 1, 0, 0, 0),
        eta_s=None,
        queue_position=None,
        usage=Usage(),
        model="m",
        model_revision=None,
        priority=Priority.STANDARD,
        created_at=1_700_000_000_001,
        started_at=None,
        finished_at=None,
        deadline_at=1_700_000_060_000,
        results_expire_at=None,
        error_summary={"empty_text": 1},
        opts=b"",
        meta=b"",
        retry_of=None,
        retried_by=None,
        version=7,
        now=1_700_000_001_000,
    )
    values = {name: getattr(base, name) for name in Job.__dataclass_fields__}
    return Job(**{**values, **fields})


def test_the_tenant_and_the_stored_blobs_are_not_shown() -> None:
    """A job's JSON holds the fields of the contract, and none of the ledger's."""
    body = orjson.loads(job_json(make_job(opts=b"secret"), {"a": "b"}))

    assert {"tenant", "opts", "meta", "version", "now"}.isdisjoint(body)
    assert body["metadata"] == {"a": "b"}
    assert body["progress"] == 0.3333
    assert body["error_summary"] == [{"code": "empty_text", "count": 1}]
    assert body["urls"] == {
        "self": "/v1/jobs/job_1",
        "results": "/v1/jobs/job_1/results",
        "cancel": "/v1/jobs/job_1/cancel",
        "events": "/v1/jobs/job_1/events",
    }


def test_a_job_matches_the_openapi_document() -> None:
    """Its JSON is that of the documented body, field by field in the same order."""
    ended = make_job(
        status=JobStatus.PARTIALLY_SUCCEEDED,
        eta_s=0.5,
        queue_position=2,
        model_revision="r",
        started_at=1_700_000_000_002,
        finished_at=1_700_000_000_003,
        results_expire_at=1_700_000_000_004,
        warnings=("w",),
        retry_of="job_0",
        retried_by="job_2",
    )
    for shown, webhook in ((make_job(), None), (ended, JobWebhook(endpoint_id="ep_1", secret="s"))):
        body = job_json(shown, {"a": "b"}, webhook)
        assert JobBody.model_validate_json(body).model_dump_json().encode() == body


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (1_700_000_000_001, "2023-11-14T22:13:20.001Z")],
)
def test_times_are_rfc_3339_in_utc_with_milliseconds(ms: int, text: str) -> None:
    """Always three digits, always Z."""
    assert format_rfc3339(ms) == text


@pytest.mark.parametrize(("eta", "seconds"), [(None, 1), (0.2, 1), (10.0, 5), (3600.0, 30)])
def test_retry_after_follows_the_eta(eta: float | None, seconds: int) -> None:
    """Half of the remaining time, within 1 to 30 s."""
    assert retry_after_s(make_job(eta_s=eta)) == seconds


def test_the_etag_is_the_version() -> None:
    """Weak, because the ETA changes without a new version."""
    assert build_etag(make_job()) == 'W/"7"'
