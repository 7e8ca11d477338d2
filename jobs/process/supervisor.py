"""Keeps child processes running: restarts ended ones with backoff, kills silent ones, stops all in order.

Two subclasses define what the children are: the gateway's processes (`gateway.http.processes`) and the programs of
a local stack (`jobs.process.programs`). Each child has one end of a socket pair, on which it sends data:
heartbeats, or its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

_CHECK_EVERY_S: Final = 0.5
_MAX_RESTART_DELAY_S: Final = 30.0
_DRAIN_S: Final = 1.0  # grandchildren may keep a dead child's socket open


@dataclass(slots=True)
class Child:
    """A running child.

    Attributes:
        name: unique; also that of the child that replaces it.
        data_at: monotonic time of its last data; None before the first.
        killed: it was silent for too long.
    """

    name: str
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    started_at: float
    data_at: float | None = None
    killed: bool = False

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the child. Does nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the child and its process group, of which it must be the leader."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class StopGroup:
    """Children that are stopped at the same time, and the seconds they get for it before they are killed."""

    names: tuple[str, ...]
    grace_s: float


class Supervisor(ABC):
    """Starts, watches, restarts and stops children.

    Args:
        silent_s: a child that sends no data for this long is killed.

    Attributes:
        children: the running children by name.
        failures: number of failed starts in a row by name.
        stopping: set once the shutdown begins.
        checked_at: monotonic time of the last check for silent children.
    """

    def __init__(self, silent_s: float = math.inf) -> None:
        self.children: dict[str, Child] = {}
        self.failures: dict[str, int] = {}
        self.stopping = asyncio.Event()
        self.checked_at = time.monotonic()
        self.silent_s = silent_s
        self._tasks: dict[str, asyncio.Task[int]] = {}

    @abstractmethod
    async def spawn_child(self, name: str, channel: socket.socket) -> asyncio.subprocess.Process:
        """Start a child as the leader of a session, with `channel` as the socket on which it sends data."""

    @abstractmethod
    def has_started(self, child: Child) -> bool:
        """Return whether the child's start has succeeded; its end before that is followed by a longer delay."""

    @abstractmethod
    def receive_data(self, child: Child, data: bytes) -> None:
        """Handle data of a child."""

    @abstractmethod
    def note_end(self, child: Child) -> None:
        """Handle the end of a child, which is restarted unless the shutdown has begun or begins here."""

    def begin_shutdown(self) -> None:
        """Make `run` stop all children; no child is restarted from now on."""
        self.stopping.set()

    async def start_child(self, name: str) -> None:
        """Start a child and keep it running until shutdown. Does nothing if that was done before."""
        if name not in self._tasks:
            child = await self._spawn(name)
            self._tasks[name] = asyncio.create_task(self._keep_running(child), name=f"child {name}")
            self._tasks[name].add_done_callback(self._check_task)

    async def run(self, groups: Sequence[StopGroup]) -> int:
        """Wait for the shutdown, then stop one group after the other; return 0 if all children stopped cleanly."""
        watchdog = asyncio.create_task(self._kill_silent_children(), name="watchdog")
        await self.stopping.wait()
        for group in groups:
            await self._stop_group(group)
        watchdog.cancel()
        return int(any(task.result() for task in self._tasks.values()))

    async def _spawn(self, name: str) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await self.spawn_child(name, theirs)
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours)
        child = self.children[name] = Child(name, process, reader, writer, time.monotonic())
        if self.stopping.is_set():
            child.send_signal(signal.SIGTERM)
        return child

    async def _keep_running(self, child: Child) -> int:
        """Restart this child until shutdown; return the last one's exit code."""
        while True:
            await self._await_end(child)
            was_stopping = self.stopping.is_set()
            failures = 0 if self.has_started(child) else self.failures.get(child.name, 0) + 1
            self.failures[child.name] = failures
            self.note_end(child)
            if self.stopping.is_set():
                code = child.process.returncode or 0
                # A child signalled before it could handle the signal has stopped cleanly, too.
                return int(not was_stopping or code not in (0, -signal.SIGTERM))
            replacement = await self._restart(child.name)
            if replacement is None:
                return 0
            child = replacement

    async def _restart(self, name: str) -> Child | None:
        """Start a child again, later each time that the system refuses; return None once the shutdown begins."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(restart_delay_s(self.failures[name])):
                    await self.stopping.wait()
                return None
            try:
                return await self._spawn(name)
            except OSError as error:  # too many processes or files, no memory: others may end
                self.failures[name] += 1
                log.warning("supervisor.start_failed", extra={"child": name, "reason": str(error)})

    async def _await_end(self, child: Child) -> None:
        reading = asyncio.create_task(self._read_data(child))
        await child.process.wait()
        await asyncio.wait([reading], timeout=_DRAIN_S)
        reading.cancel()
        child.writer.close()
        del self.children[child.name]

    async def _read_data(self, child: Child) -> None:
        with contextlib.suppress(ConnectionResetError):
            while data := await child.reader.read(1 << 16):
                child.data_at = time.monotonic()
                self.receive_data(child, data)

    async def _stop_group(self, group: StopGroup) -> None:
        tasks = [self._tasks[name] for name in group.names if name in self._tasks]
        if not tasks:
            return
        self.signal_children(signal.SIGTERM, group.names)
        await asyncio.wait(tasks, timeout=group.grace_s)
        for name in group.names:
            if name in self.children:
                self.children[name].kill()
        await asyncio.wait(tasks)

    def signal_children(self, number: signal.Signals, names: Sequence[str]) -> None:
        """Signal the running children among `names`."""
        for name in names:
            if name in self.children:
                self.children[name].send_signal(number)

    async def _kill_silent_children(self) -> None:
        while True:
            self.checked_at = now = time.monotonic()
            for child in self.children.values():
                if not self.stopping.is_set() and now - (child.data_at or child.started_at) > self.silent_s:
                    child.killed = True
                    child.kill()
            await asyncio.sleep(_CHECK_EVERY_S)

    def _check_task(self, task: asyncio.Task[int]) -> None:
        if task.exception() is not None:  # a child could not be started again; `run` raises it
            self.begin_shutdown()


def restart_delay_s(failures: int) -> float:
    """Return the seconds before the next start after this number of failed starts in a row."""
    return min(_MAX_RESTART_DELAY_S, math.ldexp(1.0, min(failures, 16) - 1)) if failures else 0.0
