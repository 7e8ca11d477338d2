"""Confirms writes before a response: waits until Redis has them on disk, or on a replica.

One connection sends a write and, after its reply, WAITAOF; the reply of that confirms every write answered before
the first was sent, so one round confirms all requests that arrived in the meantime (group commit). Sent together
they would wait for a tick of Redis, or for a moment without writes (1.5 ms instead of 0.4 at 500 ticks per second,
36 instead of 1.5 next to four busy writers). A replica is waited for with WAIT: it reports at once that it has a
write, but only once per second that its disk has it (measured: 1 ms and 1 s). Source: the commands' pages. With
`appendfsync everysec`, Valkey 9.1 replies to WAITAOF after writing the file, before fsync (redis/redis#13793 is
the same defect); with `always` the reply is correct.

Writes and their confirmation are on different connections, which may lead to different servers: the one that had
the writes may have ended, or have been replaced, in between. So the one that confirms must have what was created.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from jobs.ledger import BARRIER_KEY, LedgerUnavailableError, record_key
from jobs.redis.group_commit import RequestGrouper
from jobs.settings import Durability

log = logging.getLogger(__name__)

WAIT_MS = 1500
"""Less than the two seconds after which a client gets a 503."""
_NOT_CONFIRMED = ("appendonly", "unknown command")
"""Redis has no append-only file, or is older than 7.2 and cannot report when it is on disk."""
_COPIES: dict[Durability, tuple[int, int]] = {"process": (0, 0), "disk": (1, 0), "replica": (1, 1)}
"""Local disks, and replicas, that must have a write."""


class Barrier:
    """Confirms writes to the ledger.

    Args:
        client: of the ledger's Redis, not shared. Its retries are switched off: after a fail-over a retry would ask
            a server that never had the writes.
        durability: `process`: nothing is confirmed; `disk`: the append-only file is fsynced; `replica`: and one
            replica has the writes.
    """

    def __init__(self, client: redis.asyncio.Redis, durability: Durability) -> None:
        client.set_retry(Retry(NoBackoff(), 0))
        self._client = client
        self._copies = _COPIES[durability]
        self._grouped: RequestGrouper[str, None] = RequestGrouper(self._confirm_group, in_turn=True)
        self.append_only = True
        """False if Redis has no append-only file to wait for: a 202 then survives the end of processes only."""

    async def stop(self) -> None:
        """Stop; calls that still wait raise an error."""
        await self._grouped.stop()

    async def confirm_writes(self, created: str = "") -> None:
        """Return when all writes before this call are stored as the setting requires.

        Args:
            created: id of a job or webhook endpoint that was written; without one a server that has taken over
                since the write may confirm it.

        Raises:
            LedgerUnavailableError: they may or may not be stored; the response is 503.
        """
        if self._copies == (0, 0):
            return
        await self._grouped.submit(created)

    async def _confirm_group(self, group: Sequence[str]) -> Sequence[LedgerUnavailableError | None]:
        keys = [record_key(created) for created in group if created]
        try:
            missing = await self._wait_for_writes(keys)
        except asyncio.CancelledError:
            raise LedgerUnavailableError("barrier: stopping") from None
        lost = LedgerUnavailableError("barrier: the server that had the writes was replaced")
        return [lost if created and record_key(created) in missing else None for created in group]

    async def _wait_for_writes(self, keys: Sequence[str]) -> frozenset[str]:
        """Wait; return those of the keys that the server does not have."""
        pool = self._client.connection_pool
        try:
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's gap
            try:
                await self._confirm_on(connection)
                return await _find_missing(connection, keys)
            finally:
                await pool.release(connection)
        except (RedisError, OSError) as error:
            raise LedgerUnavailableError(f"barrier: {type(error).__name__}") from error

    async def _confirm_on(self, connection: AbstractConnection) -> None:
        """Write and wait on one connection: another one might lead to another server."""
        disks, replicas = self._copies
        replica_ms = WAIT_MS // 2 if replicas else 0
        await _run_command(connection, "SET", BARRIER_KEY, 1)
        if replicas and await _run_command(connection, "WAIT", replicas, replica_ms) < replicas:
            raise LedgerUnavailableError("barrier: no replica had the writes in time")
        try:
            synced, _ = await _run_command(connection, "WAITAOF", disks, 0, WAIT_MS - replica_ms)
        except ResponseError as error:
            if not any(reason in str(error) for reason in _NOT_CONFIRMED):
                raise
            if self.append_only:
                log.warning("durability.append_only_off")
            self.append_only = False
            return
        self.append_only = True
        if synced < disks:
            raise LedgerUnavailableError("barrier: the writes were not on disk in time")


async def _find_missing(connection: AbstractConnection, keys: Sequence[str]) -> frozenset[str]:
    if not keys or await _run_command(connection, "EXISTS", *keys) == len(keys):
        return frozenset()
    return frozenset([key for key in keys if not await _run_command(connection, "EXISTS", key)])


async def _run_command(connection: AbstractConnection, *command: str | int) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()
