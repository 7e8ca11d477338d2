"""Runs the ledger's calls on Redis: `Ledger` for threads, `AsyncLedger` for the event loop."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from time import monotonic
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError, ResponseError

from jobs.ledger.types import Call
from jobs.redis.group_commit import RequestGrouper

log = logging.getLogger(__name__)

T = TypeVar("T")
PREFIX = "{gleaner}:"
MIN_RETRY_S, MAX_RETRY_S = 0.1, 2.0
_LARGE_BYTES = 64 * 1024
"""A call with more bytes to send gets a round trip to itself: others would wait for it."""
BARRIER_KEY = f"{PREFIX}barrier"
"""Key that a durability barrier writes before it waits for the disk."""


def record_key(record_id: str) -> str:
    """Return the key whose existence shows that a server has a job, or a webhook endpoint."""
    return f"{PREFIX}job:{record_id}" if record_id.startswith("job_") else f"{PREFIX}ep:{record_id}"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script as sent to Redis, which identifies it by its SHA-1: each version of the code has its own."""

    source: str
    sha: str


@cache
def load_script(name: str) -> Script:
    """Load `lua/<name>.lua` with the shared library after its `#!lua` line, which Redis requires to be first."""
    folder = files(__package__) / "lua"
    shebang, _, body = (folder / f"{name}.lua").read_text("utf-8").partition("\n")
    source = "\n".join((shebang, (folder / "_lib.lua").read_text("utf-8"), body))
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


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
        script = load_script(call.script)
        try:
            try:
                reply = self._client.evalsha(script.sha, 1, PREFIX, *call.args)
            except NoScriptError:
                reply = self._client.eval(script.source, 1, PREFIX, *call.args)
        except (RedisError, OSError) as error:
            raise _unavailable(error, call) from error
        return call.parse(reply)

    def run_with_retries(
        self,
        call: Call[T],
        wait: Callable[[float], bool | None] = time.sleep,
        within_s: float = math.inf,
    ) -> T:
        """Run one transition until Redis answers.

        Args:
            call: the transition.
            wait: waits for these seconds; returns True to give up.
            within_s: gives up when the next attempt would begin later than this.

        Raises:
            LedgerUnavailableError: as `run`, after giving up.
        """
        give_up_at, delay_s = monotonic() + within_s, MIN_RETRY_S
        while True:
            try:
                return self.run(call)
            except LedgerUnavailableError as error:
                if monotonic() + delay_s > give_up_at:
                    raise
                log.warning("ledger.unavailable", extra={"reason": str(error), "retry_s": delay_s})
                if wait(delay_s):
                    raise
                delay_s = min(MAX_RETRY_S, 2 * delay_s)


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
                source = load_script(call.script).source
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
            sha = load_script(call.script).sha
            return [await _reply_or_error(self._client.evalsha(sha, 1, PREFIX, *call.args))]
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(load_script(call.script).sha, 1, PREFIX, *call.args)
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
