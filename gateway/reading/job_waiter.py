"""Waits for jobs to change: one pub/sub connection for all requests of the process.

A message only wakes a request up. A waiting request subscribes, reads the job, sleeps, and reads again after every
wakeup and reconnect. Every few seconds one call fetches the versions of all jobs with waiting requests, so a lost
message costs seconds and never an answer. A request that creates a job and waits for it passes the process's own
channel with the job: its wait begins with sleep, and small results come with the completion message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import redis.asyncio
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from jobs.ledger import job_channel
from jobs.process.periodic import PeriodicTask
from jobs.redis.clients import cancel_task
from jobs.schema import JobStatus

log = logging.getLogger(__name__)

T = TypeVar("T")
Versions = Callable[[Sequence[str]], Awaitable[Sequence[int]]]

REREAD_EVERY_S = 5.0
MAX_INLINE_BYTES = 16 * 1024
"""Largest result payload published inline with a job-completion message. Redis disconnects a subscriber that is
8 MiB behind, which is hundreds of them."""
CHECK_EVERY_S = 2.0
"""How often a waiting request checks that its key is still valid."""
_MAX_SLEEP_S = 60.0
"""Longest time between two reads of a job, whatever messages were lost."""
_SUBSCRIBE_TIMEOUT_S = 1.0
_RECONNECT_S = (0.1, 2.0)
_OPEN_STATUSES = frozenset(status.value.encode() for status in JobStatus if not status.is_terminal)
"""Messages about a job that has not ended."""


async def _check_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Condition(Generic[T]):
    """The condition that a request waits for.

    Attributes:
        read: reads the value; its exceptions end the wait.
        is_met: returns whether the value is the awaited one.
        check: called after every wait, and every `CHECK_EVERY_S` during one; its exceptions end the wait.
    """

    read: Callable[[], Awaitable[T]]
    is_met: Callable[[T], bool]
    check: Callable[[], Awaitable[None]] = _check_nothing


class _Subscription:
    """One job's channel: its listeners, and the state of its subscription."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.version: int | None = None
        self.subscribed = False
        self.listeners: dict[asyncio.Event, bool] = {}
        """True for listeners that wait for the job's end only."""
        self.confirmed = asyncio.Event()
        self.inline_results = b""

    def wake_listeners(self, *, ended: bool = True) -> None:
        for wakeup, only_end in self.listeners.items():
            if ended or not only_end:
                wakeup.set()


@dataclass(frozen=True, slots=True)
class CompletionWatch:
    """A job that this request creates and waits for.

    Attributes:
        job_id: the id to create the job with.
        channel: the channel to create the job with; "" while the waiter is not connected.
    """

    job_id: str
    channel: str
    wakeup: asyncio.Event
    _subscription: _Subscription

    @property
    def inline_results(self) -> bytes:
        """Results published with the end of the job, for `ledger.parse_announced_page`; b"" if none."""
        return self._subscription.inline_results


class Waiter:
    """Wakes requests when their jobs change.

    Args:
        client: a connection to Redis that is used for nothing else. Its own retries are switched off, because
            redis-py would reconnect from the reading and the sending side at once.
        reread_s: seconds between two polls for changes whose message was lost.
        versions: reads the versions of all watched jobs in one call, so that waiting costs Redis next to nothing;
            without it every request reads its job again.
    """

    def __init__(
        self, client: redis.asyncio.Redis, *, reread_s: float = REREAD_EVERY_S, versions: Versions | None = None
    ) -> None:
        client.set_retry(Retry(NoBackoff(), 0))
        self._client = client
        self._reread_s = reread_s
        self._versions = versions
        self._channels: dict[str, _Subscription] = {}
        self._name = f"gateway-{secrets.token_hex(8)}:{MAX_INLINE_BYTES}"
        self._receives_announcements = False
        self._pubsub: PubSub | None = None
        self._sending = asyncio.Lock()
        self._draining = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._poll = PeriodicTask("waiter", self._poll_versions, retry_s=reread_s, first_after_s=_jitter(reread_s))

    def start(self) -> None:
        """Begin to listen."""
        self._listener = asyncio.create_task(self._listen(), name="waiter-listen")
        self._poll.start()

    def drain(self) -> None:
        """End every wait with the latest value, because the process is about to stop."""
        self._draining.set()
        for subscription in self._channels.values():
            subscription.wake_listeners()

    async def stop(self) -> None:
        """Stop listening and close the connection."""
        self.drain()
        await cancel_task(self._listener)
        await self._poll.stop()
        await self._disconnect()

    @contextlib.asynccontextmanager
    async def watch_completion(self, job_id: str) -> AsyncIterator[CompletionWatch]:
        """Watch for the end of a job that is created in the block."""
        wakeup, subscription = self._add_listener(job_id, only_end=True)
        try:
            yield CompletionWatch(job_id, self._name if self._receives_announcements else "", wakeup, subscription)
        finally:
            await self._remove_listener(job_id, wakeup)

    async def wait_until(
        self, job_id: str, seconds: float, condition: Condition[T], watch: CompletionWatch | None = None
    ) -> T:
        """Return the first value that meets the condition, or the last one read when the time is over.

        Args:
            job_id: the value is read again when this job ends; its other changes are ignored.
            seconds: longest time to wait; 0 reads once.
            condition: reads and judges the value.
            watch: the one that the job was created with, if this request created it.
        """
        end_at = _now() + seconds
        if seconds <= 0:
            return await condition.read()
        if watch is not None and watch.channel and watch.job_id == job_id:
            if not self._draining.is_set():
                await _wait_and_check(watch.wakeup, min(seconds, _jitter(_MAX_SLEEP_S)), condition.check)
            return await self._read_until_met(watch.wakeup, end_at, condition)
        async with self._listening(job_id, only_end=True) as wakeup:
            return await self._read_until_met(wakeup, end_at, condition)

    async def _read_until_met(self, wakeup: asyncio.Event, end_at: float, condition: Condition[T]) -> T:
        while True:
            wakeup.clear()
            value = await condition.read()
            remaining_s = end_at - _now()
            if remaining_s <= 0 or self._draining.is_set() or condition.is_met(value):
                return value
            await _wait_and_check(wakeup, min(remaining_s, _jitter(_MAX_SLEEP_S)), condition.check)

    async def follow_job(
        self, job_id: str, read: Callable[[], Awaitable[T]], silence_s: float
    ) -> AsyncIterator[T | None]:
        """Yield the value now and after every wakeup, None after each `silence_s` without one, until draining."""
        async with self._listening(job_id) as wakeup:
            wakeup.set()
            while not self._draining.is_set():
                if wakeup.is_set():
                    wakeup.clear()
                    yield await read()
                elif not await _wait_for(wakeup, silence_s):
                    yield None

    @contextlib.asynccontextmanager
    async def _listening(self, job_id: str, *, only_end: bool = False) -> AsyncIterator[asyncio.Event]:
        wakeup, subscription = self._add_listener(job_id, only_end=only_end)
        try:
            if not subscription.subscribed:
                subscription.subscribed = True
                await self._send_command("subscribe", job_channel(job_id))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SUBSCRIBE_TIMEOUT_S):
                    await subscription.confirmed.wait()
            yield wakeup
        finally:
            await self._remove_listener(job_id, wakeup)

    def _add_listener(self, job_id: str, *, only_end: bool) -> tuple[asyncio.Event, _Subscription]:
        wakeup = asyncio.Event()
        subscription = self._channels.setdefault(job_channel(job_id), _Subscription(job_id))
        subscription.listeners[wakeup] = only_end
        return wakeup, subscription

    async def _remove_listener(self, job_id: str, wakeup: asyncio.Event) -> None:
        name = job_channel(job_id)
        subscription = self._channels[name]
        subscription.listeners.pop(wakeup, None)
        if not subscription.listeners:
            del self._channels[name]
            if subscription.subscribed:
                await self._send_command("unsubscribe", name)

    async def _send_command(self, command: str, name: str) -> None:
        """Send a command if connected; if not, `_connect` subscribes to all channels later."""
        async with self._sending:
            if self._pubsub is None:
                return
            if (name in self._channels) != (command == "subscribe"):
                return
            with contextlib.suppress(RedisError, OSError):
                await getattr(self._pubsub, command)(name)

    async def _poll_versions(self) -> float:
        """Wake the listeners of jobs that changed without a message."""
        channels = list(self._channels.values())
        if self._versions is None:
            for subscription in channels:
                subscription.wake_listeners()
        elif channels:
            versions = await self._versions([subscription.job_id for subscription in channels])
            for subscription, version in zip(channels, versions, strict=True):
                if subscription.version != version:
                    subscription.version = version
                    subscription.wake_listeners()
        return _jitter(self._reread_s)

    async def _listen(self) -> None:
        pause, longest = _RECONNECT_S
        while True:
            try:
                await self._connect()
                pause = _RECONNECT_S[0]
                while True:
                    await self._receive_message()
            except Exception as error:  # noqa: BLE001  # whatever it is: nothing else listens
                log.warning("waiter.reconnecting", extra={"reason": type(error).__name__})
            await self._disconnect()
            await asyncio.sleep(_jitter(pause))
            pause = min(pause * 2, longest)

    async def _connect(self) -> None:
        async with self._sending:
            pubsub = self._client.pubsub()
            for subscription in self._channels.values():
                subscription.subscribed = True
            try:
                await pubsub.subscribe(job_channel(self._name), *self._channels)
            except BaseException:
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's gap
                raise
            self._pubsub = pubsub

    async def _receive_message(self) -> None:
        pubsub = self._pubsub
        if pubsub is None:
            raise ConnectionError
        # Bounded, so that redis-py's health check runs and detects a connection that died in silence.
        message = await pubsub.get_message(timeout=self._reread_s)
        if message is None:
            return
        name, inline_results = message["channel"].decode(), b""
        if name == job_channel(self._name):
            self._receives_announcements = True
            if message["type"] != "message":
                return
            job_id, _, inline_results = message["data"].partition(b"\n")
            name = job_channel(job_id.decode(errors="replace"))  # an ended job of this process
        subscription = self._channels.get(name)
        if subscription is None:
            return
        subscription.inline_results = inline_results
        if message["type"] == "subscribe":
            subscription.confirmed.set()
        subscription.wake_listeners(ended=message["data"] not in _OPEN_STATUSES)

    async def _disconnect(self) -> None:
        async with self._sending:
            pubsub, self._pubsub = self._pubsub, None
        self._receives_announcements = False
        for subscription in self._channels.values():
            subscription.confirmed.clear()
        if pubsub is not None:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's gap


async def _wait_and_check(wakeup: asyncio.Event, seconds: float, check: Callable[[], Awaitable[None]]) -> None:
    """Wait for the wakeup or for `seconds`; call `check` every `CHECK_EVERY_S` and at the end."""
    end_at = _now() + seconds
    while not await _wait_for(wakeup, min(CHECK_EVERY_S, end_at - _now())) and _now() < end_at:
        await check()
    await check()


async def _wait_for(wakeup: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wakeup.wait()
    return wakeup.is_set()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _jitter(seconds: float) -> float:
    """Vary a time by up to a fifth, so that many waiters do not act in step."""
    return seconds * random.uniform(0.8, 1.2)  # nosec B311 - nothing secret
