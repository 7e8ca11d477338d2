"""Runs the ledger's calls against a server: `Ledger` for threads, `AsyncLedger` for the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError, ResponseError

from jobs.grouping import Grouped
from jobs.ledger import scripts
from jobs.ledger.values import Call

T = TypeVar("T")
PREFIX = "{gleaner}:"
_LARGE_BYTES = 64 * 1024
"""A call with so much to send goes alone: others would wait for it."""
BARRIER_KEY = f"{PREFIX}barrier"
"""What a durability barrier writes before it waits for the disk."""


class LedgerUnavailableError(Exception):
    """The store cannot be reached, did not answer in time, or refuses to write (full, read-only, loading)."""


class LedgerRefusedError(LedgerUnavailableError):
    """The store answered, but does not write now (full, read-only, loading); it may still read."""


def channel(job: str) -> str:
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
        script = scripts.load(call.script)
        try:
            try:
                reply = self._client.evalsha(script.sha, 1, PREFIX, *call.args)
            except NoScriptError:
                reply = self._client.eval(script.source, 1, PREFIX, *call.args)
        except (RedisError, OSError) as error:
            raise _unavailable(error, call) from error
        return call.parse(reply)


class AsyncLedger:
    """The ledger for the event loop; calls that are made at the same moment share a round trip.

    Args:
        client: an asynchronous redis-py client of the ledger's database that returns bytes.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._grouped: Grouped[Call[Any], Any] = Grouped(self._together)

    async def run(self, call: Call[T]) -> T:
        """Take one transition.

        Raises:
            LedgerUnavailableError: it is not known whether the transition happened; repeating it is safe.
        """
        script = scripts.load(call.script)
        large = sum(len(arg) for arg in call.args if isinstance(arg, bytes)) > _LARGE_BYTES
        try:
            try:
                reply = await (self._evaluate(call) if large else self._grouped.ask(call))
            except NoScriptError:
                reply = await self._client.eval(script.source, 1, PREFIX, *call.args)
        except (RedisError, OSError) as error:
            raise _unavailable(error, call) from error
        return call.parse(reply)

    async def _evaluate(self, call: Call[Any]) -> Any:
        return await self._client.evalsha(scripts.load(call.script).sha, 1, PREFIX, *call.args)

    async def _together(self, calls: Sequence[Call[Any]]) -> Sequence[Any]:
        if len(calls) == 1:
            return [await self._evaluate(calls[0])]
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(scripts.load(call.script).sha, 1, PREFIX, *call.args)
        return await pipeline.execute(raise_on_error=False)


def _unavailable(error: Exception, call: Call[T]) -> Exception:
    """A refusal of the server that is our own mistake (a broken script) must not pass for an outage."""
    if isinstance(error, ResponseError) and "script:" in str(error) and "OOM" not in str(error):
        return RuntimeError(f"ledger script {call.script}: {error}")
    kind = LedgerRefusedError if isinstance(error, ResponseError) else LedgerUnavailableError
    return kind(f"{call.script}: {type(error).__name__}")
