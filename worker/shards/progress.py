"""Records when each thread that works on documents outside the model last made progress, for the watchdog."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from threading import get_ident
from time import monotonic


class Progress:
    """The latest sign of life of each working thread.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._ticks: dict[int, float] = {}

    @contextmanager
    def track_thread(self) -> Iterator[None]:
        """Watch the calling thread during the block."""
        self.tick()
        try:
            yield
        finally:
            self.pause()

    def tick(self) -> None:
        """Record that the calling thread makes progress."""
        self._ticks[get_ident()] = self._clock()

    def pause(self) -> None:
        """Stop watching the calling thread until its next tick, because it waits for other threads."""
        self._ticks.pop(get_ident(), None)

    @property
    def last_tick(self) -> float:
        """Oldest of the working threads' latest ticks, by the clock; infinity if none works."""
        return min([*self._ticks.values()], default=inf)
