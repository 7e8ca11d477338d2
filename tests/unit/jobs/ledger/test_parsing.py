"""Replies of the scripts -> values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.ledger.parsing import NO_WORKER_MS, associated_data, parse_job, parse_messages, shard_return_parser
from jobs.schema import Job, JobStatus

COUNTS = st.integers(0, 1000)


def reply(**changes: object) -> list[bytes]:
    """Return the fields of a queued job, as a script returns them."""
    fields: dict[str, object] = {
        "tenant": "t1", "state": "queued", "total": 3, "model": "m", "priority": "standard", "created": 1000,
        "now": 2000, "deadline": 9000, "workers": 1, "opts": "o", "v": 1,
    }  # fmt: skip
    return [part for name, value in (fields | changes).items() for part in (name.encode(), str(value).encode())]


def job(**changes: object) -> Job:
    """Parse that."""
    return parse_job("job_1", reply(**changes))


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_every_document_is_counted_once(queued: int, run: int, ok: int, failed: int, canc: int, exp: int) -> None:
    """The ledger stores no number of queued documents: they are those that are nothing else."""
    total = queued + run + ok + failed + canc + exp
    counts = job(total=total, run=run, ok=ok, failed=failed, canc=canc, exp=exp).counts
    assert (counts.queued, counts.running, counts.finished) == (queued, run, ok + failed + canc + exp)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"workers": 0}, None),
        ({"workers": 0, "now": 1001 + NO_WORKER_MS}, "no_worker"),
        ({"workers": 0, "model_reason": "no weights"}, "model_unavailable: no weights"),
        ({"workers": 0, "model_reason": "no weights", "state": "succeeded"}, None),
    ],
)
def test_the_reason_why_a_job_waits(changes: dict[str, object], reason: str | None) -> None:
    """Only for a job that has not ended, and only without a live worker."""
    assert job(**changes).status_reason == reason


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, None),
        ({"left": 100, "model_chars": 100, "queue_jobs": 1, "drain_rate": 50}, 2.0),
        ({"left": 100, "model_chars": 1000, "queue_jobs": 4, "drain_rate": 50}, 8.0),
        ({"left": 100, "model_chars": 150, "queue_jobs": 4, "drain_rate": 50}, 3.0),
        ({"state": "cancelled"}, 0.0),
    ],
)
def test_the_estimate_of_the_remaining_time(changes: dict[str, object], seconds: float | None) -> None:
    """From the measured rate, shared with the queue's other jobs; unknown before there is one."""
    assert job(**changes).eta_s == seconds


def test_optional_fields_are_none_if_absent() -> None:
    """A job that has not begun has no revision, no times and no position."""
    parsed = job()
    assert parsed.status is JobStatus.QUEUED
    assert (parsed.model_revision, parsed.started_at, parsed.queue_position, parsed.retry_of) == (None,) * 4
    begun = job(rev="r1", rev2="r2", position=4, **{"err:empty_text": 2})
    assert (begun.model_revision, begun.queue_position, begun.error_summary) == ("r1", 4, {"empty_text": 2})
    assert "r1 and r2" in begun.warnings[0]


def test_messages_of_a_reply() -> None:
    """In threes; a shard that did not return has none."""
    assert [(m.job, m.shard, m.seq) for m in parse_messages("q", [b"a", b"0", b"7", b"b", b"2", b"8"])] == [
        ("a", 0, 7),
        ("b", 2, 8),
    ]
    parse = shard_return_parser("job_1")
    assert parse([b"stale"]).publish == ()
    [message] = parse([b"clean", b"3", b"9", b"q"]).publish
    assert (message.queue, message.job, message.shard, message.seq) == ("q", "job_1", 3, 9)


def test_different_blobs_are_bound_to_different_data() -> None:
    """Or one could be passed off as another."""
    blobs = [("in", "j", 1), ("out", "j", 1), ("in", "j", 11), ("part", "j", 1, 1), ("opts", "j")]
    assert len({associated_data(*arguments) for arguments in blobs}) == len(blobs)
