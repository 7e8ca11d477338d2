"""Moves due deliveries from the ledger into Celery's queue.

The queue is kept short, so that urgent deliveries do not wait behind a flood. Any number of dispatchers may run at
once: the ledger hands out each delivery once, and again only if no courier claims it.
"""

from __future__ import annotations

import secrets

import redis

from gateway.courier.attempts import DeliveryPolicy
from jobs import naming
from jobs.ledger import Ledger, webhooks
from jobs.observability.metrics import WebhookMetrics
from jobs.process.periodic import PeriodicThread
from jobs.queue import celery_queues

_IDLE_S = 0.25
_BUSY_S = 0.005
_OUTAGE_S = 1.0


class Dispatcher(PeriodicThread):
    """Moves due deliveries into the queue from a separate thread; `wake` it when the queue may have room.

    Args:
        ledger: hands out due deliveries.
        broker: holds the queue.
        metrics: show the disabled endpoints.
        policy: how deliveries are made.
        slots: attempts this courier can have in progress; the queue holds four times as many messages at most.
    """

    def __init__(
        self, ledger: Ledger, broker: redis.Redis, metrics: WebhookMetrics, policy: DeliveryPolicy, slots: int
    ) -> None:
        super().__init__("dispatch", self._run_round, retry_s=_OUTAGE_S, min_pause_s=_BUSY_S)
        self._ledger = ledger
        self._broker = broker
        self._metrics = metrics
        self._courier = secrets.token_hex(8)  # a restarted process must not inherit its predecessor's attempts
        self._policy = policy
        self._slots = slots

    def tick(self) -> bool:
        """Queue due deliveries; return whether there may be more.

        Raises:
            LedgerUnavailableError: the ledger is unavailable.
            redis.exceptions.RedisError: the broker is; unqueued deliveries become due again.
        """
        policy, slots = self._policy, self._slots
        free_slots = max(0, 4 * slots - celery_queues.queue_length(self._broker, naming.WEBHOOK_QUEUE))
        call = webhooks.take_due_deliveries(
            free_slots,
            policy.cap,
            int(policy.requeue_s * 1000),
            courier=webhooks.CourierSlots(self._courier, slots),
        )
        due = self._ledger.run(call)
        self._metrics.disabled.set(due.disabled)
        if due.messages:
            celery_queues.push_deliveries(self._broker, due.messages)
        return bool(due.messages) or due.more

    def _run_round(self) -> float:
        return 0.0 if self.tick() else _IDLE_S
