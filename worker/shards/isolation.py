"""Who may do what can end the process: many shards in company, or a suspect one alone, by turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from time import monotonic

from worker.protocols import Dropped
from worker.shards.leases import Lease

LOOK_S = 0.25
"""How often who waits at the gate looks whether its lease still holds."""


class Gate:
    """Lets many shards through in company, or one alone.

    Who waits to be alone goes before newcomers. Nobody is alone for much longer than a turn while others wait, and
    then these have the gate for as long as it took: a suspect takes at most half of a worker's time.

    Args:
        turn_s: seconds after which who is alone lets others in.
        clock: monotonic seconds.
    """

    def __init__(self, turn_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._turn_s = turn_s
        self._clock = clock
        self._changed = Condition()
        self._inside = 0
        self._alone = False
        self._alone_since = 0.0
        self._waiting = 0
        self._waiting_alone = 0
        self._company_until = 0.0

    @property
    def open(self) -> bool:
        """True while company would not have to wait."""
        return not self._alone and (not self._waiting_alone or self._clock() < self._company_until)

    @property
    def turn_over(self) -> bool:
        """True once who is alone should let others in."""
        return self._waiting > 0 and self._clock() - self._alone_since >= self._turn_s

    @contextmanager
    def company(self, lease: Lease) -> Iterator[None]:
        """Be inside with others.

        Raises:
            Dropped: the lease ended during the wait.
        """
        with self._changed:
            self._wait_in_company(lease)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def step_aside(self, lease: Lease) -> None:
        """Inside `company`, between two steps of work: let in who waits to be alone, and wait for its end.

        Raises:
            Dropped: the lease ended during the wait.
        """
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()
            try:
                self._wait_in_company(lease)
            finally:
                self._inside += 1  # `company` takes it off

    @contextmanager
    def alone(self, lease: Lease) -> Iterator[None]:
        """Be the only one inside.

        Raises:
            Dropped: the lease ended during the wait.
        """
        with self._changed:
            self._waiting_alone += 1
            try:
                self._wait(self._is_free, lease)
                self._alone, self._alone_since = True, self._clock()
            finally:
                self._waiting_alone -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                now = self._clock()
                self._alone = False
                self._company_until = now + (now - self._alone_since if self._waiting else 0.0)
                self._changed.notify_all()

    def _is_free(self) -> bool:
        return not self._alone and not self._inside and self._clock() >= self._company_until

    def _wait_in_company(self, lease: Lease) -> None:
        self._waiting += 1
        try:
            self._wait(lambda: self.open, lease)
        finally:
            self._waiting -= 1

    def _wait(self, free: Callable[[], bool], lease: Lease) -> None:
        while not free():
            if lease.ended:
                raise Dropped
            rest_s = self._company_until - self._clock()
            self._changed.wait(min(LOOK_S, rest_s) if rest_s > 0 else LOOK_S)
