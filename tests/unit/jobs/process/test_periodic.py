"""Steps that repeat, in a thread and on the event loop."""

from __future__ import annotations

import asyncio
import logging
from itertools import count
from threading import Event

import pytest
from redis.exceptions import RedisError

from jobs.ledger import LedgerUnavailableError
from jobs.process.periodic import PeriodicTask, PeriodicThread

LONG_S = 60.0


@pytest.mark.parametrize(
    ("error", "event", "reason"),
    [
        (LedgerUnavailableError("upkeep_tick: TimeoutError"), "test.interrupted", "upkeep_tick: TimeoutError"),
        (RedisError("to a host"), "test.interrupted", "RedisError"),
        (ValueError("a text"), "test.failed", "ValueError"),
    ],
)
def test_an_error_ends_a_step_and_not_the_thread(
    caplog: pytest.LogCaptureFixture, error: Exception, event: str, reason: str
) -> None:
    """It is logged, without the message of a foreign exception, and known as the reason until a step succeeds."""
    failed, succeeded, go_on, numbers = Event(), Event(), Event(), count()

    def step() -> float:
        if next(numbers) == 0:
            raise error
        failed.set()
        go_on.wait(5)
        succeeded.set()
        return LONG_S

    thread = PeriodicThread("test", step, retry_s=0.0)
    assert thread.failure_reason() is not None
    thread.start()
    assert failed.wait(5)
    assert thread.failure_reason() == reason
    go_on.set()
    assert succeeded.wait(5)
    thread.stop()
    assert thread.failure_reason() is None
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [event]


def test_a_pause_ends_when_woken_or_stopped() -> None:
    """Neither waits for the end of the pause."""
    steps: list[Event] = [Event(), Event()]
    numbers = count()

    def step() -> float:
        steps[next(numbers)].set()
        return LONG_S

    thread = PeriodicThread("test", step)
    thread.start()
    assert steps[0].wait(5)
    thread.wake()
    assert steps[1].wait(5)
    thread.stop()
    assert next(numbers) == 2


def test_wakes_during_the_shortest_pause_share_a_step() -> None:
    """A flood of them does not become a flood of steps."""
    numbers, began = count(), Event()

    def step() -> float:
        next(numbers)
        began.set()
        return LONG_S

    thread = PeriodicThread("test", step, min_pause_s=0.2)
    thread.start()
    assert began.wait(5)
    for _ in range(1000):
        thread.wake()
    thread.stop()
    assert next(numbers) == 1


def test_a_step_that_hangs_is_seen_until_a_stop_is_requested() -> None:
    """The seconds since it began; a thread that is asked to stop has no next step to be late with."""
    began, go_on = Event(), Event()

    def step() -> float:
        began.set()
        go_on.wait(5)
        return LONG_S

    thread = PeriodicThread("test", step)
    thread.start()
    assert began.wait(5)
    while thread.stalled_s() < 0.05:
        pass
    thread.request_stop()
    assert thread.stalled_s() == 0
    go_on.set()
    thread.stop()


@pytest.mark.anyio
async def test_a_task_goes_on_after_errors_until_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """After an outage and after a bug; a stop cancels the step that runs."""
    errors: list[Exception] = [LedgerUnavailableError("down"), ValueError("a text")]
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def step() -> float:
        if errors:
            raise errors.pop(0)
        began.set()
        try:
            await asyncio.sleep(LONG_S)
        finally:
            cancelled.set()
        return LONG_S

    task = PeriodicTask("test", step, retry_s=0.0)
    task.start()
    async with asyncio.timeout(5):
        await began.wait()
        await task.stop()
    assert cancelled.is_set()
    assert [record.message for record in caplog.records] == ["test.interrupted", "test.failed"]


@pytest.mark.anyio
async def test_a_task_begins_after_its_first_pause() -> None:
    """Stopped before, it has done nothing; stopped before its start, as well."""
    steps: list[int] = []

    async def step() -> float:
        steps.append(1)
        return LONG_S

    task = PeriodicTask("test", step, first_after_s=LONG_S)
    await task.stop()
    task.start()
    await asyncio.sleep(0.01)
    await task.stop()
    assert steps == []
