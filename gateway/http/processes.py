"""Supervises several gateway processes behind one port; the parent owns the port.

Each child (`gateway.child`) sends heartbeats from its event loop over a socket pair. A silent child is killed,
an ended one is restarted. All accept from the same listening sockets, so that the others take over the connections
of a dead child; with a socket per child (SO_REUSEPORT) the connections queued for it would be lost. uvicorn's
supervisor is not used: it pings a thread of the child, which answers while the event loop hangs, it creates the
server itself, and it leaves the children behind when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from gateway.http.background_services import STALLED_S, run_background_services
from gateway.settings import GatewaySettings
from jobs.observability import multiprocess
from jobs.observability.metrics import ProcessesMetrics, UpkeepMetrics, register_process_metrics

log = logging.getLogger(__name__)

HEARTBEAT_S = 1
OVERDUE_S = 5.0
"""A child that has not drained this long after its grace period is killed."""
_CHECK_EVERY_S = 0.5
_BACKLOG = 2048  # as uvicorn's
_MAX_RESTART_DELAY_S = 30.0


class ChildConfig(BaseModel):
    """Configuration of a child.

    Attributes:
        number: its number, from 0.
        heartbeat_fd: file descriptor on which it sends a byte every `HEARTBEAT_S`; it closes when the parent ends.
        listener_fds: file descriptors of the sockets it accepts from.
        folder: folder of the metrics files.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    heartbeat_fd: int
    listener_fds: tuple[int, ...]
    folder: Path


def run(settings: GatewaySettings, count: int) -> int:
    """Serve with `count` processes until SIGTERM or SIGINT; return 0 if all of them stopped cleanly."""
    try:
        listening = open_listeners(settings.host, settings.port)
    except OSError as error:
        log.error("gateway.cannot_listen", extra={"reason": str(error)})
        return 1
    with tempfile.TemporaryDirectory(prefix="gleaner-gateway-") as name:
        folder = Path(name)
        multiprocess.store_in_files(folder, "parent")
        parent_registry, merged_registry = CollectorRegistry(), CollectorRegistry()
        parent = ProcessSupervisor(settings, listening, folder, ProcessesMetrics(parent_registry))
        merged_registry.register(multiprocess.TotalsCollector(folder))
        register_process_metrics(merged_registry, multiprocess.ProcessTreeCollector(parent.pids))
        with run_background_services(
            settings, merged_registry, UpkeepMetrics(parent_registry), parent.stall_reason, parent.is_serving
        ):
            return asyncio.run(parent.run(count))


@dataclass
class _Child:
    """A running child.

    Attributes:
        last_heartbeat_at: time of its last heartbeat, or of its start.
        is_serving: it has sent a heartbeat.
        killed: it was silent for too long.
    """

    process: asyncio.subprocess.Process
    last_heartbeat_at: float
    is_serving: bool = False
    killed: bool = False


class ProcessSupervisor:
    """Starts, watches and restarts the children.

    Args:
        settings: read once by the caller; each child reads them again.
        listening: sockets that the children accept from.
        folder: folder of the metrics files.
        metrics: the parent's own metrics.
    """

    def __init__(
        self, settings: GatewaySettings, listening: list[socket.socket], folder: Path, metrics: ProcessesMetrics
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._folder = folder
        self._metrics = metrics
        self._children: dict[int, _Child] = {}
        self._stopping = asyncio.Event()
        self._kill_at = float("inf")
        self._checked_at = time.monotonic()
        self._has_served = False

    def pids(self) -> list[int]:
        """Return the process ids of the running children."""
        return [child.process.pid for child in list(self._children.values())]

    def stall_reason(self) -> str | None:
        """Return the reason to restart the gateway, or None; the parent itself restarts a stalled child."""
        silent = time.monotonic() - self._checked_at
        return f"the processes have not been checked for {silent:.0f} s" if silent > STALLED_S else None

    def is_serving(self) -> bool:
        """Return whether requests are accepted; one serving child is enough, because all share the sockets."""
        return not self._stopping.is_set() and any(child.is_serving for child in list(self._children.values()))

    async def run(self, count: int) -> int:
        """Keep `count` children running until a signal; return 0 if all of them stopped cleanly."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._forward_signal, number)
        watchdog = asyncio.create_task(self._kill_overdue_children(), name="watchdog")
        codes = await asyncio.gather(*(self._keep_child_running(number) for number in range(count)))
        watchdog.cancel()
        return int(any(codes))

    async def _keep_child_running(self, number: int) -> int:
        """Restart this child until shutdown; return the last one's exit code."""
        delay_s = 0.0
        while not self._stopping.is_set():
            child = await self._run_child(number)
            code = child.process.returncode or 0
            if self._stopping.is_set():
                return 0 if code == -signal.SIGTERM else code  # signalled before it had started
            if not self._has_served:  # and a restart would not help: it has logged why
                self._begin_shutdown()
                return 1
            reason = "stalled" if child.killed else "died"
            facts = {"place": number, "pid": child.process.pid, "reason": reason, "exit_code": code}
            log.error("gateway.process_ended", extra=facts)
            self._metrics.ended.labels(reason).inc()
            delay_s = 0.0 if child.is_serving else min(_MAX_RESTART_DELAY_S, 2 * delay_s or 1.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
        return 0

    async def _run_child(self, number: int) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            child = self._children[number] = _Child(await self._spawn_child(number, theirs), time.monotonic())
        if self._stopping.is_set():
            child.process.terminate()
        reader, writer = await asyncio.open_connection(sock=ours)
        while await reader.read(64):
            child.last_heartbeat_at = time.monotonic()
            child.is_serving = self._has_served = True
            self._update_serving_metric()
        writer.close()
        await child.process.wait()
        del self._children[number]
        multiprocess.drop_live_values(self._folder, str(number))
        self._update_serving_metric()
        return child

    async def _spawn_child(self, number: int, heartbeats: socket.socket) -> asyncio.subprocess.Process:
        listener_fds = tuple(listener.fileno() for listener in self._listening)
        config = ChildConfig(
            number=number, heartbeat_fd=heartbeats.fileno(), listener_fds=listener_fds, folder=self._folder
        )
        environment = dict(os.environ)
        if self._settings.log_file:  # processes that rotate one file would lose each other's lines
            log_file = Path(self._settings.log_file)
            environment["GLEANER_LOG_FILE"] = str(log_file.with_stem(f"{log_file.stem}-{number}"))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.child", config.model_dump_json()),
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=(config.heartbeat_fd, *listener_fds),
            start_new_session=True,  # a terminal's Ctrl-C is for the parent; children would count it twice
        )

    async def _kill_overdue_children(self) -> None:
        while True:
            self._checked_at = now = time.monotonic()
            for child in self._children.values():
                silent = not self._stopping.is_set() and now - child.last_heartbeat_at > STALLED_S
                if (silent or now > self._kill_at) and child.process.returncode is None:
                    child.killed = True
                    child.process.kill()
            await asyncio.sleep(_CHECK_EVERY_S)

    def _forward_signal(self, number: signal.Signals) -> None:
        """Begin the shutdown at the first signal; forward a second SIGINT, which ends the drain."""
        if not self._stopping.is_set():
            self._begin_shutdown()
        elif number == signal.SIGINT:
            self._signal_children(signal.SIGINT)

    def _begin_shutdown(self) -> None:
        self._stopping.set()
        self._kill_at = time.monotonic() + self._settings.shutdown_grace_s + OVERDUE_S
        for listener in self._listening:
            listener.close()  # or the system would queue connections that no process accepts
        self._signal_children(signal.SIGTERM)

    def _signal_children(self, number: signal.Signals) -> None:
        for child in self._children.values():
            if child.process.returncode is None:
                child.process.send_signal(number)

    def _update_serving_metric(self) -> None:
        self._metrics.serving.set(sum(child.is_serving for child in self._children.values()))


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Return one listening socket for each address of the host, as an event loop would.

    Raises:
        OSError: the port is taken, or the host is not this machine's.
    """
    entries = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = dict.fromkeys((family, address) for family, _, _, _, address in entries)
    return [socket.create_server(address, family=family, backlog=_BACKLOG) for family, address in addresses]
