"""Waits for jobs to change: one pub/sub connection for all requests of the process.

A message is a hint only. Whoever waits subscribes, reads the job, sleeps, and reads again on every hint and after
every reconnect. Every few seconds one call asks for the versions of all jobs that are waited for: a lost message
costs seconds and never an answer. A job that is made to be waited for names the channel that the process listens to
anyway, before it can end: this wait begins with sleep, and small results come with the message that ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import redis.asyncio
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.http.tasks import end
from jobs.ledger import LedgerUnavailableError, job_channel
from jobs.observability.logs import log_failure
from jobs.schema import JobStatus

log = logging.getLogger(__name__)

T = TypeVar("T")
Versions = Callable[[Sequence[str]], Awaitable[Sequence[int]]]

REREAD_S = 5.0
TOLD_BYTES = 16 * 1024
"""Results up to this size come with the announcement of their job's end. Who does not read is cut off by the server
at 8 MiB: hundreds of them."""
CHECK_S = 2.0
"""A wait is checked this often."""
_LONGEST_S = 60.0
"""However it comes, nobody waits longer than this without a look."""
_SUBSCRIBED_WITHIN_S = 1.0
_RECONNECT_S = (0.1, 2.0)
_OPEN = frozenset(status.value.encode() for status in JobStatus if not status.is_terminal)
"""What is announced of a job that goes on."""


async def _pass() -> None:
    """Check nothing."""


class _Channel:
    """One job's channel: who listens, whether it was subscribed, whether the server has confirmed it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.version: int | None = None
        self.subscribed = False
        self.listeners: dict[asyncio.Event, bool] = {}
        """True for those who wait for nothing but the end."""
        self.confirmed = asyncio.Event()
        self.told = b""

    def hint(self, *, ended: bool = True) -> None:
        for listener, for_the_end in self.listeners.items():
            if ended or not for_the_end:
                listener.set()


class Expected:
    """A job that this request makes and then waits for.

    Attributes:
        job_id: once it is made and tells its end here; else None, and it must be subscribed to.
    """

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self.hint = asyncio.Event()
        self.job_id: str | None = None

    @property
    def told(self) -> bytes:
        """What was announced with the job's end, for `ledger.announced`; b"" if nothing was."""
        return b"" if self.job_id is None else self._waiter.told(self.job_id)

    def name_for(self, job_id: str) -> str:
        """The channel's name to make the job with; "" while the store cannot be listened to."""
        return self._waiter.expect(job_id, self)


class Waiter:
    """Wakes requests when their jobs change.

    Args:
        client: of the ledger's server, used for nothing else. Its own retries are switched off: redis-py would
            reconnect from the reading and the sending side at once.
        reread_s: about how often it is looked whether jobs have changed without any hint.
        versions: reads the versions of jobs, all that are waited for in one call, so that waiting costs the store
            next to nothing; without it every request reads its job again.
    """

    def __init__(
        self, client: redis.asyncio.Redis, *, reread_s: float = REREAD_S, versions: Versions | None = None
    ) -> None:
        client.set_retry(Retry(NoBackoff(), 0))
        self._client = client
        self._reread_s = reread_s
        self._versions = versions
        self._channels: dict[str, _Channel] = {}
        self._name = f"gateway-{secrets.token_hex(8)}:{TOLD_BYTES}"
        self._heard = False
        self._pubsub: PubSub | None = None
        self._sending = asyncio.Lock()
        self._draining = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen."""
        self._tasks = [
            asyncio.create_task(self._listen(), name="waiter"),
            asyncio.create_task(self._look(), name="waiter-look"),
        ]

    def drain(self) -> None:
        """Let every wait end now with what it knows: the process is about to stop."""
        self._draining.set()
        for listened in self._channels.values():
            listened.hint()

    async def stop(self) -> None:
        """Stop listening and give the connection back."""
        self.drain()
        for task in self._tasks:
            await end(task)
        await self._drop()

    @contextlib.asynccontextmanager
    async def expecting(self) -> AsyncIterator[Expected]:
        """Around making a job and waiting for it."""
        expected = Expected(self)
        try:
            yield expected
        finally:
            if expected.job_id is not None:
                await self._leave(expected.job_id, expected.hint)

    def expect(self, job_id: str, expected: Expected) -> str:
        """The name of the channel where this process hears of jobs it made; "" while it hears of none."""
        if not self._heard:
            return ""
        expected.job_id = job_id
        self._channels.setdefault(job_channel(job_id), _Channel(job_id)).listeners[expected.hint] = True
        return self._name

    def told(self, job_id: str) -> bytes:
        """What was announced with the end of a job that is expected; b"" if nothing was."""
        return self._channels[job_channel(job_id)].told

    async def until(
        self,
        job_id: str,
        seconds: float,
        read: Callable[[], Awaitable[T]],
        done: Callable[[T], bool],
        expected: Expected | None = None,
        check: Callable[[], Awaitable[None]] = _pass,
    ) -> T:
        """The first value read of which `done` holds, or the last one when the time is over.

        Args:
            job_id: whose end is a hint to read again; other changes of it are not looked at.
            seconds: how long at most; 0 reads once.
            read: reads the value; its exceptions end the wait.
            done: whether there is nothing left to wait for.
            expected: from before the job was made.
            check: called after every wait, and every `CHECK_S` of one; its exceptions end the wait.
        """
        end = _now() + seconds
        if seconds <= 0:
            return await read()
        if expected is not None and expected.job_id == job_id:
            if not self._draining.is_set():
                await _hinted_or_checked(expected.hint, min(seconds, _spread(_LONGEST_S)), check)
            return await self._reading(expected.hint, end, read, done, check)
        async with self._listening(job_id, for_the_end=True) as hint:
            return await self._reading(hint, end, read, done, check)

    async def _reading(
        self,
        hint: asyncio.Event,
        end: float,
        read: Callable[[], Awaitable[T]],
        done: Callable[[T], bool],
        check: Callable[[], Awaitable[None]],
    ) -> T:
        while True:
            hint.clear()
            value = await read()
            left = end - _now()
            if left <= 0 or self._draining.is_set() or done(value):
                return value
            await _hinted_or_checked(hint, min(left, _spread(_LONGEST_S)), check)

    async def follow(
        self, job_id: str, read: Callable[[], Awaitable[T]], silence_s: float
    ) -> AsyncIterator[T | None]:
        """What is read now and after every hint; None after each `silence_s` without one. Ends when draining."""
        async with self._listening(job_id) as hint:
            hint.set()
            while not self._draining.is_set():
                if hint.is_set():
                    hint.clear()
                    yield await read()
                elif not await _hinted(hint, silence_s):
                    yield None

    @contextlib.asynccontextmanager
    async def _listening(self, job_id: str, *, for_the_end: bool = False) -> AsyncIterator[asyncio.Event]:
        name = job_channel(job_id)
        hint = asyncio.Event()
        listened = self._channels.setdefault(name, _Channel(job_id))
        listened.listeners[hint] = for_the_end
        try:
            if not listened.subscribed:
                listened.subscribed = True
                await self._send("subscribe", name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SUBSCRIBED_WITHIN_S):
                    await listened.confirmed.wait()
            yield hint
        finally:
            await self._leave(job_id, hint)

    async def _leave(self, job_id: str, hint: asyncio.Event) -> None:
        name = job_channel(job_id)
        listened = self._channels[name]
        listened.listeners.pop(hint, None)
        if not listened.listeners:
            del self._channels[name]
            if listened.subscribed:
                await self._send("unsubscribe", name)

    async def _send(self, command: str, name: str) -> None:
        """Tell the server, if it is there; if not, the listening task subscribes anew when it is back."""
        async with self._sending:
            if self._pubsub is None:
                return
            wanted = name in self._channels
            if wanted != (command == "subscribe"):
                return
            with contextlib.suppress(RedisError, OSError):
                await getattr(self._pubsub, command)(name)

    async def _look(self) -> None:
        """Hints at what changed without a message."""
        while True:
            await asyncio.sleep(_spread(self._reread_s))
            listened = list(self._channels.values())
            if self._versions is None:
                for one in listened:
                    one.hint()
            elif listened:
                try:
                    versions = await self._versions([one.job_id for one in listened])
                except LedgerUnavailableError:
                    continue
                except Exception as error:  # noqa: BLE001  # who looks no more would not be missed until a message is
                    log_failure(log, "waiter.look_failed", error)
                    continue
                for one, version in zip(listened, versions, strict=True):
                    if one.version != version:
                        one.version = version
                        one.hint()

    async def _listen(self) -> None:
        pause, longest = _RECONNECT_S
        while True:
            try:
                await self._connect()
                pause = _RECONNECT_S[0]
                while True:
                    await self._receive()
            except Exception as error:  # noqa: BLE001  # whatever it is: nobody else would listen
                log.warning("waiter.reconnecting", extra={"reason": type(error).__name__})
            await self._drop()
            await asyncio.sleep(_spread(pause))
            pause = min(pause * 2, longest)

    async def _connect(self) -> None:
        async with self._sending:
            pubsub = self._client.pubsub()
            for listened in self._channels.values():
                listened.subscribed = True
            try:
                await pubsub.subscribe(job_channel(self._name), *self._channels)
            except BaseException:
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's gap
                raise
            self._pubsub = pubsub

    async def _receive(self) -> None:
        pubsub = self._pubsub
        if pubsub is None:
            raise ConnectionError
        # Bounded, so that redis-py's health check runs and finds a connection that died in silence.
        message = await pubsub.get_message(timeout=self._reread_s)
        if message is None:
            return
        name, told = message["channel"].decode(), b""
        if name == job_channel(self._name):
            self._heard = True
            if message["type"] != "message":
                return
            job_id, _, told = message["data"].partition(b"\n")
            name = job_channel(job_id.decode(errors="replace"))  # a job of ours, which has ended
        listened = self._channels.get(name)
        if listened is None:
            return
        listened.told = told
        if message["type"] == "subscribe":
            listened.confirmed.set()
        listened.hint(ended=message["data"] not in _OPEN)

    async def _drop(self) -> None:
        async with self._sending:
            pubsub, self._pubsub = self._pubsub, None
        self._heard = False
        for listened in self._channels.values():
            listened.confirmed.clear()
        if pubsub is not None:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's gap


async def _hinted_or_checked(hint: asyncio.Event, seconds: float, check: Callable[[], Awaitable[None]]) -> None:
    """Wait for the hint, and check once it is there or the time is over, and in between."""
    end = _now() + seconds
    while not await _hinted(hint, min(CHECK_S, end - _now())) and _now() < end:
        await check()
    await check()


async def _hinted(hint: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await hint.wait()
    return hint.is_set()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _spread(seconds: float) -> float:
    """About so many seconds, so that many waiters do not act in step."""
    return seconds * random.uniform(0.8, 1.2)  # nosec B311 - nothing secret
