"""Runs the ledger's calls against a server: `Ledger` for threads, `AsyncLedger` for the event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError, ResponseError

from jobs.ledger import lua
from jobs.ledger.types import Call
from jobs.redis.pipelining import RequestGrouper

T = TypeVar("T")
PREFIX = "{gleaner}:"
_LARGE_BYTES = 64 * 1024
"""A call with so much to send goes alone: others would wait for it."""
BARRIER_KEY = f"{PREFIX}barrier"
"""What a durability barrier writes before it waits for the disk."""


class LedgerUnavailableError(Exception):
    """The store cannot be reached, did not answer in time, or refuses to write (full, read-only, loading)."""


def job_channel(job: str) -> str:
    """Where changes of a job are announced. A hint only: whoever listens reads the job again."""
    return f"{PREFIX}ch:{job}"


class Ledger:
    """The ledger for threads.

    Args:
        client: a redis-py client of the ledger's database that returns bytes.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def run(self, call: Call[T]) -> T:
        """Take one transition.

        Raises:
            LedgerUnavailableError: it is not known whether the transition happened; repeating it is safe.
        """
        script = lua.load(call.script)
        try:
            try:
                reply = self._client.evalsha(script.sha, 1, PREFIX, *call.args)
            except NoScriptError:
                reply = self._client.eval(script.source, 1, PREFIX, *call.args)
        except (RedisError, OSError) as error:
            raise _unavailable(error, call) from error
        return call.parse(reply)


class AsyncLedger:
    """The ledger for the event loop; calls that are made at the same moment share round trips.

    Args:
        client: an asynchronous redis-py client of the ledger's database that returns bytes.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._grouped: RequestGrouper[Call[Any], Any] = RequestGrouper(self._round_trip)

    async def run(self, call: Call[T]) -> T:
        """Take one transition.

        Raises:
            LedgerUnavailableError: it is not known whether the transition happened; repeating it is safe.
        """
        large = sum(len(arg) for arg in call.args if isinstance(arg, bytes)) > _LARGE_BYTES
        try:
            reply = await (self._alone(call) if large else self._grouped.submit(call))
        except (RedisError, OSError) as error:
            raise _unavailable(error, call) from error
        return call.parse(reply)

    async def _round_trip(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """An answer or the server's error for each; the one place that every call passes."""
        replies = await self._together(calls)
        for i, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, NoScriptError):
                source = lua.load(call.script).source
                replies[i] = await _told(self._client.eval(source, 1, PREFIX, *call.args))
        return replies

    async def _alone(self, call: Call[Any]) -> Any:
        [reply] = await self._round_trip([call])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _together(self, calls: Sequence[Call[Any]]) -> list[Any]:
        if len(calls) == 1:
            [call] = calls
            return [await _told(self._client.evalsha(lua.load(call.script).sha, 1, PREFIX, *call.args))]
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(lua.load(call.script).sha, 1, PREFIX, *call.args)
        return await pipeline.execute(raise_on_error=False)


async def _told(answer: Awaitable[Any]) -> Any:
    """An answer, or what the server says instead."""
    try:
        return await answer
    except ResponseError as error:
        return error


def _unavailable(error: Exception, call: Call[T]) -> Exception:
    """A refusal of the server that is our own mistake (a broken script) must not pass for an outage."""
    if isinstance(error, ResponseError) and "script:" in str(error) and "OOM" not in str(error):
        return RuntimeError(f"ledger script {call.script}: {error}")
    return LedgerUnavailableError(f"{call.script}: {type(error).__name__}")
