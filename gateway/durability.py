"""What an answer promises: waits until the server has what was written on disk, or on a replica.

One connection sends a write and WAITAOF behind it; its return confirms every write answered before it was sent, so
one round trip serves all requests that came meanwhile (group commit). Source: the WAITAOF command's page.
"""

from __future__ import annotations

import asyncio
import logging

import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from gateway.tasks import end
from jobs.ledger import BARRIER_KEY, LedgerUnavailableError
from jobs.settings import Durability

log = logging.getLogger(__name__)

WAIT_MS = 1500
"""Below the two seconds after which a client has its 503."""
_NOT_CONFIRMED = ("appendonly", "unknown command")
"""The server keeps no append-only file, or is older than Redis 7.2 and cannot say when it is on disk."""
_COPIES: dict[Durability, tuple[int, int]] = {"process": (0, 0), "disk": (1, 0), "replica": (1, 1)}


class Barrier:
    """Confirms writes.

    Args:
        client: of the ledger's server, of one connection, used for nothing else.
        durability: `process`: nothing is confirmed; `disk`: the server's own append-only file is fsynced;
            `replica`: one replica's, too.
    """

    def __init__(self, client: redis.asyncio.Redis, durability: Durability) -> None:
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
                self._settle(group, error)
            except asyncio.CancelledError:
                self._settle(group, LedgerUnavailableError("barrier: stopping"))
                raise
            else:
                self._settle(group, None)

    async def _wait(self) -> None:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(BARRIER_KEY, 1)
        pipeline.execute_command("WAITAOF", *self._copies, WAIT_MS)
        try:
            _, copies = await pipeline.execute()
        except ResponseError as error:
            if not any(reason in str(error) for reason in _NOT_CONFIRMED):
                raise LedgerUnavailableError(f"barrier: {type(error).__name__}") from error
            if self.append_only:
                log.warning("durability.append_only_off")
            self.append_only = False
            return
        except (RedisError, OSError) as error:
            raise LedgerUnavailableError(f"barrier: {type(error).__name__}") from error
        if copies[0] < self._copies[0] or copies[1] < self._copies[1]:
            raise LedgerUnavailableError("barrier: not on disk in time")
        self.append_only = True

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
