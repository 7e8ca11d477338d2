"""Liveness and readiness of this worker, and the watchdog that ends a hung process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

from worker.batching.batcher import MicroBatcher
from worker.shards.progress import Progress

log = logging.getLogger(__name__)

HUNG_EXIT_CODE = 70
"""EX_SOFTWARE: a call of the model hangs or the device is lost; only a new process helps."""


class Health:
    """The state of this process, set by the composition root as it starts and ends."""

    def __init__(self, hang_timeout_s: float) -> None:
        self._hang_timeout_s = hang_timeout_s
        self._batcher: MicroBatcher | None = None
        self._progress = Progress()
        self._ready = Event()
        self._draining = Event()

    def watch(self, batcher: MicroBatcher, progress: Progress | None = None) -> None:
        """Check these from now on: the loops around the model, and the threads that work on documents."""
        self._batcher = batcher
        self._progress = progress or self._progress

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
            ("work on a document", self._progress.last_tick),
        ):
            if now - last_tick > self._hang_timeout_s:
                return f"the {name} has made no progress for {now - last_tick:.0f} s"
        return None

    def check_ready(self) -> str | None:
        """Return the reason why the process takes no work, or None."""
        if self._draining.is_set():
            return "draining"
        return None if self._ready.is_set() else "the model is loading"


class Watchdog:
    """Ends the process if two consecutive checks find it not alive.

    A thread cannot be killed, and a hung call of the model blocks shutdown permanently; leases bring the work back.
    """

    def __init__(self, health: Health, interval_s: float = 5.0, end: Callable[[int], None] = os._exit) -> None:
        self._health = health
        self._interval_s = interval_s
        self._end = end
        self._stopping = Event()
        self._thread = Thread(target=self._loop, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start checking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop checking."""
        self._stopping.set()

    def _loop(self) -> None:
        warned = False
        while not self._stopping.wait(self._interval_s):
            reason = self._health.check_alive()
            if reason is None:
                warned = False
            elif warned:
                log.critical("worker.hung", extra={"reason": reason})
                self._end(HUNG_EXIT_CODE)
            else:
                warned = True
