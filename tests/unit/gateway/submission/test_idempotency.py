"""Idempotency-Keys: one job for each key, and the first response again."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.schemas.jobs import JobWebhook
from gateway.submission.idempotency import IdempotencyKeys
from gateway.submission.types import AcceptedJob, IdempotencyKey, SubmissionContext
from jobs.codec import Codec
from jobs.ledger import IdempotencyClaim, IdempotencyOutcome, LedgerUnavailableError
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import make_context

pytestmark = pytest.mark.anyio

CODEC = Codec()
KEY = IdempotencyKey("hash", "sha", "nonce")
NEW_JOB = AcceptedJob("job_new", lambda: b"{}")


def make_claim(kind: IdempotencyOutcome, response: bytes = b"", now: int = 1000) -> IdempotencyClaim:
    """Return the ledger's reply to a claim."""
    return IdempotencyClaim(kind, response, now)


async def create(context: SubmissionContext) -> AcceptedJob:
    """Create the job, as a request that is the first with its key."""
    return NEW_JOB


async def refuse(_: SubmissionContext) -> AcceptedJob:
    """Fail, as a request that is not valid."""
    raise GatewayError("validation_failed", "no")


async def test_without_a_key_the_ledger_is_not_asked() -> None:
    """Such a request always creates a job."""
    ledger = ScriptedLedger()
    assert await IdempotencyKeys(ledger, CODEC).create_once(make_context(), create) is NEW_JOB
    assert ledger.script.calls == []


async def test_the_first_request_creates_the_job_at_the_time_of_its_claim() -> None:
    """The stored response and the first one have the same times."""
    seen: list[SubmissionContext] = []

    async def remember(context: SubmissionContext) -> AcceptedJob:
        seen.append(context)
        return NEW_JOB

    ledger = ScriptedLedger(claim_idempotency_key=make_claim(IdempotencyOutcome.RUN, now=7))
    assert await IdempotencyKeys(ledger, CODEC).create_once(make_context(KEY), remember) is NEW_JOB
    assert seen[0].key is not None
    assert seen[0].key.claimed_at_ms == 7
    assert ledger.script.names == ["claim_idempotency_key"]


@pytest.mark.parametrize(
    ("webhook", "expected"),
    [
        ('{"endpoint_id":"ep_1","secret":null}', JobWebhook(endpoint_id="ep_1", secret=None)),
        ("null", None),
    ],
)
async def test_a_repeated_request_gets_the_first_response(webhook: str, expected: JobWebhook | None) -> None:
    """Byte for byte, and nothing is created."""
    keys = IdempotencyKeys(ScriptedLedger(), CODEC)
    body = f'{{"id":"job_1","webhook":{webhook}}}'.encode()
    stored = keys.encode_response("acme", KEY, body)
    ledger = ScriptedLedger(claim_idempotency_key=make_claim(IdempotencyOutcome.REPLAY, stored))
    replay = await IdempotencyKeys(ledger, CODEC).create_once(make_context(KEY), refuse)
    assert (replay.job_id, replay.render_body(), replay.is_replay, replay.webhook) == (
        "job_1",
        body,
        True,
        expected,
    )


@pytest.mark.parametrize(
    ("kind", "code", "retry_after_s"),
    [
        (IdempotencyOutcome.REUSED, "idempotency_key_reused", None),
        (IdempotencyOutcome.PURGED, "job_purged", None),
        (IdempotencyOutcome.IN_PROGRESS, "idempotency_in_progress", 1),
    ],
)
async def test_a_key_that_cannot_be_used_is_refused(
    kind: IdempotencyOutcome, code: str, retry_after_s: float | None
) -> None:
    """And it is not released: another request has it."""
    ledger = ScriptedLedger(claim_idempotency_key=make_claim(kind))
    with pytest.raises(GatewayError) as refused:
        await IdempotencyKeys(ledger, CODEC).create_once(make_context(KEY), create)
    assert (refused.value.code, refused.value.retry_after_s) == (code, retry_after_s)
    assert ledger.script.names == ["claim_idempotency_key"]


@pytest.mark.parametrize("release", [True, LedgerUnavailableError("down")])
async def test_a_request_that_fails_releases_its_key(release: Any) -> None:
    """The corrected request may use it again; without Redis the first error still reaches the client."""
    ledger = ScriptedLedger(
        claim_idempotency_key=make_claim(IdempotencyOutcome.RUN), release_idempotency_key=release
    )
    with pytest.raises(GatewayError, match="validation_failed"):
        await IdempotencyKeys(ledger, CODEC).create_once(make_context(KEY), refuse)
    assert ledger.script.calls[-1].args == ("acme", "hash", "nonce")


async def test_a_stream_is_hashed_only_if_its_key_was_used_before() -> None:
    """A known key is claimed again with the hash of the body, and compared."""
    stored = IdempotencyKeys(ScriptedLedger(), CODEC).encode_response("acme", KEY, b'{"id":"job_1"}')
    claims = [make_claim(IdempotencyOutcome.ANSWERED), make_claim(IdempotencyOutcome.REPLAY, stored)]
    ledger = ScriptedLedger(claim_idempotency_key=claims)

    async def read_sha() -> str:
        return "sha-of-body"

    replay = await IdempotencyKeys(ledger, CODEC).create_once(make_context(KEY), create, read_sha)
    assert replay.is_replay
    assert [call.args[3] for call in ledger.script.calls] == ["sha", "sha-of-body"]


async def test_a_key_that_expires_while_its_body_is_read_creates_nothing() -> None:
    """The body has been read and cannot be read again."""
    claims = [make_claim(IdempotencyOutcome.ANSWERED), make_claim(IdempotencyOutcome.RUN)]
    ledger = ScriptedLedger(claim_idempotency_key=claims, release_idempotency_key=True)

    async def read_sha() -> str:
        return "sha"

    with pytest.raises(GatewayError) as refused:
        await IdempotencyKeys(ledger, CODEC).create_once(make_context(KEY), create, read_sha)
    assert refused.value.code == "idempotency_in_progress"
    assert ledger.script.names[-1] == "release_idempotency_key"
