"""Creates one job per Idempotency-Key: a key is claimed before its job is created, and stored with its response."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import orjson

from gateway.errors import GatewayError
from gateway.schemas.jobs import JobWebhook
from gateway.submission.types import AcceptedJob, IdempotencyKey, SubmissionContext
from jobs import ledger
from jobs.codec import Codec
from jobs.ledger import AsyncLedger, IdempotencyClaim, LedgerUnavailableError


@dataclass(frozen=True, slots=True)
class IdempotencyKeys:
    """Claims keys, and replays the response of the first request with a key."""

    ledger: AsyncLedger
    codec: Codec

    async def create_once(
        self,
        context: SubmissionContext,
        create: Callable[[SubmissionContext], Awaitable[AcceptedJob]],
        read_sha: Callable[[], Awaitable[str]] | None = None,
    ) -> AcceptedJob:
        """Return the job that the same Idempotency-Key created, or call `create` with the claimed key.

        The hash of a stream's body is only needed for a key that was used before: `read_sha` then reads the body.

        Raises:
            GatewayError: raised by `create`; idempotency_key_reused, idempotency_in_progress, or job_purged.
            LedgerUnavailableError: the job may or may not exist; a repeated request with the same key finds out.
        """
        key, tenant = context.key, context.caller.tenant
        if key is None:
            return await create(context)
        claim = await self.ledger.run(build_claim(tenant, key))
        if claim.kind is ledger.IdempotencyOutcome.ANSWERED and read_sha is not None:
            key = replace(key, body_sha=await read_sha())
            claim = await self.ledger.run(build_claim(tenant, key))
            create = _refuse_expired_key
        if (replay := self._find_replay(tenant, key, claim)) is not None:
            return replay
        async with self._release_on_error(tenant, key):
            return await create(replace(context, key=replace(key, claimed_at_ms=claim.now)))

    def encode_response(self, tenant: str, key: IdempotencyKey, body: bytes) -> bytes:
        """Encode the response that later requests with the key get."""
        return self.codec.encode(body, _response_data(tenant, key))

    def _find_replay(self, tenant: str, key: IdempotencyKey, claim: IdempotencyClaim) -> AcceptedJob | None:
        """Return the first response to this key, or None for the first request.

        Raises:
            GatewayError: idempotency_key_reused, idempotency_in_progress, or job_purged.
        """
        match claim.kind:
            case ledger.IdempotencyOutcome.REPLAY:
                body = self.codec.decode(claim.response, _response_data(tenant, key))
                job = orjson.loads(body)
                webhook = JobWebhook(**job["webhook"]) if job.get("webhook") else None
                return AcceptedJob(job["id"], lambda: body, webhook, is_replay=True)
            case ledger.IdempotencyOutcome.REUSED:
                raise GatewayError(
                    "idempotency_key_reused",
                    "this Idempotency-Key was used with another body or path; use a new key",
                )
            case ledger.IdempotencyOutcome.PURGED:
                raise GatewayError("job_purged", "the job of this Idempotency-Key was removed; use a new key")
            case ledger.IdempotencyOutcome.IN_PROGRESS:
                raise GatewayError(
                    "idempotency_in_progress",
                    "the first request with this Idempotency-Key is still in progress; try again later",
                    retry_after_s=1,
                )
        return None

    @asynccontextmanager
    async def _release_on_error(self, tenant: str, key: IdempotencyKey) -> AsyncIterator[None]:
        """Release the key if the block fails; the ledger keeps the key of a job that was created nevertheless."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(LedgerUnavailableError):
                await self.ledger.run(ledger.release_idempotency_key(tenant, key.key_hash, key.nonce))
            raise


def build_claim(tenant: str, key: IdempotencyKey) -> ledger.Call[IdempotencyClaim]:
    """Return the ledger call that claims a key, or renews the claim."""
    return ledger.claim_idempotency_key(tenant, key.key_hash, key.nonce, key.body_sha)


async def _refuse_expired_key(_: SubmissionContext) -> AcceptedJob:
    detail = "the Idempotency-Key has just expired; send the request again"
    raise GatewayError("idempotency_in_progress", detail, retry_after_s=1)


def _response_data(tenant: str, key: IdempotencyKey) -> str:
    """Return the associated data that a stored response is encrypted with."""
    return f"answer:{tenant}:{key.key_hash}"
