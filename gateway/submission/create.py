"""Turns a `Submission`, or what was staged, into a job: packed -> charged -> the ledger -> the queue.

Nothing is answered before the ledger has the job. A message that cannot be pushed is no error: upkeep publishes the
shard again.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import orjson
from redis.exceptions import RedisError

from gateway.access.auth import Caller
from gateway.access.rate_limits import max_stored_bytes, stored_quota_problem
from gateway.http.problems import Problem
from gateway.http.schemas import JobWebhook
from gateway.http.services import Services
from gateway.reading.job_waiter import CompletionWatch
from gateway.reading.views import job_json, queued_job
from gateway.settings import GatewaySettings
from gateway.submission.headers import IdempotencyKey
from gateway.submission.packing import PackedDocuments, PackedJob, pack_head, pack_job
from gateway.submission.parsing import Head, Submission
from gateway.submission.staging import Staging
from gateway.webhooks.request import InlineWebhook
from jobs import ledger, naming
from jobs.ledger import Created, IdempotencyClaim, LedgerUnavailableError, Limits, NewJob, webhooks
from jobs.shards import wire_version

log = logging.getLogger(__name__)

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # pragma: allowlist secret


@dataclass(frozen=True, slots=True)
class AcceptedJob:
    """A job that is in the ledger.

    Attributes:
        answer: the 202's JSON, the same bytes for the first answer and for its replays but for a webhook's secret.
        webhook: the job's, whose secret no later answer shows, a replay neither.
        replayed: the Idempotency-Key had made the job before.
    """

    job_id: str
    answer: Callable[[], bytes]
    webhook: JobWebhook | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class RetrySource:
    """What a retry takes over of the job before it: its id, and the endpoint that is told, or ""."""

    job_id: str
    hook: str


async def create_job(
    services: Services,
    caller: Caller,
    read: Callable[[], Awaitable[Submission[PackedDocuments]]],
    key: IdempotencyKey | None,
    trace: str,
    expected: CompletionWatch | None = None,
) -> AcceptedJob:
    """Make the job that `read` reads, or find the one that the same Idempotency-Key made.

    The client that waits for the end of a new job is `expected` to get it.

    Raises:
        Problem: what `read` raises; quota_exceeded, overloaded, idempotency_in_progress or idempotency_key_reused.
        LedgerUnavailableError: the job may or may not exist; the same request with its key finds out.
    """
    if key is None:
        return await _submit(services, caller, await read(), None, trace, expected)
    begun = await services.ledger.run(
        ledger.claim_idempotency_key(caller.tenant, key.key_hash, key.nonce, key.body_sha)
    )
    if (known := replayed_response(services, caller, key, begun)) is not None:
        return known
    async with release_key_on_error(services, caller, key):
        return await _submit(services, caller, await read(), replace(key, claimed_at_ms=begun.now), trace, expected)


async def _submit(
    services: Services,
    caller: Caller,
    submission: Submission[PackedDocuments],
    key: IdempotencyKey | None,
    trace: str,
    expected: CompletionWatch | None,
) -> AcceptedJob:
    head = submission.head.resolve_model(services.settings.models, caller.tenant)
    packed = pack_job(services.codec, head, submission.documents)
    with services.tracer.span("submit", trace, job_id=packed.job_id, documents=packed.documents) as trace:
        return await _make(services, caller, head, packed, key, trace, expected=expected)


async def create_staged_job(
    services: Services,
    caller: Caller,
    head: Head,
    staging: Staging,
    key: IdempotencyKey | None,
    trace: str,
    retried: RetrySource | None = None,
) -> AcceptedJob:
    """Make the job whose documents are staged.

    Raises:
        Problem: quota_exceeded, overloaded, already_retried or idempotency_in_progress.
        LedgerUnavailableError: the job may or may not exist.
    """
    packed = PackedJob(
        staging.job_id,
        *pack_head(services.codec, staging.job_id, head),
        staging.sizes,
        max(staging.version, wire_version((), head.options)),
        staging.characters,
        staged_bytes=staging.size,
    )
    with services.tracer.span("submit", trace, job_id=staging.job_id) as trace:
        return await _make(services, caller, head, packed, key, trace, retried)


def replayed_response(
    services: Services, caller: Caller, key: IdempotencyKey, begun: IdempotencyClaim
) -> AcceptedJob | None:
    """The first answer to this Idempotency-Key, or None where the request is the first.

    Raises:
        Problem: idempotency_key_reused, idempotency_in_progress, or job_purged.
    """
    match begun.kind:
        case ledger.IdempotencyOutcome.REPLAY:
            body = services.codec.decode(begun.answer, _answer_place(caller, key))
            shown = orjson.loads(body)
            webhook = JobWebhook(**shown["webhook"]) if shown.get("webhook") else None
            return AcceptedJob(shown["id"], lambda: body, webhook, replayed=True)
        case ledger.IdempotencyOutcome.REUSED:
            raise Problem("idempotency_key_reused", "the Idempotency-Key came with another body or path before")
        case ledger.IdempotencyOutcome.PURGED:
            raise Problem("job_purged", "the job that this Idempotency-Key made was removed; use a new key")
        case ledger.IdempotencyOutcome.IN_PROGRESS:
            raise Problem(
                "idempotency_in_progress",
                "the first request with this Idempotency-Key is not answered yet",
                headers={"Retry-After": "1"},
            )
    return None


@asynccontextmanager
async def release_key_on_error(services: Services, caller: Caller, key: IdempotencyKey) -> AsyncIterator[None]:
    """Frees the key if the block fails and the job was not made; the ledger keeps it if it was."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(LedgerUnavailableError):
            await services.ledger.run(ledger.release_idempotency_key(caller.tenant, key.key_hash, key.nonce))
        raise


async def _make(
    services: Services,
    caller: Caller,
    head: Head,
    packed: PackedJob,
    key: IdempotencyKey | None,
    trace: str,
    retried: RetrySource | None = None,
    expected: CompletionWatch | None = None,
) -> AcceptedJob:
    charge = await services.limiter.charge_job(caller, packed.documents, packed.cost)
    try:
        webhook = await _webhook(services, caller, head, packed.job_id, retried)
        new = NewJob(
            id=packed.job_id,
            tenant=caller.tenant,
            model=head.model,
            priority=head.priority,
            opts=packed.opts,
            meta=packed.meta,
            sizes=packed.sizes,
            characters=packed.characters,
            blobs=packed.blobs,
            deadline_s=head.deadline_s,
            result_ttl_s=head.result_ttl_s,
            doc_ids=packed.doc_ids,
            bytes_in=packed.staged_bytes,
            endpoint_id="" if webhook is None else webhook.endpoint_id,
            retry_of="" if retried is None else retried.job_id,
            trace=trace,
            text_ttl_s=services.settings.retry_text_ttl_s,
            key_id=caller.key_id,
            waiter="" if expected is None else expected.register(packed.job_id),
            limits=_limits(services.settings, caller),
            version=packed.version,
        )
        return await _create(services, caller, head, new, key, webhook)
    except BaseException:
        await services.limiter.refund(charge)
        raise


async def _create(
    services: Services,
    caller: Caller,
    head: Head,
    new: NewJob,
    key: IdempotencyKey | None,
    webhook: JobWebhook | None,
) -> AcceptedJob:
    def answer(created: int, webhook: JobWebhook | None = webhook) -> bytes:
        return job_json(queued_job(new, created), head.metadata, webhook)

    if key is not None:  # which keeps the answer, known before the job is made; a secret is shown once
        shown = None if webhook is None else JobWebhook(endpoint_id=webhook.endpoint_id, secret=None)
        sealed = services.codec.encode(answer(key.claimed_at_ms, shown), _answer_place(caller, key))
        new = replace(
            new,
            created=key.claimed_at_ms,
            idempotency_hash=key.key_hash,
            nonce=key.nonce,
            body_sha=key.body_sha,
            answer=sealed,
        )
    within = services.pusher.inline_push(naming.queue_name(new.model, new.priority))
    outcome = await services.ledger.run(ledger.create_job(new, within))
    try:
        _refuse(outcome, new.limits)
    except Problem:
        if webhook is not None and isinstance(head.webhook, InlineWebhook):
            await services.ledger.run(webhooks.delete_endpoint(webhook.endpoint_id))
        raise
    await _push(services, outcome)
    documents = sum(documents for documents, _ in new.sizes)
    services.metrics.submitted_jobs.inc()
    services.metrics.submitted_documents.inc(documents)
    log.info("job.created", extra={"job_id": new.id, "documents": documents})
    return AcceptedJob(new.id, lambda: answer(new.created or outcome.now), webhook)


async def _webhook(
    services: Services, caller: Caller, head: Head, job: str, retried: RetrySource | None
) -> JobWebhook | None:
    """Return the endpoint that is notified of the job's end; an inline one is created now.

    Raises:
        Problem: webhook_url_forbidden, endpoint_not_found or quota_exceeded.
    """
    if retried is not None:
        return JobWebhook(endpoint_id=retried.hook, secret=None) if retried.hook else None
    webhook = head.webhook
    if webhook is None:
        return None
    if isinstance(webhook, str):
        registered = await services.endpoints.get(caller.tenant, webhook)
        return JobWebhook(endpoint_id=registered.record.id, secret=None)
    max_bytes = max_stored_bytes(services.settings, caller)
    inline = await services.endpoints.create_inline(caller.tenant, job, webhook, head.deadline_s, max_bytes)
    secret = None if webhook.secret else inline.details.secrets[0].value
    return JobWebhook(endpoint_id=inline.record.id, secret=secret)


def _limits(settings: GatewaySettings, caller: Caller) -> Limits:
    return Limits(
        key_jobs=caller.limits.open_jobs or settings.key_open_jobs,
        tenant_jobs=settings.tenant_max_open_jobs,
        tenant_chars=settings.tenant_max_open_characters,
        tenant_stored=max_stored_bytes(settings, caller),
        model_chars=settings.model_max_open_characters,
        all_chars=settings.max_open_characters,
    )


def _refuse(outcome: Created, limits: Limits) -> None:
    """A job that was not made is a problem of its own kind; `exists` is our own call, repeated."""
    retry = {"Retry-After": str(max(1, round(outcome.retry_after_s)))}
    match outcome.kind:
        case ledger.CreateOutcome.CREATED | ledger.CreateOutcome.EXISTS:
            return
        case ledger.CreateOutcome.QUOTA:
            raise Problem(
                "quota_exceeded", "your key or tenant has as much open work as it may have", headers=retry
            )
        case ledger.CreateOutcome.STORED:
            raise stored_quota_problem(outcome.stored_bytes, limits.tenant_stored)
        case ledger.CreateOutcome.OVERLOADED:
            raise Problem("overloaded", "the backlog is as long as it may be", headers=retry)
        case ledger.CreateOutcome.MEMORY_FULL:
            raise Problem("overloaded", "the job store has no room for this job now", headers=retry)
        case ledger.CreateOutcome.STAGE_LOST:
            raise Problem(
                "storage_unavailable", "the job store lost the upload; send it again", headers={"Retry-After": "1"}
            )
        case ledger.CreateOutcome.RETRY_CONFLICT:
            raise Problem("already_retried", "another job retries this one already, or it was removed meanwhile")
        case ledger.CreateOutcome.IDEM_LOST:
            raise Problem(
                "idempotency_in_progress",
                "another request with this Idempotency-Key took over",
                headers={"Retry-After": "1"},
            )


async def _push(services: Services, outcome: Created) -> None:
    if not outcome.publish:
        return
    try:
        await services.pusher.push(outcome.publish)
    except (RedisError, OSError) as error:
        log.warning(
            "submit.push_failed",
            extra={"job_id": outcome.publish[0].job, "reason": type(error).__name__},
        )


def _answer_place(caller: Caller, key: IdempotencyKey) -> str:
    return f"answer:{caller.tenant}:{key.key_hash}"


def new_job_id() -> str:
    """`job_` and 26 characters that sort by time: 48 bits of milliseconds, then 80 random ones (as a ULID)."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_BASE32[digit])
    return "job_" + "".join(reversed(digits))
