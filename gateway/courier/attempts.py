"""Makes one attempt for a delivery id: claim -> sign -> send -> judge -> record. The task `gleaner.deliver`.

Runs in Celery's threads. As with shards, the ledger decides and a message only wakes a courier up: a lost or
duplicate message changes nothing but the time.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event

import orjson

from gateway.webhooks import payload, signing
from gateway.webhooks.endpoints import EndpointDetails
from gateway.webhooks.schedule import STANDARD, AttemptResult, Schedule
from gateway.webhooks.sender import Sender
from jobs.codec import Codec, CodecError
from jobs.ledger import Ledger, associated_data, webhooks
from jobs.ledger.outcomes import DeliveryOutcome
from jobs.ledger.webhooks import AttemptVerdict, DeliveryAttempt, DeliveryClaim
from jobs.observability.logs import bind_fields, log_failure
from jobs.observability.metrics import WebhookMetrics
from jobs.observability.tracing import Tracer

log = logging.getLogger(__name__)

LEASE_MARGIN_S = 15.0
_MAX_MESSAGE_S = 1.0
"""After this long a message's remaining deliveries are returned, so that other threads can take them."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """Parameters of deliveries.

    Attributes:
        cap: attempts in progress at one receiver; one while it fails.
        lease_s: after this long without a report from its courier an attempt counts as interrupted.
        requeue_s: a delivery that was queued and not claimed is queued again after this long.
        only_failures_s: an endpoint with nothing but failures for this long is disabled.
        public_url: prefix of URLs in payloads, or "".
    """

    schedule: Schedule = STANDARD
    cap: int = 4
    lease_s: float = 15.0 + LEASE_MARGIN_S
    requeue_s: float = webhooks.AGAIN_MS / 1000
    only_failures_s: float = webhooks.ONLY_FAILURES_MS / 1000
    public_url: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryRunner:
    """Makes attempts. Thread-safe.

    Attributes:
        stopping: set when the process must end; deliveries of a message that have not begun are then returned.
        tracer: makes a span of each attempt.
    """

    ledger: Ledger
    codec: Codec
    sender: Sender
    metrics: WebhookMetrics
    policy: DeliveryPolicy
    stopping: Event
    tracer: Tracer = field(default_factory=Tracer)

    def deliver(self, ids: Sequence[str]) -> dict[str, int]:
        """Attempt these deliveries one after the other; return the number of each outcome, for Flower."""
        outcomes: dict[str, int] = {}
        began = time.monotonic()
        for done, delivery in enumerate(ids):
            if done and (self.stopping.is_set() or time.monotonic() - began > _MAX_MESSAGE_S):
                self.ledger.run(webhooks.return_deliveries(ids[done:]))
                outcomes["returned"] = len(ids) - done
                break
            outcome = self._deliver_once(delivery)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return outcomes

    def _deliver_once(self, delivery: str) -> str:
        nonce = secrets.token_hex(8)
        policy = self.policy
        claim = self.ledger.run(webhooks.claim_delivery(delivery, nonce, int(policy.lease_s * 1000), policy.cap))
        if claim.kind is not DeliveryOutcome.RUN:
            log.debug("delivery.claim_rejected", extra={"delivery_id": delivery, "answer": claim.kind})
            return claim.kind
        if claim.attempts == 0:
            self.metrics.delay.observe(max(0, claim.now - claim.created) / 1000)
        with (
            bind_fields(job_id=claim.job),
            self.tracer.span(
                "webhook",
                claim.trace,
                outgoing=True,
                job_id=claim.job,
                delivery_id=delivery,
                endpoint_id=claim.endpoint,
                attempt=claim.attempts + 1,
            ) as trace,
        ):
            result, verdict = self._send_and_judge(delivery, claim, trace)
            self.tracer.annotate(result.error, status=result.status)
            attempt = DeliveryAttempt(
                claim.now, result.status, result.latency_ms, result.error, self._seal_body(delivery, result.body)
            )
            return self._record_attempt(delivery, nonce, claim, attempt, verdict)

    def _send_and_judge(
        self, delivery: str, claim: DeliveryClaim, trace: str
    ) -> tuple[AttemptResult, AttemptVerdict]:
        """Make the attempt and judge it; a bug of ours counts as a failure, so that no attempt repeats forever."""
        try:
            result = self._send_event(delivery, claim, trace)
            now = datetime.fromtimestamp((claim.now + result.latency_ms) / 1000, UTC)
            return result, self.policy.schedule.judge_attempt(result, claim.attempts, random.random(), now)
        except Exception as error:  # noqa: BLE001  # whatever it is, the schedule must move
            log_failure(log, "delivery.broken", error, delivery_id=delivery)
            result = AttemptResult(0, 0, error="internal_error")
            return result, STANDARD.judge_attempt(result, claim.attempts, random.random(), datetime.now(UTC))

    def _send_event(self, delivery: str, claim: DeliveryClaim, trace: str) -> AttemptResult:
        try:
            details = EndpointDetails.open(self.codec, claim.endpoint, claim.sealed)
            meta = self.codec.decode(claim.meta, associated_data("meta", claim.job)) if claim.meta else b"{}"
        except CodecError:
            log.error("delivery.unreadable", extra={"delivery_id": delivery, "endpoint_id": claim.endpoint})
            return AttemptResult(0, 0, error="unreadable")  # this courier lacks a key; another attempt may succeed
        body = payload.build_job_event(claim.payload, orjson.loads(meta), self.policy.public_url)
        headers = signing.sign_headers(delivery, claim.now // 1000, body, details.signing_secrets(claim.now))
        if trace:
            headers["traceparent"] = trace
        return self.sender.post(claim.tenant, details.url, headers, body)

    def _record_attempt(
        self, delivery: str, nonce: str, claim: DeliveryClaim, attempt: DeliveryAttempt, verdict: AttemptVerdict
    ) -> str:
        call = webhooks.record_delivery(
            delivery,
            nonce,
            verdict,
            attempt,
            only_failures_ms=int(self.policy.only_failures_s * 1000),
        )
        # Or the receiver would get the event again.
        outcome, disabled = self.ledger.run_with_retries(call, within_s=LEASE_MARGIN_S)
        self.metrics.attempts.labels(verdict.outcome).inc()
        self.metrics.seconds.observe(attempt.ms / 1000)
        facts = {"delivery_id": delivery, "endpoint_id": claim.endpoint, "status": attempt.status}
        log.info(
            "delivery.attempted",
            extra={**facts, "outcome": outcome, "error": attempt.error, "ms": attempt.ms},
        )
        if disabled:
            log.warning("endpoint.disabled", extra={"endpoint_id": claim.endpoint, "reason": disabled})
        return outcome

    def _seal_body(self, delivery: str, body: bytes) -> bytes:
        return self.codec.encode(body, associated_data("att", delivery)) if body else b""
