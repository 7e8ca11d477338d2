"""What an answer promises: waits until the server has what was written on disk, or on a replica.

One connection sends a write and WAITAOF behind it; its return confirms every write answered before it was sent, so
one round trip serves all requests that came meanwhile (group commit). A replica is waited for with WAIT: it tells
at once that it has a write, and only once a second that its disk has it (measured: 1 ms and 1 s). Source: the
commands' pages. With `appendfsync everysec`, Valkey 9.1 answers WAITAOF once the file is written, before its fsync
(redis/redis#13793 is the same defect); with `always` the answer is true.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.tasks import end
from jobs.ledger import BARRIER_KEY, LedgerUnavailableError
from jobs.settings import Durability

log = logging.getLogger(__name__)

WAIT_MS = 1500
"""Below the two seconds after which a client has its 503."""
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
        await end(self._task)
        self._settle(self._take(), LedgerUnavailableError("barrier: stopping"))

    async def confirm(self) -> None:
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
            except LedgerUnavailableError as error:
                self._settle(group + self._take(), error)  # written to the same server as the group's
            except asyncio.CancelledError:
                self._settle(group, LedgerUnavailableError("barrier: stopping"))
                raise
            else:
                self._settle(group, None)

    async def _wait(self) -> None:
        disks, replicas = self._copies
        replica_ms = WAIT_MS // 2 if replicas else 0
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(BARRIER_KEY, 1)
        pipeline.execute_command("WAIT", replicas, replica_ms)
        pipeline.execute_command("WAITAOF", disks, 0, WAIT_MS - replica_ms)
        try:
            written, reached, synced = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise LedgerUnavailableError(f"barrier: {type(error).__name__}") from error
        for answer in (written, reached):
            if isinstance(answer, Exception):
                raise LedgerUnavailableError(f"barrier: {type(answer).__name__}") from answer
        if reached < replicas:
            raise LedgerUnavailableError("barrier: no replica had it in time")
        if self._keeps_file(synced) and synced[0] < disks:
            raise LedgerUnavailableError("barrier: not on disk in time")

    def _keeps_file(self, synced: Any) -> bool:
        """By the answer to WAITAOF; a server that keeps none is told once in the log.

        Raises:
            LedgerUnavailableError: the answer is another error.
        """
        refused = isinstance(synced, Exception)
        if refused and not any(reason in str(synced) for reason in _NOT_CONFIRMED):
            raise LedgerUnavailableError(f"barrier: {type(synced).__name__}") from synced
        if refused and self.append_only:
            log.warning("durability.append_only_off")
        self.append_only = not refused
        return self.append_only

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
