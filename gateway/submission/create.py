"""Creates a job from a parsed or a staged submission: pack -> charge the quotas -> ledger -> queue.

The response is sent only after the ledger has the job. A message that cannot be pushed is not an error: upkeep
publishes the shard again.
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
from gateway.access.rate_limits import max_stored_bytes, stored_quota_error
from gateway.errors import GatewayError
from gateway.reading.job_waiter import CompletionWatch
from gateway.reading.views import job_json, queued_job
from gateway.schemas.jobs import JobWebhook
from gateway.services import Services
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
        render_body: renders the JSON of the 202; a replay is identical except for a webhook's secret.
        webhook: the job's endpoint; its secret is in the first response only.
        is_replay: an earlier request with the same Idempotency-Key created the job.
    """

    job_id: str
    render_body: Callable[[], bytes]
    webhook: JobWebhook | None = None
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class RetrySource:
    """The job that is retried: its id, and the id of its webhook endpoint or ""."""

    job_id: str
    endpoint_id: str


@dataclass(frozen=True, slots=True)
class SubmissionContext:
    """The request that a job is created for.

    Attributes:
        key: its Idempotency-Key.
        trace: its W3C traceparent, or "".
        watch: gets the end of the new job, if the request waits for it.
        retry_of: the job that is retried.
    """

    caller: Caller
    key: IdempotencyKey | None
    trace: str
    watch: CompletionWatch | None = None
    retry_of: RetrySource | None = None


async def create_job(
    services: Services, context: SubmissionContext, read: Callable[[], Awaitable[Submission[PackedDocuments]]]
) -> AcceptedJob:
    """Create the job that `read` returns, or return the one that the same Idempotency-Key created.

    Raises:
        GatewayError: from `read`; quota_exceeded, overloaded, idempotency_in_progress or idempotency_key_reused.
        LedgerUnavailableError: the job may or may not exist; a repeated request with the same key finds out.
    """

    async def create(context: SubmissionContext) -> AcceptedJob:
        submission = await read()
        head = submission.head.resolve_model(services.settings.models, context.caller.tenant)
        packed = pack_job(services.codec, head, submission.documents)
        with services.tracer.span(
            "submit", context.trace, job_id=packed.job_id, documents=packed.documents
        ) as trace:
            return await _charge_and_create(services, replace(context, trace=trace), head, packed)

    return await create_once(services, context, create)


async def create_staged_job(
    services: Services, context: SubmissionContext, head: Head, staging: Staging
) -> AcceptedJob:
    """Create the job whose documents are staged.

    Raises:
        GatewayError: quota_exceeded, overloaded, already_retried or idempotency_in_progress.
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
    with services.tracer.span("submit", context.trace, job_id=staging.job_id) as trace:
        return await _charge_and_create(services, replace(context, trace=trace), head, packed)


async def create_once(
    services: Services,
    context: SubmissionContext,
    create: Callable[[SubmissionContext], Awaitable[AcceptedJob]],
    read_sha: Callable[[], Awaitable[str]] | None = None,
) -> AcceptedJob:
    """Return the job that the same Idempotency-Key created, or call `create` with the claimed key.

    The hash of a stream's body is only needed for a key that was used before: `read_sha` then reads the body.

    Raises:
        GatewayError: raised by `create`, or as `replayed_response`.
        LedgerUnavailableError: the job may or may not exist.
    """
    key, tenant = context.key, context.caller.tenant
    if key is None:
        return await create(context)
    claim = await services.ledger.run(claim_key(tenant, key))
    if claim.kind is ledger.IdempotencyOutcome.KNOWN and read_sha is not None:
        key = replace(key, body_sha=await read_sha())
        claim = await services.ledger.run(claim_key(tenant, key))
        create = _refuse_expired_key
    if (replay := replayed_response(services, tenant, key, claim)) is not None:
        return replay
    async with release_key_on_error(services, tenant, key):
        return await create(replace(context, key=replace(key, claimed_at_ms=claim.now)))


async def _refuse_expired_key(_: SubmissionContext) -> AcceptedJob:
    detail = "the Idempotency-Key has just expired; send the request again"
    raise GatewayError("idempotency_in_progress", detail, retry_after_s=1)


def claim_key(tenant: str, key: IdempotencyKey) -> ledger.Call[IdempotencyClaim]:
    """Return the ledger call that claims an Idempotency-Key, or renews the claim."""
    return ledger.claim_idempotency_key(tenant, key.key_hash, key.nonce, key.body_sha)


def replayed_response(
    services: Services, tenant: str, key: IdempotencyKey, claim: IdempotencyClaim
) -> AcceptedJob | None:
    """Return the first response to this Idempotency-Key, or None for the first request.

    Raises:
        GatewayError: idempotency_key_reused, idempotency_in_progress, or job_purged.
    """
    match claim.kind:
        case ledger.IdempotencyOutcome.REPLAY:
            body = services.codec.decode(claim.answer, _response_data(tenant, key))
            job = orjson.loads(body)
            webhook = JobWebhook(**job["webhook"]) if job.get("webhook") else None
            return AcceptedJob(job["id"], lambda: body, webhook, is_replay=True)
        case ledger.IdempotencyOutcome.REUSED:
            raise GatewayError(
                "idempotency_key_reused", "this Idempotency-Key was used with another body or path; use a new key"
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
async def release_key_on_error(services: Services, tenant: str, key: IdempotencyKey) -> AsyncIterator[None]:
    """Release the key if the block fails and the job was not created; the ledger keeps the key of a created job."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(LedgerUnavailableError):
            await services.ledger.run(ledger.release_idempotency_key(tenant, key.key_hash, key.nonce))
        raise


async def _charge_and_create(
    services: Services, context: SubmissionContext, head: Head, packed: PackedJob
) -> AcceptedJob:
    caller, retry_of, watch = context.caller, context.retry_of, context.watch
    charge = await services.limiter.charge_job(caller, packed.documents, packed.cost)
    try:
        webhook = await _resolve_webhook(services, context, head, packed.job_id)
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
            retry_of="" if retry_of is None else retry_of.job_id,
            trace=context.trace,
            text_ttl_s=services.settings.retry_text_ttl_s,
            key_id=caller.key_id,
            waiter="" if watch is None else watch.register(packed.job_id),
            limits=_ledger_limits(services.settings, caller),
            version=packed.version,
        )
        return await _create_in_ledger(services, head, new, context.key, webhook)
    except BaseException:
        await services.limiter.refund(charge)
        raise


async def _create_in_ledger(
    services: Services, head: Head, new: NewJob, key: IdempotencyKey | None, webhook: JobWebhook | None
) -> AcceptedJob:
    def render_body(created: int, webhook: JobWebhook | None = webhook) -> bytes:
        return job_json(queued_job(new, created), head.metadata, webhook)

    if key is not None:  # the response is stored with the key, without the secret, in the same atomic step
        without_secret = None if webhook is None else JobWebhook(endpoint_id=webhook.endpoint_id, secret=None)
        response = render_body(key.claimed_at_ms, without_secret)
        new = replace(
            new,
            created=key.claimed_at_ms,
            idempotency_hash=key.key_hash,
            nonce=key.nonce,
            body_sha=key.body_sha,
            answer=services.codec.encode(response, _response_data(new.tenant, key)),
        )
    inline_push = services.pusher.inline_push(naming.queue_name(new.model, new.priority))
    outcome = await services.ledger.run(ledger.create_job(new, inline_push))
    try:
        _check_outcome(outcome, new.limits)
    except GatewayError:
        if webhook is not None and isinstance(head.webhook, InlineWebhook):
            await services.ledger.run(webhooks.delete_endpoint(webhook.endpoint_id))
        raise
    await _push_messages(services, outcome)
    documents = sum(documents for documents, _ in new.sizes)
    services.metrics.submitted_jobs.inc()
    services.metrics.submitted_documents.inc(documents)
    log.info("job.created", extra={"job_id": new.id, "documents": documents})
    return AcceptedJob(new.id, lambda: render_body(new.created or outcome.now), webhook)


async def _resolve_webhook(
    services: Services, context: SubmissionContext, head: Head, job_id: str
) -> JobWebhook | None:
    """Return the endpoint that receives the job's end; create it if the request contains its URL.

    Raises:
        GatewayError: webhook_url_forbidden, endpoint_not_found or quota_exceeded.
    """
    caller, request = context.caller, head.webhook
    if context.retry_of is not None:
        endpoint_id = context.retry_of.endpoint_id
        return JobWebhook(endpoint_id=endpoint_id, secret=None) if endpoint_id else None
    if request is None:
        return None
    if isinstance(request, str):
        registered = await services.endpoints.get(caller.tenant, request)
        return JobWebhook(endpoint_id=registered.record.id, secret=None)
    max_bytes = max_stored_bytes(services.settings, caller)
    inline = await services.endpoints.create_inline(caller.tenant, job_id, request, head.deadline_s, max_bytes)
    secret = None if request.secret else inline.details.secrets[0].value
    return JobWebhook(endpoint_id=inline.record.id, secret=secret)


def _ledger_limits(settings: GatewaySettings, caller: Caller) -> Limits:
    return Limits(
        key_jobs=caller.limits.open_jobs or settings.key_open_jobs,
        tenant_jobs=settings.tenant_max_open_jobs,
        tenant_chars=settings.tenant_max_open_characters,
        tenant_stored=max_stored_bytes(settings, caller),
        model_chars=settings.model_max_open_characters,
        all_chars=settings.max_open_characters,
    )


def _check_outcome(outcome: Created, limits: Limits) -> None:
    """Raise the error of a job that was not created; `exists` is the reply to a repeated call."""
    wait_s = outcome.retry_after_s
    match outcome.kind:
        case ledger.CreateOutcome.CREATED | ledger.CreateOutcome.EXISTS:
            return
        case ledger.CreateOutcome.QUOTA:
            detail = "your key or tenant has reached its limit of open work; wait until jobs end"
            raise GatewayError("quota_exceeded", detail, retry_after_s=wait_s)
        case ledger.CreateOutcome.STORED:
            raise stored_quota_error(outcome.stored_bytes, limits.tenant_stored)
        case ledger.CreateOutcome.OVERLOADED:
            raise GatewayError(
                "overloaded", "the backlog has reached its limit; try again later", retry_after_s=wait_s
            )
        case ledger.CreateOutcome.MEMORY_FULL:
            raise GatewayError(
                "overloaded",
                "the ledger has no memory for this job now; try again later",
                retry_after_s=wait_s,
            )
        case ledger.CreateOutcome.STAGE_LOST:
            raise GatewayError("storage_unavailable", "the ledger lost the upload; send it again", retry_after_s=1)
        case ledger.CreateOutcome.RETRY_CONFLICT:
            raise GatewayError("already_retried", "the job was retried or removed in the meantime")
        case ledger.CreateOutcome.IDEM_LOST:
            raise GatewayError(
                "idempotency_in_progress",
                "another request has claimed this Idempotency-Key in the meantime; try again later",
                retry_after_s=1,
            )


async def _push_messages(services: Services, outcome: Created) -> None:
    if not outcome.publish:
        return
    try:
        await services.pusher.push(outcome.publish)
    except (RedisError, OSError) as error:
        log.warning(
            "submit.push_failed",
            extra={"job_id": outcome.publish[0].job, "reason": type(error).__name__},
        )


def _response_data(tenant: str, key: IdempotencyKey) -> str:
    """Return the associated data that a stored response is encrypted with."""
    return f"answer:{tenant}:{key.key_hash}"


def new_job_id() -> str:
    """Return `job_` and 26 characters that sort by time: 48 bits of milliseconds, then 80 random bits (a ULID)."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_BASE32[digit])
    return "job_" + "".join(reversed(digits))
