"""Which threads work on documents outside the model, and when each last came round: the watchdog looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from threading import get_ident
from time import monotonic


class Progress:
    """The threads at work; each says now and then that it has not come to a stop.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._ticks: dict[int, float] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        """During the block the calling thread works on a document."""
        self.tick()
        try:
            yield
        finally:
            self.rest()

    def tick(self) -> None:
        """Say that the calling thread, which works, has come round."""
        self._ticks[get_ident()] = self._clock()

    def rest(self) -> None:
        """Say that the calling thread waits for others now; its next tick says that it works again."""
        self._ticks.pop(get_ident(), None)

    @property
    def last_tick(self) -> float:
        """Return when all threads at work had last come round, by the clock; infinity where none works."""
        return min([*self._ticks.values()], default=inf)
