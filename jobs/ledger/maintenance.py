"""Upkeep's transitions: recover lost work and close finished work. Values, as in `commands`."""

from __future__ import annotations

from typing import Any

from jobs.ledger import parsing
from jobs.ledger.outcomes import ExpireOutcome
from jobs.ledger.types import LEASE_MS, Call, DueWork, Message, ShardReturn

GRACE_MS = 30_000
"""Time after which the message of a published shard counts as lost, if later messages were read before it."""


def upkeep_tick(lease_ms: int = LEASE_MS, silent_ms: int = 0, ticker: str = "") -> Call[DueWork | None]:
    """Start a tick: suspend lease expiry after an outage, and return the work that is due, 100 of each at most.

    None if a process other than `ticker` ticked less than `silent_ms` ago.
    """

    def parse(reply: list[Any]) -> DueWork | None:
        return DueWork(*(tuple(map(parsing.to_text, part)) for part in reply)) if reply else None

    return Call("upkeep_tick", (lease_ms, silent_ms, ticker), parse)


def expire_job(job: str) -> Call[ExpireOutcome]:
    """Close a job past its deadline."""
    return Call("expire_job", (job,), parsing.enum_parser(ExpireOutcome))


def reclaim_shard(job: str, shard: int) -> Call[ShardReturn]:
    """Return a shard whose lease has expired to its queue."""
    return Call("reclaim_shard", (job, shard), parsing.shard_return_parser(job))


def republish_deferred(job: str, shard: int) -> Call[ShardReturn]:
    """Republish a shard that a worker too old for it has returned."""
    return Call("republish_deferred", (job, shard), parsing.shard_return_parser(job))


def due_shards(slug: str) -> Call[tuple[tuple[str, int, str], ...]]:
    """Return (job, shard, state) of open shards that are due for a check, 200 at most."""

    def parse(reply: list[bytes]) -> tuple[tuple[str, int, str], ...]:
        flat = list(map(parsing.to_text, reply))
        return tuple((flat[i], int(flat[i + 1]), flat[i + 2]) for i in range(0, len(flat), 3))

    return Call("due_shards", (slug,), parse)


def read_queue_seq(queue: str) -> Call[int]:
    """Return the latest sequence number of a queue."""
    return Call("read_queue_seq", (queue,), int)


def republish_lost(
    queue: str, seq: int, length: int, grace_ms: int = GRACE_MS
) -> Call[tuple[tuple[Message, ...], tuple[Message, ...]]]:
    """Republish shards whose message is lost, and publish shards that fit into their tenant's share.

    `seq` must be read before the broker's `length`. Returns the messages of both kinds, to be pushed.
    """

    def parse(reply: list[list[bytes]]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        return parsing.parse_messages(queue, reply[0]), parsing.parse_messages(queue, reply[1])

    return Call("republish_lost", (queue, seq, length, grace_ms), parse)


def drop_stage(job: str, *, now: bool = False) -> Call[bool]:
    """Remove an expired stage (`now`: any stage) and release its memory reservation; True if it existed."""
    return Call("drop_stage", (job, int(now)), bool)


def drop_texts(job: str) -> Call[bool]:
    """Remove the texts of a cancelled job that can no longer be retried; True if they existed."""
    return Call("drop_texts", (job,), bool)


def wipe_record(record: str) -> Call[bool]:
    """Remove more of a deleted record (of `DueWork.wipes`); True if some of it is left."""
    return Call("wipe_record", (record,), bool)


def sweep_tenant(tenant: str) -> Call[int]:
    """Subtract expired records from a tenant's stored bytes, some records per call; return the bytes corrected."""
    return Call("sweep_tenant", (tenant,), int)


def audit_job(job: str) -> Call[int]:
    """Recompute an open job's counts and indexes from its shards; return the number of repaired values."""
    return Call("audit_job", (job,), int)
