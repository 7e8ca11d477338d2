"""What this process would be blamed for if it died now, written down before it can happen.

A shard is at risk while its texts are cut, in the model, decoded or merged: any of these can end the process. A
shard that was at risk in a death runs alone from then on, behind `worker.shards.isolation`: with nothing else at
risk, the next death has one possible cause.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic

from jobs.ledger import LedgerUnavailableError
from worker.protocols import ShardRef

log = logging.getLogger(__name__)

QUIET_S = 2.0
"""How long nothing is written down after the store did not answer."""
REPEAT_S = 60.0
"""What is at risk for so long is written down again: the list lapses, and a store may lose its latest second."""


class Blame:
    """The shards at risk in this process, and what the store knows of them.

    A claim puts its shard on the store's list, a completion takes it off: most shards need no word of their own.

    Args:
        tell: writes down which shards are at risk and which are so no more; called in the order of the changes. May
            raise LedgerUnavailableError.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        tell: Callable[[frozenset[ShardRef], frozenset[ShardRef]], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._quiet_until = 0.0
        self._told_at = clock()
        self._lock = Lock()
        self._held: Counter[ShardRef] = Counter()
        self._at_risk: set[ShardRef] = set()
        self._told: set[ShardRef] = set()

    @contextmanager
    def hold(self, shard: ShardRef, *, told: bool = False) -> Iterator[None]:
        """For the length of the block the shard is this process's; only such can be at risk.

        `told`: its claim has written it down; it is at risk from now on.
        """
        with self._lock:
            self._held[shard] += 1
            if told:
                self._at_risk.add(shard)
                self._told.add(shard)
        try:
            yield
        finally:
            with self._lock:
                self._held -= Counter((shard,))
                if shard not in self._held:
                    self._at_risk.discard(shard)

    def enter(self, shards: Iterable[ShardRef], *, exactly: bool = False) -> None:
        """Something that may end the process is about to be done with these.

        `exactly`: nobody else's name may be on the list then.
        """
        with self._lock:
            self._at_risk.update(self._held.keys() & set(shards))
            if exactly or not self._at_risk <= self._told:
                self._write()

    def only(self, shard: ShardRef) -> None:
        """This one alone is about to be in danger; nobody else's text is touched."""
        with self._lock:
            self._at_risk = {shard} & self._held.keys()
            self._write()

    def leave(self, shard: ShardRef) -> None:
        """No text of it is touched for now; the next that is written down says so."""
        with self._lock:
            self._at_risk.discard(shard)

    def tidy(self) -> None:
        """Write down who left."""
        with self._lock:
            self._write()

    def forget(self, shard: ShardRef) -> None:
        """The store has taken it off the list itself."""
        with self._lock:
            self._told.discard(shard)

    def _write(self) -> None:
        now = self._clock()
        if now < self._quiet_until or (self._at_risk == self._told and now < self._told_at + REPEAT_S):
            return
        try:
            self._tell(frozenset(self._at_risk), frozenset(self._told - self._at_risk))
        except LedgerUnavailableError as error:
            # Blame is lost, not work. All of the worker's threads come through here, the model's too: were each to
            # wait for a store that is down, the model would stand still until the watchdog took it for hung.
            log.warning("blame.untold", extra={"reason": str(error)})
            self._quiet_until = self._clock() + QUIET_S
        else:
            self._told = set(self._at_risk)
            self._told_at = now
