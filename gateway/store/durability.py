"""What an answer promises: waits until the server has what was written on disk, or on a replica.

One connection sends a write and, once that is answered, WAITAOF; its return confirms every write answered before
the first was sent, so one turn serves all requests that came meanwhile (group commit). Sent together they would
wait for a tick of the server, or for a moment in which nobody writes (1.5 ms instead of 0.4 at 500 ticks a second,
36 instead of 1.5 beside four busy writers). A replica is waited for with WAIT: it tells at once that it has a
write, and only once a second that its disk has it (measured: 1 ms and 1 s). Source: the commands' pages. With
`appendfsync everysec`, Valkey 9.1 answers WAITAOF once the file is written, before its fsync (redis/redis#13793 is
the same defect); with `always` the answer is true.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.http.tasks import cancel_task
from jobs.ledger import BARRIER_KEY, LedgerUnavailableError
from jobs.settings import Durability

log = logging.getLogger(__name__)

WAIT_MS = 1500
"""Below the two seconds after which a client has its 503."""
MAX_ANSWERS_PER_TURN = 16
"""Answers sent in one turn of the event loop: were it all, everybody's next request would come at the same moment,
and gateway and store would work in turn, each idle while the other works."""
_NOT_CONFIRMED = ("appendonly", "unknown command")
"""The server keeps no append-only file, or is older than Redis 7.2 and cannot say when it is on disk."""
_COPIES: dict[Durability, tuple[int, int]] = {"process": (0, 0), "disk": (1, 0), "replica": (1, 1)}
"""Disks of the server, and replicas, that must have a write."""


class Barrier:
    """Confirms writes.

    Args:
        client: of the ledger's server, of one connection, used for nothing else. Its own retries are switched off:
            after a fail-over a second try would ask a server that never had what was written.
        durability: `process`: nothing is confirmed; `disk`: the server's own append-only file is fsynced;
            `replica`: one replica has it, too.
    """

    def __init__(self, client: redis.asyncio.Redis, durability: Durability) -> None:
        client.set_retry(Retry(NoBackoff(), 0))
        self._client = client
        self._copies = _COPIES[durability]
        self._waiting: list[asyncio.Future[None]] = []
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.append_only = True
        """False once the server had no append-only file to wait for: a 202 then outlives processes only."""

    def start(self) -> None:
        """Begin to confirm."""
        self._task = asyncio.create_task(self._loop(), name="barrier")

    async def stop(self) -> None:
        """Stop; whoever still waits gets an error."""
        await cancel_task(self._task)
        self._settle(self._take(), LedgerUnavailableError("barrier: stopping"))

    async def confirm_writes(self) -> None:
        """Return once everything written before this call is where the setting says.

        Raises:
            LedgerUnavailableError: it may be or may not; the caller's answer is 503.
        """
        if self._copies == (0, 0):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wanted.set()
        await future

    async def _loop(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            group = self._take()
            try:
                await self._wait()
                for first in range(0, len(group), MAX_ANSWERS_PER_TURN):
                    self._settle(group[first : first + MAX_ANSWERS_PER_TURN], None)
                    await asyncio.sleep(0)
            except LedgerUnavailableError as error:
                self._settle(group + self._take(), error)  # written to the same server as the group's
            except asyncio.CancelledError:
                self._settle(group, LedgerUnavailableError("barrier: stopping"))
                raise

    async def _wait(self) -> None:
        pool = self._client.connection_pool
        try:
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's gap
            try:
                await self._written(connection)
            finally:
                await pool.release(connection)
        except (RedisError, OSError) as error:
            raise LedgerUnavailableError(f"barrier: {type(error).__name__}") from error

    async def _written(self, connection: AbstractConnection) -> None:
        """Write and wait on one connection: by another, another server might answer."""
        disks, replicas = self._copies
        replica_ms = WAIT_MS // 2 if replicas else 0
        await _asked(connection, "SET", BARRIER_KEY, 1)
        if replicas and await _asked(connection, "WAIT", replicas, replica_ms) < replicas:
            raise LedgerUnavailableError("barrier: no replica had it in time")
        try:
            synced, _ = await _asked(connection, "WAITAOF", disks, 0, WAIT_MS - replica_ms)
        except ResponseError as error:
            if not any(reason in str(error) for reason in _NOT_CONFIRMED):
                raise
            if self.append_only:
                log.warning("durability.append_only_off")
            self.append_only = False
            return
        self.append_only = True
        if synced < disks:
            raise LedgerUnavailableError("barrier: not on disk in time")

    def _take(self) -> list[asyncio.Future[None]]:
        group, self._waiting = self._waiting, []
        return group

    @staticmethod
    def _settle(group: list[asyncio.Future[None]], error: Exception | None) -> None:
        for future in group:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


async def _asked(connection: AbstractConnection, *command: str | int) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()
