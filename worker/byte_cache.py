"""A cache with a limit of bytes, for values that differ much in size. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ByteCache(Generic[T]):
    """Values by key up to a number of bytes; the least recently used go first. Safe to call from many threads.

    Args:
        limit: most bytes of all values.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._values: OrderedDict[Any, tuple[T, int]] = OrderedDict()
        self._lock = Lock()

    def find(self, keys: Iterable[Any]) -> dict[Any, T]:
        """Return the values of those keys that are there."""
        present: dict[Any, T] = {}
        with self._lock:
            for key in keys:
                if key in self._values:
                    self._values.move_to_end(key)
                    present[key] = self._values[key][0]
        return present

    def add(self, key: Any, value: T, size: int) -> None:
        """Store a value of `size` bytes."""
        with self._lock:
            if key not in self._values:
                self._values[key] = (value, size)
                self._bytes += size
            while self._bytes > self._limit and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()
            self._bytes = 0
