"""Tracks the shards that a crash of this process could be blamed on, persisted before each risky step.

A shard is at risk while its texts are cut, in the model, decoded or merged: any of these can end the process. A
shard that was at risk in a crash runs isolated from then on (`worker.shards.isolation`): with nothing else at risk,
the next crash has one possible cause.
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
"""Pause of writing after Redis did not answer."""
REPEAT_S = 60.0
"""Age at which an unchanged list is written again: it expires, and Redis may lose its latest second."""


class ShardsAtRisk:
    """The shards at risk in this process, and the subset that the ledger has recorded.

    A claim puts its shard on the ledger's list, a completion takes it off: most shards need no separate write.

    Args:
        write: records which shards are at risk now and which no longer are; called in the order of the changes. May
            raise LedgerUnavailableError.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        write: Callable[[frozenset[ShardRef], frozenset[ShardRef]], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._write = write
        self._clock = clock
        self._quiet_until = 0.0
        self._written_at = clock()
        self._lock = Lock()
        self._tracked: Counter[ShardRef] = Counter()
        self._at_risk: set[ShardRef] = set()
        self._recorded: set[ShardRef] = set()

    @contextmanager
    def track(self, shard: ShardRef, *, recorded: bool = False) -> Iterator[None]:
        """Track a shard during the block; only tracked shards can be at risk.

        `recorded`: its claim has put it on the ledger's list; it is at risk from the start.
        """
        with self._lock:
            self._tracked[shard] += 1
            if recorded:
                self._at_risk.add(shard)
                self._recorded.add(shard)
        try:
            yield
        finally:
            with self._lock:
                self._tracked -= Counter((shard,))
                if shard not in self._tracked:
                    self._at_risk.discard(shard)

    def add(self, shards: Iterable[ShardRef], *, exact: bool = False) -> None:
        """Record shards before a step that may end the process.

        `exact`: also take shards off the list that are no longer at risk.
        """
        with self._lock:
            self._at_risk.update(self._tracked.keys() & set(shards))
            if exact or not self._at_risk <= self._recorded:
                self._write_changes()

    def set_only(self, shard: ShardRef) -> None:
        """Record this shard as the only one at risk: no other shard's text is being processed."""
        with self._lock:
            self._at_risk = {shard} & self._tracked.keys()
            self._write_changes()

    def discard(self, shard: ShardRef) -> None:
        """Mark a shard as safe for now; the next write takes it off the list."""
        with self._lock:
            self._at_risk.discard(shard)

    def flush(self) -> None:
        """Take the shards off the list that are no longer at risk."""
        with self._lock:
            self._write_changes()

    def forget(self, shard: ShardRef) -> None:
        """Note that a transition of the ledger has taken the shard off the list."""
        with self._lock:
            self._recorded.discard(shard)

    def _write_changes(self) -> None:
        now = self._clock()
        if now < self._quiet_until or (self._at_risk == self._recorded and now < self._written_at + REPEAT_S):
            return
        try:
            self._write(frozenset(self._at_risk), frozenset(self._recorded - self._at_risk))
        except LedgerUnavailableError as error:
            # A record is lost, not work. All of the worker's threads come through here, the model's too: if each
            # waited while Redis is down, the model would stand still until the watchdog took it for hung.
            log.warning("crash_suspects.write_failed", extra={"reason": str(error)})
            self._quiet_until = self._clock() + QUIET_S
        else:
            self._recorded = set(self._at_risk)
            self._written_at = now
