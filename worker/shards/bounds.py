"""Bounds on what one document may cost outside the model: processor time, windows, entities, size of its result."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from math import inf
from time import thread_time
from typing import TypeVar

T = TypeVar("T")

STEP = 2048
"""Steps of a loop between two looks at the budget: a few milliseconds of work."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a document's result may need.

    Attributes:
        windows: windows of a document: passes over its labels times ranges of its words.
        entities: entities of a document.
        document_bytes: size of a document's entities, as JSON.
        shard_bytes: size of the entities of a shard's documents together: a stored result may have 64 MiB.
    """

    windows: int = 32_000
    entities: int = 50_000
    document_bytes: int = 16 << 20
    shard_bytes: int = 40 << 20


class TooCostlyError(Exception):
    """A document took more processor time outside the model than it may."""


class Budget:
    """Processor time for one document's way through pure code. Used by one thread.

    The time is the thread's own, so that a document is not failed for others that keep the processors busy.

    Args:
        seconds: processor seconds; unlimited by default.
        look: called at every check; raises where the work should end for another reason.
        clock: processor seconds of the calling thread.
    """

    def __init__(
        self,
        seconds: float = inf,
        look: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = thread_time,
    ) -> None:
        self._left_s = seconds
        self._look = look
        self._clock = clock
        self._ends_at = clock() + seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Spend the budget during the block; between blocks other documents spend the thread's time."""
        began = self._clock()
        self._ends_at = began + self._left_s
        try:
            yield
        finally:
            self._left_s -= self._clock() - began

    def check(self) -> None:
        """Raise where the work has to end.

        Raises:
            TooCostlyError: the budget is spent.
            Dropped: by `look`.
        """
        self._look()
        if self._clock() > self._ends_at:
            raise TooCostlyError

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Return an iterator of the items, with a check every `STEP` of them.

        Raises:
            TooCostlyError, Dropped: as `check`.
        """
        if isinstance(items, (list, tuple, array)) and len(items) < STEP:
            return iter(items)
        return self._in_steps(items)

    def _in_steps(self, items: Iterable[T]) -> Iterator[T]:
        remaining = iter(items)
        while batch := tuple(islice(remaining, STEP)):
            yield from batch
            if len(batch) == STEP:
                self.check()
