"""Lets either many shards or one crash suspect do the work that can end the process, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from time import monotonic

from worker.protocols import Dropped
from worker.shards.leases import Lease

LEASE_CHECK_S = 0.25
"""Interval at which a waiting thread checks that its lease still holds."""


class Gate:
    """A lock that many shards share, or one isolated shard holds.

    Isolated waiters go before newcomers. An isolated holder keeps the gate for little longer than a turn while
    shards wait, which then have it for as long: a suspect takes at most half of a worker's time.

    Args:
        turn_s: seconds after which an isolated holder should let others in.
        clock: monotonic seconds.
    """

    def __init__(self, turn_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._turn_s = turn_s
        self._clock = clock
        self._changed = Condition()
        self._sharing = 0
        self._isolated = False
        self._isolated_since = 0.0
        self._waiting_shared = 0
        self._waiting_isolated = 0
        self._shared_until = 0.0

    @property
    def is_open(self) -> bool:
        """True while `shared` would not have to wait."""
        return not self._isolated and (not self._waiting_isolated or self._clock() < self._shared_until)

    @property
    def is_turn_over(self) -> bool:
        """True once the isolated holder should let others in."""
        return self._waiting_shared > 0 and self._clock() - self._isolated_since >= self._turn_s

    @contextmanager
    def shared(self, lease: Lease) -> Iterator[None]:
        """Hold the gate together with others.

        Raises:
            Dropped: the lease ended during the wait.
        """
        with self._changed:
            self._wait_shared(lease)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    def yield_turn(self, lease: Lease) -> None:
        """Inside `shared`, between two steps of work: let an isolated waiter in, and wait until it has left.

        Raises:
            Dropped: the lease ended during the wait.
        """
        with self._changed:
            self._sharing -= 1
            self._changed.notify_all()
            try:
                self._wait_shared(lease)
            finally:
                self._sharing += 1  # `shared` takes it off

    @contextmanager
    def isolated(self, lease: Lease) -> Iterator[None]:
        """Hold the gate with no other holder.

        Raises:
            Dropped: the lease ended during the wait.
        """
        with self._changed:
            self._waiting_isolated += 1
            try:
                self._wait_until(self._is_free, lease)
                self._isolated, self._isolated_since = True, self._clock()
            finally:
                self._waiting_isolated -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                now = self._clock()
                self._isolated = False
                self._shared_until = now + (now - self._isolated_since if self._waiting_shared else 0.0)
                self._changed.notify_all()

    def _is_free(self) -> bool:
        return not self._isolated and not self._sharing and self._clock() >= self._shared_until

    def _wait_shared(self, lease: Lease) -> None:
        self._waiting_shared += 1
        try:
            self._wait_until(lambda: self.is_open, lease)
        finally:
            self._waiting_shared -= 1

    def _wait_until(self, is_free: Callable[[], bool], lease: Lease) -> None:
        while not is_free():
            if lease.end_reason:
                raise Dropped
            remaining_s = self._shared_until - self._clock()
            self._changed.wait(min(LEASE_CHECK_S, remaining_s) if remaining_s > 0 else LEASE_CHECK_S)
