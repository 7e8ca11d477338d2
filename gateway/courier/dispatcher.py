"""The courier's second timer: deliveries whose time has come go from the ledger into Celery's queue.

The queue is kept short, so that what is urgent never waits behind what is many. Any number may run at once: the
ledger hands out each delivery once, and again only if nobody claims it.
"""

from __future__ import annotations

import logging
import secrets
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


class Dispatcher:
    """Moves due deliveries into the queue from a thread of its own until stopped.

    Args:
        slots: attempts this courier can have under way; the queue holds four times as many messages at most.
        cap: attempts under way at one receiver.
        stopping: set to end it.
        again_s: a delivery that was queued and not claimed is queued again after this long.
    """

    def __init__(
        self,
        store: Ledger,
        broker: redis.Redis,
        metrics: WebhookMetrics,
        *,
        slots: int,
        cap: int,
        stopping: Event,
        again_s: float = webhooks.AGAIN_MS / 1000,
    ) -> None:
        self._store = store
        self._broker = broker
        self._metrics = metrics
        self._name = secrets.token_hex(8)  # a restarted process must not inherit what its predecessor has under way
        self._slots = slots
        self._most = 4 * slots
        self._cap = cap
        self._again_ms = int(again_s * 1000)
        self._stopping = stopping
        self._wake = Event()
        self._thread = Thread(target=self._loop, name="dispatch", daemon=True)
        self._came_round = monotonic()

    def start(self) -> None:
        """Begin at once."""
        self._thread.start()

    def join(self) -> None:
        """Return when the round that runs is over; `stopping` must be set."""
        self._thread.join()

    def nudge(self) -> None:
        """There may be room in the queue again: look soon, not at the next turn."""
        self._wake.set()

    def stalled_s(self) -> float:
        """Seconds since the loop last came round."""
        return monotonic() - self._came_round

    def tick(self) -> bool:
        """Queue what is due; return True if there may be more.

        Raises:
            LedgerUnavailableError: the ledger is down.
            redis.exceptions.RedisError: the broker is; what was handed out comes up again.
        """
        room = max(0, self._most - celery_queues.queue_length(self._broker, naming.WEBHOOK_QUEUE))
        call = webhooks.take_due_deliveries(
            room, self._cap, self._again_ms, courier=webhooks.CourierSlots(self._name, self._slots)
        )
        due = self._store.run(call)
        self._metrics.disabled.set(due.disabled)
        if due.messages:
            celery_queues.push_deliveries(self._broker, due.messages)
        return bool(due.messages) or due.more

    def _loop(self) -> None:
        while True:
            self._came_round = monotonic()
            try:
                pause = 0.0 if self.tick() else _IDLE_S
            except (LedgerUnavailableError, RedisError, OSError) as error:
                log.warning("dispatch.interrupted", extra={"reason": type(error).__name__})
                pause = _OUTAGE_S
            except Exception as error:  # noqa: BLE001  # a bug with one delivery must not end all of them
                log_failure(log, "dispatch.failed", error)
                pause = _OUTAGE_S
            self._wake.wait(pause)
            if self._stopping.wait(_BUSY_S):  # many nudges make one round
                return
            self._wake.clear()
