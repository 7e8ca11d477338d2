"""Heartbeats of the threads that work on documents outside the model, for the watchdog."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from threading import get_ident
from time import monotonic


class Heartbeats:
    """The latest heartbeat of each working thread.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._beats: dict[int, float] = {}

    @contextmanager
    def track_thread(self) -> Iterator[None]:
        """Watch the calling thread during the block."""
        self.beat()
        try:
            yield
        finally:
            self.pause()

    def beat(self) -> None:
        """Record that the calling thread makes progress."""
        self._beats[get_ident()] = self._clock()

    def pause(self) -> None:
        """Stop watching the calling thread until its next heartbeat, because it waits for other threads."""
        self._beats.pop(get_ident(), None)

    @property
    def oldest_beat(self) -> float:
        """Oldest of the working threads' latest heartbeats, by the clock; infinity if none works."""
        return min([*self._beats.values()], default=inf)
