"""Upkeep's transitions: what brings back what was lost, and closes what is over. As in `calls`, values."""

from __future__ import annotations

from typing import Any

from jobs.ledger import parsing
from jobs.ledger.commands import LEASE_MS
from jobs.ledger.types import Call, Due, Message, Returned

GRACE_MS = 30_000
"""How long a published shard may go unread behind later ones before its message counts as lost."""


def beat(lease_ms: int = LEASE_MS, silent_ms: int = 0, who: str = "") -> Call[Due | None]:
    """Upkeep's tick: holds leases after an outage, and says what is due (100 of each at most).

    None where the latest tick was less than `silent_ms` ago and another's than `who`.
    """

    def parse(reply: list[Any]) -> Due | None:
        return Due(*(tuple(map(parsing.text, part)) for part in reply)) if reply else None

    return Call("beat", (lease_ms, silent_ms, who), parse)


def expire(job: str) -> Call[str]:
    """Close a job past its deadline: expired, already, early or absent."""
    return Call("expire", (job,), parsing.text)


def lease_expired(job: str, shard: int) -> Call[Returned]:
    """Bring back a shard whose worker went silent."""
    return Call("lease_expired", (job, shard), parsing.returned(job))


def defer_over(job: str, shard: int) -> Call[Returned]:
    """Publish again a shard that an older worker gave back as newer."""
    return Call("defer_over", (job, shard), parsing.returned(job))


def look(slug: str) -> Call[tuple[tuple[str, int, str], ...]]:
    """(job, shard, state) of open shards whose time to be looked at has come, 200 at most."""

    def parse(reply: list[bytes]) -> tuple[tuple[str, int, str], ...]:
        flat = list(map(parsing.text, reply))
        return tuple((flat[i], int(flat[i + 1]), flat[i + 2]) for i in range(0, len(flat), 3))

    return Call("look", (slug,), parse)


def queue_seq(queue: str) -> Call[int]:
    """The latest seq given out for a queue."""
    return Call("queue_seq", (queue,), int)


def queue_tick(
    queue: str, seq: int, length: int, grace_ms: int = GRACE_MS
) -> Call[tuple[tuple[Message, ...], tuple[Message, ...]]]:
    """Publish again shards whose message is lost, and those that their tenant's share has room for.

    `seq` was read before the broker's `length`. Return both kinds, to be pushed.
    """

    def parse(reply: list[list[bytes]]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        return parsing.turns(queue, reply[0]), parsing.turns(queue, reply[1])

    return Call("queue_tick", (queue, seq, length, grace_ms), parse)


def unstage(job: str, *, now: bool = False) -> Call[bool]:
    """Drop a lapsed stage (`now`: any) and return its reservation; True if it was there."""
    return Call("unstage", (job, int(now)), bool)


def drop_texts(job: str) -> Call[bool]:
    """Drop the texts of a cancelled job, whose time for a retry is over; True if they were there."""
    return Call("drop_texts", (job,), bool)


def wipe(record: str) -> Call[bool]:
    """Remove more of what was deleted (a record of `Due.wipes`); True if some is left."""
    return Call("wipe", (record,), bool)


def sweep(tenant: str) -> Call[int]:
    """Take off a tenant's stored bytes what lapsed by itself, some records a call; how many bytes were wrong."""
    return Call("sweep", (tenant,), int)


def audit(job: str) -> Call[int]:
    """Recompute an open job's counts and indexes from its shards; return how many facts were mended."""
    return Call("audit", (job,), int)
