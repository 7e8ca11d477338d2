"""Is this worker alive, is it ready: what its probes answer, and the watchdog that ends a hung process."""

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
"""EX_SOFTWARE: the model call hung or the device is lost; only a new process helps."""


class Health:
    """What is known of this process; set by the composition root as start and end go on."""

    def __init__(self, hang_timeout_s: float) -> None:
        self._hang_timeout_s = hang_timeout_s
        self._batcher: MicroBatcher | None = None
        self._progress = Progress()
        self._ready = Event()
        self._draining = Event()

    def watch(self, batcher: MicroBatcher, progress: Progress | None = None) -> None:
        """The model is loaded and its loop runs; `progress` is of the threads that work on documents around it."""
        self._batcher = batcher
        self._progress = progress or self._progress

    def set_ready(self) -> None:
        """Messages are being taken."""
        self._ready.set()

    def set_draining(self) -> None:
        """SIGTERM came: no more work, please. Called in a signal handler."""
        self._draining.set()

    def alive(self) -> str | None:
        """Why the process is beyond help, or None."""
        if self._batcher is None:
            return None  # loading; the start-up probe bounds it
        if self._batcher.broken:
            return "the device is lost"
        now = monotonic()
        for what, since in (
            ("model loop", self._batcher.last_tick),
            ("work on a document", self._progress.last_tick),
        ):
            if now - since > self._hang_timeout_s:
                return f"the {what} stands still for {now - since:.0f} s"
        return None

    def ready(self) -> str | None:
        """Why the process takes no work, or None."""
        if self._draining.is_set():
            return "draining"
        return None if self._ready.is_set() else "the model is loading"


class Watchdog:
    """Ends the process once it is beyond help, one look after liveness has failed.

    A thread cannot be killed, and a hung model call holds shutdown for ever; leases bring the work back.
    """

    def __init__(self, health: Health, every_s: float = 5.0, end: Callable[[int], None] = os._exit) -> None:
        self._health = health
        self._every_s = every_s
        self._end = end
        self._stopping = Event()
        self._thread = Thread(target=self._loop, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _loop(self) -> None:
        warned = False
        while not self._stopping.wait(self._every_s):
            reason = self._health.alive()
            if reason is None:
                warned = False
            elif warned:
                log.critical("worker.hung", extra={"reason": reason})
                self._end(HUNG_EXIT_CODE)
            else:
                warned = True
