"""Upkeep's transitions: what brings back what was lost, and closes what is over. As in `calls`, values."""

from __future__ import annotations

from typing import Any

from jobs.ledger import parsing
from jobs.ledger.commands import LEASE_MS
from jobs.ledger.types import Call, DueWork, Message, ShardReturn

GRACE_MS = 30_000
"""How long a published shard may go unread behind later ones before its message counts as lost."""


def upkeep_tick(lease_ms: int = LEASE_MS, silent_ms: int = 0, who: str = "") -> Call[DueWork | None]:
    """Upkeep's tick: holds leases after an outage, and says what is due (100 of each at most).

    None where the latest tick was less than `silent_ms` ago and another's than `who`.
    """

    def parse(reply: list[Any]) -> DueWork | None:
        return DueWork(*(tuple(map(parsing.text, part)) for part in reply)) if reply else None

    return Call("upkeep_tick", (lease_ms, silent_ms, who), parse)


def expire_job(job: str) -> Call[str]:
    """Close a job past its deadline: expired, already, early or absent."""
    return Call("expire_job", (job,), parsing.text)


def reclaim_shard(job: str, shard: int) -> Call[ShardReturn]:
    """Bring back a shard whose worker went silent."""
    return Call("reclaim_shard", (job, shard), parsing.returned(job))


def republish_deferred(job: str, shard: int) -> Call[ShardReturn]:
    """Publish again a shard that an older worker gave back as newer."""
    return Call("republish_deferred", (job, shard), parsing.returned(job))


def due_shards(slug: str) -> Call[tuple[tuple[str, int, str], ...]]:
    """(job, shard, state) of open shards whose time to be looked at has come, 200 at most."""

    def parse(reply: list[bytes]) -> tuple[tuple[str, int, str], ...]:
        flat = list(map(parsing.text, reply))
        return tuple((flat[i], int(flat[i + 1]), flat[i + 2]) for i in range(0, len(flat), 3))

    return Call("due_shards", (slug,), parse)


def read_queue_seq(queue: str) -> Call[int]:
    """The latest seq given out for a queue."""
    return Call("read_queue_seq", (queue,), int)


def republish_lost(
    queue: str, seq: int, length: int, grace_ms: int = GRACE_MS
) -> Call[tuple[tuple[Message, ...], tuple[Message, ...]]]:
    """Publish again shards whose message is lost, and those that their tenant's share has room for.

    `seq` was read before the broker's `length`. Return both kinds, to be pushed.
    """

    def parse(reply: list[list[bytes]]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        return parsing.turns(queue, reply[0]), parsing.turns(queue, reply[1])

    return Call("republish_lost", (queue, seq, length, grace_ms), parse)


def drop_stage(job: str, *, now: bool = False) -> Call[bool]:
    """Drop a lapsed stage (`now`: any) and return its reservation; True if it was there."""
    return Call("drop_stage", (job, int(now)), bool)


def drop_texts(job: str) -> Call[bool]:
    """Drop the texts of a cancelled job, whose time for a retry is over; True if they were there."""
    return Call("drop_texts", (job,), bool)


def wipe_record(record: str) -> Call[bool]:
    """Remove more of what was deleted (a record of `DueWork.wipes`); True if some is left."""
    return Call("wipe_record", (record,), bool)


def sweep_tenant(tenant: str) -> Call[int]:
    """Take off a tenant's stored bytes what lapsed by itself, some records a call; how many bytes were wrong."""
    return Call("sweep_tenant", (tenant,), int)


def audit_job(job: str) -> Call[int]:
    """Recompute an open job's counts and indexes from its shards; return how many facts were mended."""
    return Call("audit_job", (job,), int)
