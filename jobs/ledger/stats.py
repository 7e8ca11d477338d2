"""Statistics of the ledger at one moment: the state of each model and its queues, and of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import orjson

from jobs import naming
from jobs.ledger.parsing import to_text
from jobs.ledger.types import Call, ModelFacts
from jobs.schema import Priority
from jobs.tasks import Task


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue of a model: open jobs, jobs that have not begun, and shards published but not claimed."""

    priority: Priority
    open_jobs: int
    queued_jobs: int
    published_shards: int


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Workers and open work of one model.

    Attributes:
        slots: shards that one worker holds at once, as its workers announce.
        drain_rate: characters per second that its workers finish; 0 if never measured.
        oldest_s: age of its oldest open job; None if none is open.
        reason: why its workers cannot start; None if they can.
        facts: announced for its current revision; None if none were.
        queues: one per priority; empty in the answer of `read_models`.
    """

    name: str
    workers: int
    slots: int
    revision: str | None
    reason: str | None
    open_jobs: int
    open_shards: int
    open_characters: int
    drain_rate: float
    oldest_s: float | None
    facts: ModelFacts | None
    queues: tuple[QueueStats, ...]

    @property
    def published_shards(self) -> int:
        """Number of shards with a message in a queue or on its way to a claim."""
        return sum(queue.published_shards for queue in self.queues)

    @property
    def backlog_s(self) -> float:
        """Duration of the backlog at the measured rate; the oldest job's age if no rate was measured."""
        if not self.open_shards:
            return 0.0
        return self.open_characters / self.drain_rate if self.drain_rate > 0 else self.oldest_s or 0.0


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """Statistics of every model, and the health of Redis.

    Attributes:
        memory_max: bytes that Redis may use; 0 is no limit.
        append_only: the append-only file is on.
        durable: the append-only file is on, and its last write and rewrite succeeded.
        replicas: servers that are connected as replicas.
        upkeep_silent_s: seconds since the latest upkeep tick; None before the first.
        stored: (tenant, stored bytes) of the 20 tenants that store most, largest first.
    """

    models: tuple[ModelStats, ...]
    memory_used: int
    memory_max: int
    append_only: bool
    durable: bool
    replicas: int
    upkeep_silent_s: float | None
    stored: tuple[tuple[str, int], ...]


def read_stats(models: Sequence[str]) -> Call[LedgerStats]:
    """Read all statistics in one call, at a cost that does not grow with the queue."""

    def parse(reply: list[Any]) -> LedgerStats:
        now, (used, limit, append_only, write, rewrite, replicas, tick, stored) = reply[:2]
        return LedgerStats(
            models=_parse_models(models, reply),
            memory_used=used,
            memory_max=limit,
            append_only=bool(append_only),
            durable=bool(append_only) and to_text(write) == "ok" and to_text(rewrite) == "ok",
            replicas=replicas,
            upkeep_silent_s=(now - tick) / 1000 if tick else None,
            stored=tuple((to_text(tenant), int(size)) for tenant, size in stored),
        )

    names = [(naming.model_slug(model), *(naming.queue_name(model, p) for p in Priority)) for model in models]
    return Call("read_stats", ("all", *chain.from_iterable(names)), parse)


def read_models(models: Sequence[str]) -> Call[tuple[ModelStats, ...]]:
    """Read the statistics of models alone, without their queues: a sixth of the cost of `read_stats`."""
    return Call(
        "read_stats", ("models", *map(naming.model_slug, models)), lambda reply: _parse_models(models, reply)
    )


def _parse_models(models: Sequence[str], reply: list[Any]) -> tuple[ModelStats, ...]:
    rows = zip(models, reply[2:], strict=True)
    return tuple(_parse_model(name, row, now=reply[0]) for name, row in rows)


def _parse_model(name: str, row: list[Any], now: int) -> ModelStats:
    workers, oldest, shards, (jobs, characters, slots, rate, revision, reason, facts), *queues = row
    return ModelStats(
        name=name,
        workers=workers,
        slots=int(slots or 0),
        revision=to_text(revision) or None,
        reason=to_text(reason) or None,
        open_jobs=int(jobs or 0),
        open_shards=shards,
        open_characters=int(characters or 0),
        drain_rate=float(rate or 0),
        oldest_s=max(0.0, (now - float(oldest)) / 1000) if oldest else None,
        facts=_parse_facts(facts, revision),
        queues=tuple(QueueStats(priority, *queue) for priority, queue in zip(Priority, queues, strict=False)),
    )


def _parse_facts(stored: bytes, revision: bytes) -> ModelFacts | None:
    """Return a model's capabilities, if they were announced for its current revision."""
    content = orjson.loads(stored) if stored else {}
    if content.pop("revision", None) != to_text(revision):
        return None
    values = {field.name: content[field.name] for field in fields(ModelFacts) if field.name in content}
    if "tasks" in values:
        values["tasks"] = tuple(Task(task) for task in values["tasks"] if task in set(Task))
    return ModelFacts(**values)
