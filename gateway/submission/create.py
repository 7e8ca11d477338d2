"""Creates a packed job: charge the quotas -> resolve the webhook -> ledger -> queue.

The response is sent only after the ledger has the job. A message that cannot be pushed is not an error: upkeep
publishes the shard again.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from redis.exceptions import RedisError

from gateway.access import Caller
from gateway.access.rate_limits import Limiter, max_stored_bytes, stored_quota_error
from gateway.errors import GatewayError
from gateway.reading.views import job_json, queued_job
from gateway.schemas.jobs import JobWebhook
from gateway.settings import GatewaySettings
from gateway.submission.idempotency import IdempotencyKeys
from gateway.submission.packing import PackedDocuments, pack_head
from gateway.submission.parsing.job import Head
from gateway.submission.types import AcceptedJob, IdempotencyKey, SubmissionContext
from gateway.webhooks.endpoints import Endpoints
from gateway.webhooks.parsing import InlineWebhook
from jobs import ledger, naming
from jobs.codec import Codec
from jobs.ledger import AsyncLedger, Created, Limits, NewJob, webhooks
from jobs.observability.metrics import GatewayMetrics
from jobs.observability.tracing import Tracer
from jobs.queue.publisher import QueuePublisher
from jobs.shards import wire_version

log = logging.getLogger(__name__)

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # pragma: allowlist secret


@dataclass(frozen=True, slots=True)
class JobCreation:
    """Creates jobs."""

    settings: GatewaySettings
    ledger: AsyncLedger
    codec: Codec
    keys: IdempotencyKeys
    limiter: Limiter
    endpoints: Endpoints
    publisher: QueuePublisher
    metrics: GatewayMetrics
    tracer: Tracer

    async def create_job(self, context: SubmissionContext, head: Head, packed: PackedDocuments) -> AcceptedJob:
        """Create a job whose documents are packed or staged.

        Raises:
            GatewayError: quota_exceeded, overloaded, already_retried, idempotency_in_progress, or of its webhook.
            LedgerUnavailableError: the job may or may not exist.
        """
        with self.tracer.span("submit", context.trace, job_id=packed.job_id, documents=packed.count) as trace:
            charge = await self.limiter.charge_job(context.caller, packed.count, packed.cost)
            try:
                webhook = await self._resolve_webhook(context, head, packed.job_id)
                new = self._describe_job(replace(context, trace=trace), head, packed, webhook)
                body = await self._write_job(new, head, context.key, webhook)
            except BaseException:
                await self.limiter.refund(charge)
                raise
        return AcceptedJob(packed.job_id, body, webhook, charge.statuses)

    async def _resolve_webhook(self, context: SubmissionContext, head: Head, job_id: str) -> JobWebhook | None:
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
            registered = await self.endpoints.get(caller.tenant, request)
            return JobWebhook(endpoint_id=registered.record.id, secret=None)
        max_bytes = max_stored_bytes(self.settings, caller)
        inline = await self.endpoints.create_inline(caller.tenant, job_id, request, head.deadline_s, max_bytes)
        secret = None if request.secret else inline.details.secrets[0].value
        return JobWebhook(endpoint_id=inline.record.id, secret=secret)

    def _describe_job(
        self, context: SubmissionContext, head: Head, packed: PackedDocuments, webhook: JobWebhook | None
    ) -> NewJob:
        caller, retry_of, watch = context.caller, context.retry_of, context.watch
        opts, meta = pack_head(self.codec, packed.job_id, head)
        return NewJob(
            id=packed.job_id,
            tenant=caller.tenant,
            model=head.model,
            priority=head.priority,
            opts=opts,
            meta=meta,
            sizes=packed.sizes,
            characters=packed.characters,
            blobs=packed.blobs,
            deadline_s=head.deadline_s,
            result_ttl_s=head.result_ttl_s,
            doc_ids=packed.doc_ids,
            bytes_in=packed.staged_bytes,
            endpoint_id="" if webhook is None else webhook.endpoint_id,
            retry_of="" if retry_of is None else retry_of.job_id,
            label_set=head.label_set or "",
            trace=context.trace,
            text_ttl_s=self.settings.retry_text_ttl_s,
            key_id=caller.key_id,
            waiter="" if watch is None else watch.channel,
            limits=_ledger_limits(self.settings, caller),
            version=max(packed.version, wire_version((), head.options, head.tasks)),
        )

    async def _write_job(
        self, new: NewJob, head: Head, key: IdempotencyKey | None, webhook: JobWebhook | None
    ) -> Callable[[], bytes]:
        """Write the job to the ledger and push its messages; return a function that renders the response."""

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
                response=self.keys.encode_response(new.tenant, key, response),
            )
        inline_push = self.publisher.inline_push(naming.queue_name(new.model, new.priority))
        outcome = await self.ledger.run(ledger.create_job(new, inline_push))
        try:
            _check_outcome(outcome, new.limits)
        except GatewayError:
            if webhook is not None and isinstance(head.webhook, InlineWebhook):
                await self.ledger.run(webhooks.delete_endpoint(webhook.endpoint_id))
            raise
        await self._push_messages(outcome)
        documents = sum(documents for documents, _ in new.sizes)
        self.metrics.submitted_jobs.inc()
        self.metrics.submitted_documents.inc(documents)
        log.info("job.created", extra={"job_id": new.id, "documents": documents})
        return partial(render_body, new.created or outcome.now)

    async def _push_messages(self, outcome: Created) -> None:
        if not outcome.publish:
            return
        try:
            await self.publisher.push(outcome.publish)
        except (RedisError, OSError) as error:
            log.warning(
                "submit.push_failed",
                extra={"job_id": outcome.publish[0].job, "reason": type(error).__name__},
            )


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
        case ledger.CreateOutcome.IDEMPOTENCY_CLAIM_LOST:
            raise GatewayError(
                "idempotency_in_progress",
                "another request has claimed this Idempotency-Key in the meantime; try again later",
                retry_after_s=1,
            )


def new_job_id() -> str:
    """Return `job_` and 26 characters that sort by time: 48 bits of milliseconds, then 80 random bits (a ULID)."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_BASE32[digit])
    return "job_" + "".join(reversed(digits))
