"""Starts and stops a worker's threads, and bounds the time that stopping may take."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread

from jobs.observability.metrics import WorkerMetrics
from jobs.process import memory
from worker.batching.batcher import MicroBatcher
from worker.health import Health, Watchdog
from worker.shards.heartbeats import Heartbeats
from worker.shards.leases import LeaseKeeper

log = logging.getLogger(__name__)

CUT_SHORT_EXIT_CODE = 75
"""EX_TEMPFAIL: the grace period was over before all shards were finished; leases bring the rest back."""
GIVE_BACK_S = 10.0
"""Part of the grace period that is reserved for giving unfinished shards back."""


@dataclass(eq=False, kw_only=True)
class Lifecycle:
    """The threads of a worker: in use from `start` to `stop`, between which Celery runs.

    Args:
        deregister: takes this worker off its model's list.
        grace_s: seconds from SIGTERM to the end of the process in any case.
        hang_timeout_s: seconds without progress after which the process ends.
        must_end: set near the end of the grace period; waiting for Redis then stops.
    """

    health: Health
    batcher: MicroBatcher
    leases: LeaseKeeper
    heartbeats: Heartbeats
    metrics: WorkerMetrics
    deregister: Callable[[], None]
    grace_s: float
    hang_timeout_s: float
    must_end: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self._watchdog = Watchdog(self.health, min(5.0, self.hang_timeout_s))
        self._draining, self._stopped = Event(), Event()

    def start(self) -> None:
        """Start all threads."""
        Thread(target=self._bound_drain, name="drain", daemon=True).start()
        self.batcher.start()
        self.health.watch(self.batcher, self.heartbeats)
        self.leases.start()
        self._watchdog.start()

    def set_ready(self) -> None:
        """Report the worker as ready; called when Celery takes messages."""
        memory.freeze_gc_baseline()
        self.health.set_ready()
        self.metrics.ready.set(1)

    def begin_drain(self) -> None:
        """Report the worker as draining; called in the handler of SIGTERM."""
        self.health.set_draining()
        self._draining.set()

    def stop(self) -> None:
        """Stop all threads, after Celery has finished its tasks and returned the messages that it had reserved."""
        self.metrics.ready.set(0)
        self.batcher.close(timeout=GIVE_BACK_S)
        self._watchdog.stop()
        self.leases.stop()
        self.deregister()
        self._stopped.set()

    def _bound_drain(self) -> None:
        """Give unfinished shards back near the end of the grace period, and end the process when it is over."""
        self._draining.wait()
        reserve_s = min(GIVE_BACK_S, self.grace_s)
        if self._stopped.wait(self.grace_s - reserve_s):
            return
        log.warning("drain.giving_back", extra={"shards": self.leases.count_held()})
        self.leases.end_all()
        self.must_end.set()
        if not self._stopped.wait(reserve_s):
            log.error("drain.cut_short", extra={"shards": self.leases.count_held()})
            os._exit(CUT_SHORT_EXIT_CODE)  # if Redis does not answer, it can hold Celery up for minutes
