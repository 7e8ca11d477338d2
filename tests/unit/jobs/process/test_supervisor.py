"""The supervisor with real processes: restarts, silence, overdue children, an orderly end after an error."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from jobs.process.supervisor import Child, StopGroup, Supervisor, restart_delay_s

BEATS = "import sys, time\nwhile True: sys.stdout.write('.'); sys.stdout.flush(); time.sleep(0.05)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
)
FAILS = "raise SystemExit(3)"


class Scripts(Supervisor):
    """Runs Python programs, which have started once they write something."""

    def __init__(self, scripts: dict[str, str], silent_s: float = 30.0) -> None:
        super().__init__(silent_s)
        self.scripts = scripts
        self.ended: list[tuple[str, int | None, bool]] = []
        self.refusals = 0

    async def spawn_child(self, name: str, channel: socket.socket) -> asyncio.subprocess.Process:
        """Start the program, unless the system refuses."""
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError("no more processes")
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-c", self.scripts[name]),
            stdin=subprocess.DEVNULL,
            stdout=channel.fileno(),
            start_new_session=True,
        )

    def has_started(self, child: Child) -> bool:
        """Return whether it has written something."""
        return child.data_at is not None

    def receive_data(self, child: Child, data: bytes) -> None:
        """Check that there is data."""
        assert data

    def note_end(self, child: Child) -> None:
        """Record the end."""
        self.ended.append((child.name, child.process.returncode, child.killed))

    def started(self, name: str) -> int | None:
        """Return the process id of a child that has started."""
        child = self.children.get(name)
        return child.process.pid if child is not None and self.has_started(child) else None


async def until(condition: Callable[[], object]) -> None:
    """Await a condition while the event loop turns."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # of other processes
            await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_a_child_that_dies_is_replaced_at_once() -> None:
    """A child that had started is restarted without a delay, and its death is no failed start."""
    supervisor = Scripts({"a": BEATS})
    await supervisor.start_child("a")
    await supervisor.start_child("a")
    await until(lambda: supervisor.started("a"))
    first = supervisor.started("a")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: supervisor.started("a") not in (None, first))
    assert (supervisor.ended, supervisor.failures) == ([("a", -signal.SIGKILL, False)], {"a": 0})
    supervisor.begin_shutdown()

    assert await supervisor.run([StopGroup(("a", "never started"), 10.0)]) == 0
    assert not supervisor.children


@pytest.mark.anyio
async def test_a_silent_child_is_killed_and_replaced() -> None:
    """A stopped process sends no data, which no signal but SIGKILL changes."""
    supervisor = Scripts({"a": BEATS}, silent_s=2.0)
    await supervisor.start_child("a")
    running = asyncio.create_task(supervisor.run([StopGroup(("a",), 10.0)]))
    await until(lambda: supervisor.started("a"))
    first = supervisor.started("a")
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    await until(lambda: supervisor.started("a") not in (None, first))
    supervisor.begin_shutdown()

    assert await running == 0
    assert supervisor.ended[0] == ("a", -signal.SIGKILL, True)


@pytest.mark.anyio
async def test_groups_stop_in_order_and_overdue_children_are_killed() -> None:
    """The second group runs until the first has ended; a child that ignores SIGTERM is killed: no clean stop."""
    supervisor = Scripts({"first": STUBBORN, "last": BEATS})
    for name in ("first", "last"):
        await supervisor.start_child(name)
    await until(lambda: supervisor.started("first") and supervisor.started("last"))
    supervisor.begin_shutdown()

    assert await supervisor.run([StopGroup(("first",), 0.2), StopGroup(("last",), 10.0)]) == 1
    assert supervisor.ended == [("first", -signal.SIGKILL, False), ("last", -signal.SIGTERM, False)]


@pytest.mark.anyio
async def test_failed_starts_are_counted_and_delayed() -> None:
    """A child that ends before it has started is tried again later; a shutdown does not wait for that."""
    supervisor = Scripts({"a": FAILS})
    await supervisor.start_child("a")
    await until(lambda: supervisor.failures.get("a") == 1)
    assert not supervisor.children
    supervisor.begin_shutdown()

    async with asyncio.timeout(0.9):
        assert await supervisor.run([StopGroup(("a",), 10.0)]) == 0


@pytest.mark.anyio
async def test_a_system_that_refuses_a_restart_is_asked_again() -> None:
    """Without memory or processes for it, one child waits; the others go on."""
    supervisor = Scripts({"a": BEATS, "b": BEATS})
    for name in ("a", "b"):
        await supervisor.start_child(name)
    await until(lambda: supervisor.started("a") and supervisor.started("b"))
    first, other = supervisor.started("a"), supervisor.started("b")
    supervisor.refusals = 1
    supervisor.children["a"].kill()
    await until(lambda: supervisor.started("a") not in (None, first))

    assert supervisor.started("b") == other
    assert supervisor.failures["a"] == 1
    supervisor.begin_shutdown()
    assert await supervisor.run([StopGroup(("a", "b"), 10.0)]) == 0


@pytest.mark.anyio
async def test_a_child_that_cannot_be_started_again_ends_all_in_order() -> None:
    """The error is raised after the other children have stopped."""
    supervisor = Scripts({"a": BEATS, "b": BEATS})
    for name in ("a", "b"):
        await supervisor.start_child(name)
    await until(lambda: supervisor.started("a") and supervisor.started("b"))
    del supervisor.scripts["a"]
    supervisor.children["a"].kill()
    with pytest.raises(KeyError):
        await supervisor.run([StopGroup(("a", "b"), 10.0)])

    assert not supervisor.children


def test_the_delay_grows_up_to_half_a_minute() -> None:
    """The first restart is immediate; failed starts double the delay."""
    assert [restart_delay_s(failures) for failures in (0, 1, 2, 3, 5, 6, 10_000)] == [0, 1, 2, 4, 16, 30, 30]
