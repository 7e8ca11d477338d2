"""Runs the ledger's calls on Redis: `Ledger` for threads, `AsyncLedger` for the event loop."""

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
"""A call with more bytes to send gets a round trip to itself: others would wait for it."""
BARRIER_KEY = f"{PREFIX}barrier"
"""Key that a durability barrier writes before it waits for the disk."""


class LedgerUnavailableError(Exception):
    """Redis cannot be reached, did not answer in time, or refuses writes (full, read-only, loading)."""


def job_channel(job: str) -> str:
    """Return the channel on which changes of a job are announced; subscribers then read the job again."""
    return f"{PREFIX}ch:{job}"


class Ledger:
    """Runs calls from threads.

    Args:
        client: a redis-py client of the ledger's database that returns bytes.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def run(self, call: Call[T]) -> T:
        """Run one transition.

        Raises:
            LedgerUnavailableError: the transition may or may not have happened; repeating it is safe.
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
    """Runs calls from the event loop; calls made at the same moment share round trips.

    Args:
        client: an asynchronous redis-py client of the ledger's database that returns bytes.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._grouped: RequestGrouper[Call[Any], Any] = RequestGrouper(self._round_trip)

    async def run(self, call: Call[T]) -> T:
        """Run one transition.

        Raises:
            LedgerUnavailableError: the transition may or may not have happened; repeating it is safe.
        """
        large = sum(len(arg) for arg in call.args if isinstance(arg, bytes)) > _LARGE_BYTES
        try:
            reply = await (self._run_single(call) if large else self._grouped.submit(call))
        except (RedisError, OSError) as error:
            raise _unavailable(error, call) from error
        return call.parse(reply)

    async def _round_trip(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Return the reply or the ResponseError of each call; every call passes through here."""
        replies = await self._send(calls)
        for i, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, NoScriptError):
                source = lua.load(call.script).source
                replies[i] = await _reply_or_error(self._client.eval(source, 1, PREFIX, *call.args))
        return replies

    async def _run_single(self, call: Call[Any]) -> Any:
        [reply] = await self._round_trip([call])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _send(self, calls: Sequence[Call[Any]]) -> list[Any]:
        if len(calls) == 1:
            [call] = calls
            sha = lua.load(call.script).sha
            return [await _reply_or_error(self._client.evalsha(sha, 1, PREFIX, *call.args))]
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(lua.load(call.script).sha, 1, PREFIX, *call.args)
        return await pipeline.execute(raise_on_error=False)


async def _reply_or_error(reply: Awaitable[Any]) -> Any:
    try:
        return await reply
    except ResponseError as error:
        return error


def _unavailable(error: Exception, call: Call[T]) -> Exception:
    """Return the error to raise: a broken script, which is our own mistake, must not pass for an outage."""
    if isinstance(error, ResponseError) and "script:" in str(error) and "OOM" not in str(error):
        return RuntimeError(f"ledger script {call.script}: {error}")
    return LedgerUnavailableError(f"{call.script}: {type(error).__name__}")
