"""Waiting requests are woken by messages, by polls, and by the end of the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.reading import job_waiter
from gateway.reading.job_waiter import Condition, Waiter
from jobs.ledger import job_channel
from tests.support.fakes.awaiting import until

pytestmark = pytest.mark.anyio


class FakeRedis:
    """The subscriptions of one connection, as much of Redis as a waiter uses."""

    def __init__(self) -> None:
        self.channels: set[str] = set()
        self.messages: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()
        self.connections = 0

    def set_retry(self, _: object) -> None:
        """Accept that the client does not retry."""

    def pubsub(self) -> FakeRedis:
        """Return the connection."""
        self.connections += 1
        return self

    async def subscribe(self, *names: str) -> None:
        """Subscribe, and confirm it with a message for each channel."""
        for name in names:
            self.channels.add(name)
            self.send(name, 1, kind="subscribe")

    async def unsubscribe(self, name: str) -> None:
        """Unsubscribe from a channel."""
        self.channels.discard(name)

    async def get_message(self, timeout: float) -> dict[str, Any] | None:  # noqa: ASYNC109  # redis-py's
        """Return the next message; raise if the connection is lost."""
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def aclose(self) -> None:
        """Close the connection."""
        self.channels.clear()

    def send(self, name: str, data: object, kind: str = "message") -> None:
        """Send a message on a channel."""
        self.messages.put_nowait({"type": kind, "channel": name.encode(), "data": data})


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_waiter, "_jitter", lambda seconds: seconds)
    monkeypatch.setattr(job_waiter, "_RECONNECT_S", (0.0, 0.0))


@asynccontextmanager
async def running_waiter(reread_s: float = 3600, **options: Any) -> AsyncIterator[tuple[Waiter, FakeRedis]]:
    """Run a waiter on a fake connection."""
    redis = FakeRedis()
    waiter = Waiter(redis, reread_s=reread_s, **options)  # type: ignore[arg-type]
    waiter.start()
    await until(lambda: job_channel(waiter._name) in redis.channels and redis.messages.empty())
    try:
        yield waiter, redis
    finally:
        await waiter.stop()


class Value:
    """A value that a request waits for."""

    def __init__(self, value: object = "running") -> None:
        self.value = value
        self.reads = 0

    async def read(self) -> object:
        """Return the value."""
        self.reads += 1
        return self.value

    def condition(self, check: Any = job_waiter._check_nothing) -> Condition[object]:
        """Return the condition that it is `ended`."""
        return Condition(self.read, lambda value: value == "ended", check)


async def test_a_request_that_does_not_wait_reads_once() -> None:
    """It subscribes to nothing."""
    async with running_waiter() as (waiter, redis):
        value = Value()
        assert await waiter.wait_until("job_1", 0, value.condition()) == "running"
        assert (value.reads, redis.channels) == (1, {job_channel(waiter._name)})


async def test_a_message_wakes_the_request_of_its_job() -> None:
    """It reads the job again; the last request of a job unsubscribes."""
    async with running_waiter() as (waiter, redis):
        value = Value()
        waiting = asyncio.create_task(waiter.wait_until("job_1", 60, value.condition()))
        await until(lambda: value.reads == 1)
        value.value = "ended"
        redis.send(job_channel("job_other"), b"succeeded")
        redis.send(job_channel("job_1"), b"succeeded")
        assert await waiting == "ended"
        assert value.reads == 2
        assert redis.channels == {job_channel(waiter._name)}


async def test_progress_wakes_followers_but_no_request_that_waits_for_the_end() -> None:
    """A job with many shards sends a message for each."""
    async with running_waiter() as (waiter, redis):
        value, followed = Value(), Value()
        waiting = asyncio.create_task(waiter.wait_until("job_1", 60, value.condition()))
        following = waiter.follow_job("job_1", followed.read, 60)
        assert await anext(following) == "running"
        await until(lambda: value.reads == 1)
        followed.value = "more"
        redis.send(job_channel("job_1"), b"running")
        assert await anext(following) == "more"
        assert value.reads == 1
        waiter.drain()
        await waiting
        with pytest.raises(StopAsyncIteration):
            await anext(following)


async def test_a_follower_hears_of_silence() -> None:
    """None after each time without a message, so that it can send a heartbeat."""
    async with running_waiter() as (waiter, _):
        following = waiter.follow_job("job_1", Value().read, 0.01)
        assert [await anext(following) for _ in range(3)] == ["running", None, None]
        await following.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_lost_messages_are_noticed_by_the_versions() -> None:
    """A single call reads all of them; only jobs that changed are read again."""
    polls: list[Sequence[str]] = []
    versions = {"job_1": 1, "job_2": 1}

    async def read_versions(jobs: Sequence[str]) -> Sequence[int]:
        polls.append(tuple(jobs))
        return [versions[job] for job in jobs]

    async with running_waiter(versions=read_versions) as (waiter, _):
        first, second = Value(), Value()
        waiting = [
            asyncio.create_task(waiter.wait_until("job_1", 60, first.condition())),
            asyncio.create_task(waiter.wait_until("job_2", 60, second.condition())),
        ]
        await until(lambda: first.reads == second.reads == 1)
        await waiter._poll_versions()  # learns the versions
        await until(lambda: first.reads == second.reads == 2)
        first.value, versions["job_1"] = "ended", 2
        await waiter._poll_versions()
        assert await waiting[0] == "ended"
        assert (first.reads, second.reads) == (3, 2)
        assert polls == [("job_1", "job_2")] * 2
        waiter.drain()
        await waiting[1]


async def test_after_a_lost_connection_every_job_is_subscribed_and_read_again() -> None:
    """A message may have been lost in the meantime."""
    async with running_waiter() as (waiter, redis):
        value = Value()
        waiting = asyncio.create_task(waiter.wait_until("job_1", 60, value.condition()))
        await until(lambda: value.reads == 1)
        value.value = "ended"
        redis.messages.put_nowait(RedisConnectionError())
        assert await waiting == "ended"
        assert redis.connections == 2


async def test_the_end_of_a_job_of_this_process_comes_with_its_results() -> None:
    """The request that created it did not have to subscribe; it reads after the message only."""
    async with running_waiter() as (waiter, redis), waiter.watch_completion("job_1") as watch:
        assert watch.channel == waiter._name
        value = Value("ended")
        waiting = asyncio.create_task(waiter.wait_until("job_1", 60, value.condition(), watch))
        await asyncio.sleep(0)
        assert value.reads == 0
        redis.send(job_channel(waiter._name), b"job_1\nresults")
        assert await waiting == "ended"
        assert watch.inline_results == b"results"
        assert job_channel("job_1") not in redis.channels


async def test_without_a_connection_no_channel_is_promised() -> None:
    """The ledger must not announce a job's end to nobody."""
    async with running_waiter() as (waiter, _), waiter.watch_completion("job_1") as watch:
        assert watch.channel
    async with waiter.watch_completion("job_2") as watch:
        assert (watch.channel, watch.inline_results) == ("", b"")


async def test_a_key_that_becomes_invalid_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked during the wait, not only at its end."""
    monkeypatch.setattr(job_waiter, "CHECK_EVERY_S", 0.01)
    checks = iter((None, None, PermissionError()))

    async def check() -> None:
        if (error := next(checks)) is not None:
            raise error

    async with running_waiter() as (waiter, _):
        with pytest.raises(PermissionError):
            await waiter.wait_until("job_1", 60, Value().condition(check))
        assert waiter._channels == {}


async def test_the_end_of_the_process_ends_every_wait() -> None:
    """Each request gets the latest value."""
    async with running_waiter() as (waiter, _):
        values = [Value() for _ in range(3)]
        waiting = [
            asyncio.create_task(waiter.wait_until(f"job_{n}", 60, value.condition()))
            for n, value in enumerate(values)
        ]
        await until(lambda: all(value.reads == 1 for value in values))
        waiter.drain()
        assert await asyncio.gather(*waiting) == ["running"] * 3
        assert await waiter.wait_until("job_9", 60, Value().condition()) == "running"
