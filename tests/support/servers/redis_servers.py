"""Real Redis-protocol servers for tests: binary in, running child process on a unix socket out."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

SOCKET_PATH_LIMIT = 108
"""Bytes of a unix socket's path, its closing NUL included (sockaddr_un)."""
_START_LIMIT_S = 10.0
_STOP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running server of the tests' own."""

    socket: Path
    process: subprocess.Popen[bytes]

    def url(self, db: int) -> str:
        """Return the URL of a database."""
        return f"unix://{self.socket}?db={db}"

    def flush(self) -> None:
        """Forget everything, so that no test sees another's keys."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            client.flushall()


@contextmanager
def redis_server_at(binary: Path, *options: str) -> Iterator[RedisServer]:
    """Run a server like the local stack's (append-only file, noeviction, hz 500) until the block ends.

    The directory lies under /tmp whatever TMPDIR says, because a socket's path has a limit. The child dies
    with its parent where `setpriv` exists, so that a killed test run leaves nothing behind.

    Args:
        binary: a `valkey-server` or `redis-server`.
        options: more of its command line; a later option wins.

    Raises:
        RuntimeError: it did not come up; the message ends with its log.
    """
    directory = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
    log = directory / "server.log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                _command(binary, directory, options),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches pytest first, which then stops the server
            )
        server = RedisServer(directory / "s", process)
        try:
            _await_ping(server, log)
            yield server
        finally:
            _stop(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _command(binary: Path, directory: Path, options: tuple[str, ...]) -> list[str]:
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    socket = directory / "s"
    if len(bytes(socket)) >= SOCKET_PATH_LIMIT:
        raise RuntimeError(f"the socket's path is too long: {socket}")
    settings = {
        "--dir": str(directory),
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
        "--hz": "500",
        "--daemonize": "no",
    }
    return [*guard, str(binary), *(part for pair in settings.items() for part in pair), *options]


def _await_ping(server: RedisServer, log: Path) -> None:
    end = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < end and server.process.poll() is None:
        try:
            with redis.Redis(unix_socket_path=str(server.socket)) as client:
                client.ping()
        except redis.ConnectionError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
