"""The queue as the ledger knows it at one moment: what metrics and `gleaner top` show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from jobs import naming
from jobs.ledger.parsing import text
from jobs.ledger.types import Call
from jobs.schema import Priority


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is open of one model.

    Attributes:
        drain_rate: characters a second that its workers finish; 0 if never measured.
        oldest_s: age of its oldest open job, 0 if none is open.
        trouble: its workers cannot start.
        published: shards that a message in a queue, or on its way to a claim, stands for.
    """

    model: str
    shards: int
    characters: int
    jobs: int
    drain_rate: float
    oldest_s: float
    workers: int
    trouble: bool
    published: int

    @property
    def seconds(self) -> float:
        """How long the backlog takes at the measured rate; the oldest job's age where none was measured."""
        if not self.shards:
            return 0.0
        return self.characters / self.drain_rate if self.drain_rate > 0 else self.oldest_s


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """Every model's backlog, and the server's own health.

    Attributes:
        memory_max: bytes the server may use; 0 is no limit.
        upkeep_silent_s: since the latest tick of upkeep; None before the first.
        durable: it keeps an append-only file, and the last write and rewrite of it went well.
        stored: (tenant, bytes that it keeps in the store) of the 20 that keep most, the most first.
    """

    now: int
    memory_used: int
    memory_max: int
    append_only: bool
    durable: bool
    upkeep_silent_s: float | None
    models: tuple[Backlog, ...]
    stored: tuple[tuple[str, int], ...] = ()


def read_stats(models: Sequence[str]) -> Call[LedgerStats]:
    """Read it in one call, at a cost that does not grow with the queue."""

    def parse(reply: list[Any]) -> LedgerStats:
        now, used, most, append_only, write, rewrite, beat = reply[:7]
        good = bool(append_only) and text(write) == "ok" and text(rewrite) == "ok"
        stored = tuple((text(tenant), int(size)) for tenant, size in reply[7])
        rows = zip(models, reply[8:], strict=True)
        backlogs = tuple(_backlog(name, row, now) for name, row in rows)
        silent = (now - beat) / 1000 if beat else None
        return LedgerStats(now, used, most, bool(append_only), good, silent, backlogs, stored)

    args = (
        (naming.model_slug(name), *(naming.queue_name(name, priority) for priority in Priority)) for name in models
    )
    return Call("read_stats", tuple(chain.from_iterable(args)), parse)


def _backlog(name: str, row: list[Any], now: int) -> Backlog:
    shards, characters, jobs, rate, oldest, workers, trouble, published = row
    age = max(0.0, (now - float(oldest)) / 1000) if float(oldest) else 0.0
    return Backlog(name, shards, characters, jobs, float(rate), age, workers, bool(trouble), published)
