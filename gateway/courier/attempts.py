"""Turns a delivery id into one attempt: claim -> sign -> send -> judge -> store. What `gleaner.deliver` does.

Runs in Celery's threads. As with shards, the ledger decides and the message is only the bell: one that is lost or
doubled changes nothing but the time.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import TypeVar

import orjson

from gateway.webhooks import payload, signing
from gateway.webhooks.endpoints import Card
from gateway.webhooks.schedule import STANDARD, Answer, Schedule, Verdict
from gateway.webhooks.sender import Sender
from jobs.codec import Codec, CodecError
from jobs.ledger import Call, Ledger, LedgerUnavailableError, associated_data, webhooks
from jobs.ledger.outcomes import DeliveryOutcome
from jobs.ledger.webhooks import DeliveryAttempt, DeliveryClaim
from jobs.observability.logs import bind_fields, log_failure
from jobs.observability.metrics import WebhookMetrics
from jobs.observability.tracing import Tracer

log = logging.getLogger(__name__)
T = TypeVar("T")

_LEASE_MARGIN_S = 15.0
_PATIENCE_S = 1.0
"""A message's later deliveries go back if its earlier ones took this long: others can take them."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How deliveries are made.

    Attributes:
        cap: attempts under way at one receiver; one while it fails.
        lease_s: after so long without a word from its courier an attempt counts as interrupted.
        again_s: a delivery that was queued and not claimed is queued again after this long.
        only_failures_s: an endpoint that met nothing but failures for so long is disabled.
    """

    schedule: Schedule = STANDARD
    cap: int = 4
    lease_s: float = 15.0 + _LEASE_MARGIN_S
    again_s: float = webhooks.AGAIN_MS / 1000
    only_failures_s: float = webhooks.ONLY_FAILURES_MS / 1000
    public_url: str = ""


class DeliveryRunner:
    """Makes attempts. Safe to share between threads.

    Args:
        stopping: set once the process must end; what a message has not begun then goes back.
        tracer: makes a span of each attempt.
    """

    def __init__(
        self,
        store: Ledger,
        codec: Codec,
        sender: Sender,
        metrics: WebhookMetrics,
        rules: Rules,
        stopping: Event,
        tracer: Tracer | None = None,
    ) -> None:
        self._store = store
        self._codec = codec
        self._sender = sender
        self._metrics = metrics
        self._rules = rules
        self._stopping = stopping
        self._tracer = tracer or Tracer()

    def deliver(self, ids: Sequence[str]) -> dict[str, int]:
        """Try these deliveries one after the other; how many came out how, for Flower."""
        outcomes: dict[str, int] = {}
        began = time.monotonic()
        for done, delivery in enumerate(ids):
            if done and (self._stopping.is_set() or time.monotonic() - began > _PATIENCE_S):
                self._store.run(webhooks.return_deliveries(ids[done:]))
                outcomes["returned"] = len(ids) - done
                break
            outcome = self._attempt(delivery)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return outcomes

    def _attempt(self, delivery: str) -> str:
        nonce = secrets.token_hex(8)
        rules = self._rules
        claim = self._store.run(webhooks.claim_delivery(delivery, nonce, int(rules.lease_s * 1000), rules.cap))
        if claim.kind is not DeliveryOutcome.RUN:
            log.debug("delivery.claim_rejected", extra={"delivery_id": delivery, "answer": claim.kind})
            return claim.kind
        if claim.attempts == 0:
            self._metrics.delay.observe(max(0, claim.now - claim.created) / 1000)
        with (
            bind_fields(job_id=claim.job),
            self._tracer.span(
                "webhook",
                claim.trace,
                outgoing=True,
                job_id=claim.job,
                delivery_id=delivery,
                endpoint_id=claim.endpoint,
                attempt=claim.attempts + 1,
            ) as trace,
        ):
            answer, verdict = self._judged(delivery, claim, trace)
            self._tracer.annotate(answer.error, status=answer.status)
            return self._settle(delivery, nonce, claim, answer, verdict)

    def _judged(self, delivery: str, claim: DeliveryClaim, trace: str) -> tuple[Answer, Verdict]:
        """Make the attempt and judge it; a fault of ours counts as a failure: nothing is repeated without end."""
        try:
            answer = self._send(delivery, claim, trace)
            return answer, self._judge(claim, answer)
        except Exception as error:  # noqa: BLE001  # whatever it is, the schedule must move
            log_failure(log, "delivery.broken", error, delivery_id=delivery)
            answer = Answer(0, 0, error="internal_error")
            return answer, STANDARD.judge(answer, claim.attempts, random.random(), datetime.now(UTC))

    def _judge(self, claim: DeliveryClaim, answer: Answer) -> Verdict:
        now = datetime.fromtimestamp(claim.now / 1000 + answer.latency_ms / 1000, UTC)
        return self._rules.schedule.judge(answer, claim.attempts, random.random(), now)

    def _send(self, delivery: str, claim: DeliveryClaim, trace: str) -> Answer:
        try:
            card = Card.open(self._codec, claim.endpoint, claim.sealed)
            meta = self._codec.decode(claim.meta, associated_data("meta", claim.job)) if claim.meta else b"{}"
        except CodecError:
            log.error("delivery.unreadable", extra={"delivery_id": delivery, "endpoint_id": claim.endpoint})
            return Answer(0, 0, error="unreadable")  # a key is missing here; another attempt may find it
        body = payload.build_job_event(claim.payload, orjson.loads(meta), self._rules.public_url)
        headers = signing.headers(delivery, claim.now // 1000, body, card.signing(claim.now))
        if trace:
            headers["traceparent"] = trace
        return self._sender.post(claim.tenant, card.url, headers, body)

    def _settle(self, delivery: str, nonce: str, claim: DeliveryClaim, answer: Answer, verdict: Verdict) -> str:
        attempt = DeliveryAttempt(
            claim.now, answer.status, answer.latency_ms, answer.error, self._kept(delivery, answer)
        )
        call = webhooks.record_delivery(
            delivery,
            nonce,
            webhooks.AttemptVerdict(verdict.outcome, delay_ms=verdict.delay_ms, disable=verdict.disable),
            attempt,
            only_failures_ms=int(self._rules.only_failures_s * 1000),
        )
        outcome, disabled = self._persist(call)
        self._metrics.attempts.labels(verdict.outcome).inc()
        self._metrics.seconds.observe(answer.latency_ms / 1000)
        facts = {"delivery_id": delivery, "endpoint_id": claim.endpoint, "status": answer.status}
        log.info(
            "delivery.attempted",
            extra={**facts, "outcome": outcome, "error": answer.error, "ms": answer.latency_ms},
        )
        if disabled:
            log.warning("endpoint.disabled", extra={"endpoint_id": claim.endpoint, "reason": disabled})
        return outcome

    def _kept(self, delivery: str, answer: Answer) -> bytes:
        return self._codec.encode(answer.body, associated_data("att", delivery)) if answer.body else b""

    def _persist(self, call: Call[T]) -> T:
        """Store what happened even if the store is away for a moment: otherwise the receiver would get it again."""
        delay_s = 0.1
        while True:
            try:
                return self._store.run(call)
            except LedgerUnavailableError as error:
                if delay_s > _LEASE_MARGIN_S / 2:
                    raise
                log.warning("ledger.unavailable", extra={"reason": str(error), "retry_s": delay_s})
                time.sleep(delay_s)
                delay_s *= 2
