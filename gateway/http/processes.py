"""Supervises several gateway processes behind one port; the parent owns the port.

Each child (`gateway.child`) sends heartbeats from its event loop over a socket pair. A silent child is killed,
an ended one is restarted. All accept from the same listening sockets, so that the others take over the connections
of a dead child; with a socket per child (SO_REUSEPORT) the connections queued for it would be lost. uvicorn's
supervisor is not used: it pings a thread of the child, which answers while the event loop hangs, it creates the
server itself, and it leaves the children behind when it dies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from gateway.http.background_services import STALLED_S, run_background_services
from gateway.settings import GatewaySettings
from jobs.observability import multiprocess
from jobs.observability.metrics import ProcessesMetrics, UpkeepMetrics, register_process_metrics
from jobs.process.supervisor import Child, StopGroup, Supervisor

log = logging.getLogger(__name__)

HEARTBEAT_S = 1
OVERDUE_S = 5.0
"""A child that has not drained this long after its grace period is killed."""
_BACKLOG = 2048  # as uvicorn's


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
            return asyncio.run(parent.serve(count))


class ProcessSupervisor(Supervisor):
    """Runs the children.

    Args:
        settings: read once by the caller; each child reads them again.
        listening: sockets that the children accept from.
        folder: folder of the metrics files.
        metrics: the parent's own metrics.
    """

    def __init__(
        self, settings: GatewaySettings, listening: list[socket.socket], folder: Path, metrics: ProcessesMetrics
    ) -> None:
        super().__init__(silent_s=STALLED_S)
        self._settings = settings
        self._listening = listening
        self._folder = folder
        self._metrics = metrics
        self._has_served = False

    def pids(self) -> list[int]:
        """Return the process ids of the running children."""
        return [child.process.pid for child in list(self.children.values())]

    def stall_reason(self) -> str | None:
        """Return the reason to restart the gateway, or None; the parent itself restarts a stalled child."""
        silent = time.monotonic() - self.checked_at
        return f"the processes have not been checked for {silent:.0f} s" if silent > STALLED_S else None

    def is_serving(self) -> bool:
        """Return whether requests are accepted; one serving child is enough, because all share the sockets."""
        return not self.stopping.is_set() and any(map(self.has_started, list(self.children.values())))

    async def serve(self, count: int) -> int:
        """Keep `count` children running until a signal; return 0 if all of them stopped cleanly."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_signal, number)
        names = tuple(map(str, range(count)))
        await asyncio.gather(*map(self.start_child, names))
        return await self.run([StopGroup(names, self._settings.shutdown_grace_s + OVERDUE_S)])

    async def spawn_child(self, name: str, channel: socket.socket) -> asyncio.subprocess.Process:
        """Start a child that sends its heartbeats on `channel`."""
        listener_fds = tuple(listener.fileno() for listener in self._listening)
        config = ChildConfig(
            number=int(name), heartbeat_fd=channel.fileno(), listener_fds=listener_fds, folder=self._folder
        )
        environment = dict(os.environ)
        if self._settings.log_file:  # processes that rotate one file would lose each other's lines
            log_file = Path(self._settings.log_file)
            environment["GLEANER_LOG_FILE"] = str(log_file.with_stem(f"{log_file.stem}-{name}"))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.child", config.model_dump_json()),
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=(config.heartbeat_fd, *listener_fds),
            start_new_session=True,  # a terminal's Ctrl-C is for the parent; children would count it twice
        )

    def has_started(self, child: Child) -> bool:
        """Return whether the child serves: it sends the first heartbeat then."""
        return child.data_at is not None

    def receive_data(self, child: Child, data: bytes) -> None:
        """Count a child that has sent a heartbeat as serving."""
        self._has_served = True
        self._update_serving_metric()

    def note_end(self, child: Child) -> None:
        """Report a child's end; shut down if no child has served yet, since a restart would not help."""
        multiprocess.drop_live_values(self._folder, child.name)
        self._update_serving_metric()
        if self.stopping.is_set():
            return
        if not self._has_served:  # the child has logged why
            self.begin_shutdown()
            return
        reason = "stalled" if child.killed else "died"
        code = child.process.returncode
        facts = {"place": int(child.name), "pid": child.process.pid, "reason": reason, "exit_code": code}
        log.error("gateway.process_ended", extra=facts)
        self._metrics.ended.labels(reason).inc()

    def begin_shutdown(self) -> None:
        """Stop accepting connections, then stop the children."""
        super().begin_shutdown()
        for listener in self._listening:
            listener.close()  # or the system would queue connections that no process accepts

    def handle_signal(self, number: signal.Signals) -> None:
        """Begin the shutdown at the first signal; forward a second SIGINT, which ends the drain."""
        if not self.stopping.is_set():
            self.begin_shutdown()
        elif number == signal.SIGINT:
            self.signal_children(signal.SIGINT, tuple(self.children))

    def _update_serving_metric(self) -> None:
        self._metrics.serving.set(sum(map(self.has_started, self.children.values())))


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Return one listening socket for each address of the host, as an event loop would.

    Raises:
        OSError: the port is taken, or the host is not this machine's.
    """
    entries = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = dict.fromkeys((family, address) for family, _, _, _, address in entries)
    return [socket.create_server(address, family=family, backlog=_BACKLOG) for family, address in addresses]
