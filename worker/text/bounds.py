"""Limits the cost of a document outside the model: processor time, windows, entities, size of its result."""

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

CHECK_EVERY = 2048
"""Iterations of a loop between two checks of the budget: a few milliseconds of work."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Size limits of a document's processing and result.

    Attributes:
        windows: windows of a document: passes over its labels times ranges of its words.
        entities: entities of a document.
        relations: relations of a document.
        document_bytes: size of a document's entities and relations, as JSON.
        shard_bytes: the same of all documents of a shard: a stored result may have 64 MiB.
    """

    windows: int = 32_000
    entities: int = 50_000
    relations: int = 10_000
    document_bytes: int = 16 << 20
    shard_bytes: int = 40 << 20


class TooCostlyError(Exception):
    """A document used up its processor time outside the model."""


class Budget:
    """Processor time of one document in pure code. Used by one thread.

    Every function that takes a budget checks it on the way, and raises what `check` raises. The time is the
    thread's, so that a document does not fail because other work keeps the processors busy.

    Args:
        seconds: processor seconds; unlimited by default.
        on_check: called at every check; raises if the work should end for another reason.
        clock: processor seconds of the calling thread.
    """

    def __init__(
        self,
        seconds: float = inf,
        on_check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = thread_time,
    ) -> None:
        self._left_s = seconds
        self._on_check = on_check
        self._clock = clock
        self._ends_at = clock() + seconds

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Charge the thread's time during the block to the budget; between blocks it works on other documents."""
        started = self._clock()
        self._ends_at = started + self._left_s
        try:
            yield
        finally:
            self._left_s -= self._clock() - started

    def check(self) -> None:
        """Raise if the work has to end.

        Raises:
            TooCostlyError: the budget is spent.
            Dropped: by `on_check`.
        """
        self._on_check()
        if self._clock() > self._ends_at:
            raise TooCostlyError

    def iterate(self, items: Iterable[T]) -> Iterator[T]:
        """Return an iterator over the items that checks the budget every `CHECK_EVERY` of them.

        Raises:
            TooCostlyError, Dropped: by `check`.
        """
        if isinstance(items, (list, tuple, array)) and len(items) < CHECK_EVERY:
            return iter(items)
        return self._iterate_checked(items)

    def _iterate_checked(self, items: Iterable[T]) -> Iterator[T]:
        remaining = iter(items)
        while batch := tuple(islice(remaining, CHECK_EVERY)):
            yield from batch
            if len(batch) == CHECK_EVERY:
                self.check()
