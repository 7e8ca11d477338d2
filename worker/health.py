"""Liveness and readiness of this worker, and the watchdog that ends a hung process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from threading import Event
from time import monotonic

from jobs.process.periodic import PeriodicThread
from worker.batching.batcher import MicroBatcher
from worker.shards.heartbeats import Heartbeats

log = logging.getLogger(__name__)

HUNG_EXIT_CODE = 70
"""EX_SOFTWARE: a call of the model hangs or the device is lost; only a new process helps."""


class Health:
    """The state of this process, set by the composition root as it starts and ends."""

    def __init__(self, hang_timeout_s: float) -> None:
        self._hang_timeout_s = hang_timeout_s
        self._batcher: MicroBatcher | None = None
        self._heartbeats = Heartbeats()
        self._ready = Event()
        self._draining = Event()

    def watch(self, batcher: MicroBatcher, heartbeats: Heartbeats | None = None) -> None:
        """Check these from now on: the loops around the model, and the threads that work on documents."""
        self._batcher = batcher
        self._heartbeats = heartbeats or self._heartbeats

    def set_ready(self) -> None:
        """Report the worker as ready: it takes messages."""
        self._ready.set()

    def set_draining(self) -> None:
        """Report the worker as draining: it takes no more work. Called in a signal handler."""
        self._draining.set()

    def check_alive(self) -> str | None:
        """Return the reason why the process must be replaced, or None."""
        if self._batcher is None:
            return None  # loading; the start-up probe bounds it
        if self._batcher.is_broken:
            return "the device is lost"
        now = monotonic()
        for name, last_tick in (
            ("model loop", self._batcher.last_tick),
            ("work on a document", self._heartbeats.oldest_beat),
        ):
            if now - last_tick > self._hang_timeout_s:
                return f"the {name} has made no progress for {now - last_tick:.0f} s"
        return None

    def check_ready(self) -> str | None:
        """Return the reason why the process takes no work, or None."""
        if self._draining.is_set():
            return "draining"
        return None if self._ready.is_set() else "the model is loading"


class Watchdog(PeriodicThread):
    """Ends the process if two consecutive checks find it not alive.

    A thread cannot be killed, and a hung call of the model blocks shutdown permanently; leases bring the work back.
    """

    def __init__(self, health: Health, interval_s: float = 5.0, end: Callable[[int], None] = os._exit) -> None:
        super().__init__("watchdog", self._check, retry_s=interval_s)
        self._health = health
        self._interval_s = interval_s
        self._end = end
        self._has_warned = False

    def _check(self) -> float:
        reason = self._health.check_alive()
        if reason is not None and self._has_warned:
            log.critical("worker.hung", extra={"reason": reason})
            self._end(HUNG_EXIT_CODE)
        self._has_warned = reason is not None
        return self._interval_s
