"""Moves due deliveries from the ledger into Celery's queue.

The queue is kept short, so that urgent deliveries do not wait behind a flood. Any number of dispatchers may run at
once: the ledger hands out each delivery once, and again only if no courier claims it.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from threading import Event, Thread
from time import monotonic

import redis
from redis.exceptions import RedisError

from jobs import naming
from jobs.ledger import Ledger, LedgerUnavailableError, webhooks
from jobs.observability.logs import log_failure
from jobs.observability.metrics import WebhookMetrics
from jobs.queue import celery_queues

log = logging.getLogger(__name__)

_IDLE_S = 0.25
_BUSY_S = 0.005
_OUTAGE_S = 1.0


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """Limits of a dispatcher.

    Attributes:
        slots: attempts this courier can have in progress; the queue holds four times as many messages at most.
        cap: attempts in progress at one receiver.
        requeue_s: a delivery that was queued and not claimed is queued again after this long.
    """

    slots: int
    cap: int
    requeue_s: float = webhooks.AGAIN_MS / 1000


class Dispatcher:
    """Moves due deliveries into the queue from a separate thread until `stopping` is set."""

    def __init__(
        self,
        ledger: Ledger,
        broker: redis.Redis,
        metrics: WebhookMetrics,
        limits: DispatchLimits,
        stopping: Event,
    ) -> None:
        self._ledger = ledger
        self._broker = broker
        self._metrics = metrics
        self._name = secrets.token_hex(8)  # a restarted process must not inherit its predecessor's attempts
        self._limits = limits
        self._stopping = stopping
        self._wakeup = Event()
        self._thread = Thread(target=self._run_loop, name="dispatch", daemon=True)
        self._last_round_at = monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the current round to end; `stopping` must be set."""
        self._thread.join()

    def wake(self) -> None:
        """Start the next round soon, because the queue may have free slots."""
        self._wakeup.set()

    def stalled_s(self) -> float:
        """Return the seconds since the last round began."""
        return monotonic() - self._last_round_at

    def tick(self) -> bool:
        """Queue due deliveries; return whether there may be more.

        Raises:
            LedgerUnavailableError: the ledger is unavailable.
            redis.exceptions.RedisError: the broker is; unqueued deliveries become due again.
        """
        limits = self._limits
        free_slots = max(0, 4 * limits.slots - celery_queues.queue_length(self._broker, naming.WEBHOOK_QUEUE))
        call = webhooks.take_due_deliveries(
            free_slots,
            limits.cap,
            int(limits.requeue_s * 1000),
            courier=webhooks.CourierSlots(self._name, limits.slots),
        )
        due = self._ledger.run(call)
        self._metrics.disabled.set(due.disabled)
        if due.messages:
            celery_queues.push_deliveries(self._broker, due.messages)
        return bool(due.messages) or due.more

    def _run_loop(self) -> None:
        while True:
            self._last_round_at = monotonic()
            try:
                pause = 0.0 if self.tick() else _IDLE_S
            except (LedgerUnavailableError, RedisError, OSError) as error:
                log.warning("dispatch.interrupted", extra={"reason": type(error).__name__})
                pause = _OUTAGE_S
            except Exception as error:  # noqa: BLE001  # a bug with one delivery must not end all of them
                log_failure(log, "dispatch.failed", error)
                pause = _OUTAGE_S
            self._wakeup.wait(pause)
            if self._stopping.wait(_BUSY_S):  # many wake-ups make one round
                return
            self._wakeup.clear()
