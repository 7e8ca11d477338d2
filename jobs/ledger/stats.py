"""Statistics of the ledger at one moment, for metrics and `gleaner top`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from jobs import naming
from jobs.ledger.parsing import to_text
from jobs.ledger.types import Call
from jobs.schema import Priority


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Open work and workers of one model.

    Attributes:
        drain_rate: characters per second that its workers finish; 0 if never measured.
        oldest_s: age of its oldest open job; 0 if none is open.
        trouble: its workers cannot start.
        published: shards with a message in a queue or on its way to a claim.
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
    def backlog_s(self) -> float:
        """Duration of the backlog at the measured rate; the oldest job's age if no rate was measured."""
        if not self.shards:
            return 0.0
        return self.characters / self.drain_rate if self.drain_rate > 0 else self.oldest_s


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """Statistics of every model, and the health of Redis.

    Attributes:
        memory_max: bytes that Redis may use; 0 is no limit.
        append_only: the append-only file is on.
        durable: the append-only file is on, and its last write and rewrite succeeded.
        upkeep_silent_s: seconds since the latest upkeep tick; None before the first.
        stored: (tenant, stored bytes) of the 20 tenants that store most, largest first.
    """

    now: int
    memory_used: int
    memory_max: int
    append_only: bool
    durable: bool
    upkeep_silent_s: float | None
    models: tuple[ModelStats, ...]
    stored: tuple[tuple[str, int], ...] = ()


def read_stats(models: Sequence[str]) -> Call[LedgerStats]:
    """Read the statistics in one call, at a cost that does not grow with the queue."""

    def parse(reply: list[Any]) -> LedgerStats:
        now, used, limit, append_only, write, rewrite, tick = reply[:7]
        durable = bool(append_only) and to_text(write) == "ok" and to_text(rewrite) == "ok"
        stored = tuple((to_text(tenant), int(size)) for tenant, size in reply[7])
        rows = zip(models, reply[8:], strict=True)
        per_model = tuple(_parse_model(name, row, now) for name, row in rows)
        silent_s = (now - tick) / 1000 if tick else None
        return LedgerStats(now, used, limit, bool(append_only), durable, silent_s, per_model, stored)

    args = (
        (naming.model_slug(name), *(naming.queue_name(name, priority) for priority in Priority)) for name in models
    )
    return Call("read_stats", tuple(chain.from_iterable(args)), parse)


def _parse_model(name: str, row: list[Any], now: int) -> ModelStats:
    shards, characters, jobs, rate, oldest, workers, trouble, published = row
    age = max(0.0, (now - float(oldest)) / 1000) if float(oldest) else 0.0
    return ModelStats(name, shards, characters, jobs, float(rate), age, workers, bool(trouble), published)
