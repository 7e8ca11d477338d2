"""Creating a job: its id, and what the ledger's refusal tells the client."""

from __future__ import annotations

import re

import pytest

from gateway.errors import ErrorCode, GatewayError
from gateway.submission.create import _check_outcome, new_job_id
from jobs.ledger import Created, CreateOutcome, Limits

REFUSALS: dict[CreateOutcome, ErrorCode] = {
    CreateOutcome.QUOTA: "quota_exceeded",
    CreateOutcome.STORED: "quota_exceeded",
    CreateOutcome.OVERLOADED: "overloaded",
    CreateOutcome.MEMORY_FULL: "overloaded",
    CreateOutcome.STAGE_LOST: "storage_unavailable",
    CreateOutcome.RETRY_CONFLICT: "already_retried",
    CreateOutcome.IDEMPOTENCY_CLAIM_LOST: "idempotency_in_progress",
}


def test_job_ids_sort_by_time_and_differ() -> None:
    """26 characters of Crockford's alphabet in lower case."""
    ids = [new_job_id() for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"job_[0-9a-hjkmnp-tv-z]{26}", job_id) for job_id in ids)
    assert [job_id[:13] for job_id in ids] == sorted(job_id[:13] for job_id in ids)


@pytest.mark.parametrize("kind", CreateOutcome)
def test_every_outcome_but_a_created_job_is_an_error(kind: CreateOutcome) -> None:
    """A job that the ledger refused is never answered as accepted; a repeated call finds its own job."""
    outcome = Created(kind, now=1, retry_after_s=7.0)
    if kind in (CreateOutcome.CREATED, CreateOutcome.EXISTS):
        _check_outcome(outcome, Limits())
        return
    with pytest.raises(GatewayError) as refused:
        _check_outcome(outcome, Limits())
    assert refused.value.code == REFUSALS[kind]


@pytest.mark.parametrize("kind", [CreateOutcome.QUOTA, CreateOutcome.OVERLOADED, CreateOutcome.MEMORY_FULL])
def test_the_client_waits_as_long_as_the_ledger_says(kind: CreateOutcome) -> None:
    """The ledger knows when there is room again."""
    with pytest.raises(GatewayError) as refused:
        _check_outcome(Created(kind, now=1, retry_after_s=7.0), Limits())
    assert refused.value.retry_after_s == 7.0
