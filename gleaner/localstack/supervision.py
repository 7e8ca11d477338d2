"""Supervisor as our child: start it, ask it about its children, stop it, leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from xmlrpc.client import Fault, ServerProxy, Transport

from gleaner.localstack import orphans
from gleaner.localstack import programs as plan
from gleaner.localstack.child import PARENT
from gleaner.localstack.datadir import SOCKET_PATH_LIMIT, DataDir, write_private
from gleaner.localstack.errors import MissingExtra, StartFailed
from gleaner.localstack.orphans import MARK
from gleaner.localstack.programs import Program

_START_LIMIT_S: Final = 15.0
_RPC_TIMEOUT_S: Final = 10.0
_USER: Final = "gleaner"
_SOCKET: Final = "s"


@dataclass(frozen=True, slots=True)
class Child:
    """A program as supervisor sees it.

    Attributes:
        pid: 0 while it does not run.
        state: supervisor's word: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL, UNKNOWN.
    """

    name: str
    pid: int
    state: str


class Supervision:
    """A supervisord that lives no longer than this process.

    The kernel's parent-death signal comes when the *thread* that started it ends, so start it from one that
    lives as long as the stack: the main thread.

    Args:
        directory: where configuration and logs go.
        programs: what it runs; nothing is started before `launch`.
        environment: what every program gets.
    """

    def __init__(self, directory: DataDir, programs: Iterable[Program], environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._programs = tuple(programs)
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._private: Path | None = None
        self._rpc: Any = None
        self._transport: _UnixTransport | None = None
        self._mark = secrets.token_hex(8)

    def start(self) -> None:
        """Start supervisord, without any program yet.

        Raises:
            StartFailed: it ended at once or does not answer.
        """
        if find_spec("supervisor") is None:
            raise MissingExtra("supervisor")
        password = secrets.token_hex(16)
        self._private = private = _private_directory()
        rpc_socket = private / _SOCKET
        # A link, because supervisor expands `%` in a log's path twice, and the user's path may have one.
        (private / "logs").symlink_to(self._directory.logs)
        conf = self._directory.run / "supervisord.conf"
        write_private(conf, plan.supervisor_conf(self._programs, _USER, password))
        command = [*plan.CHILD, "{GLEANER_STACK_PYTHON}", "-m", "supervisor.supervisord", "-n", "-c", str(conf)]
        environment = {
            **self._environment,
            **plan.base_environment(),
            PARENT: str(os.getpid()),
            MARK: self._mark,
            "GLEANER_STACK_PRIVATE": str(private),
        }
        with self._directory.log("supervisord.err").open("wb") as errors:
            self._process = subprocess.Popen(
                [environment.get(part.strip("{}"), part) for part in command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # a terminal's Ctrl-C is ours to turn into an orderly stop
            )
        self._transport = _UnixTransport(rpc_socket)
        self._rpc = ServerProxy(f"http://{_USER}:{password}@localhost", transport=self._transport)
        self._await_answer()

    @property
    def alive(self) -> bool:
        """True while supervisord runs."""
        return self._process is not None and self._process.poll() is None

    def launch(self, name: str) -> None:
        """Start a program, or start it again after it was given up. Harmless if it runs."""
        with contextlib.suppress(Fault):
            self._rpc.supervisor.startProcess(f"{self._kind(name)}s:{name}", False)

    def children(self) -> dict[str, Child] | None:
        """Every program's state by name; None while supervisord does not answer, as when it stops."""
        try:
            listed = self._rpc.supervisor.getAllProcessInfo()
        except (OSError, HTTPException, Fault):
            return None
        return {item["name"]: Child(item["name"], item["pid"], item["statename"]) for item in listed}

    def stop(self) -> None:
        """Stop the programs in order, each with its grace, then supervisord; nothing is left when it returns."""
        if self._process is not None:
            grace_s = sum({program.kind: program.grace_s for program in self._programs}.values()) + 30.0
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            # Only a supervisord that was killed leaves any; the kernel has asked them to end.
            orphans.end(self._mark, max(program.grace_s for program in self._programs))
        if self._transport is not None:
            self._transport.close()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)

    def kill(self) -> None:
        """End everything without grace; `stop` then returns soon. The server keeps its file in order even so."""
        orphans.send(self._mark, signal.SIGKILL)

    def _kind(self, name: str) -> str:
        return next(program.kind for program in self._programs if program.name == name)

    def _await_answer(self) -> None:
        end = time.monotonic() + _START_LIMIT_S
        while self.alive and time.monotonic() < end:
            if self.children() is not None:
                return
            time.sleep(0.05)
        raise StartFailed(f"supervisord did not start; see {self._directory.logs}")


def _private_directory() -> Path:
    """A directory short enough for a socket in it, mode 700."""
    directory = tempfile.mkdtemp(prefix="gleaner-")
    if len(directory) + len(_SOCKET) + 2 < SOCKET_PATH_LIMIT:
        return Path(directory)
    Path(directory).rmdir()
    return Path(tempfile.mkdtemp(prefix="gleaner-", dir="/tmp"))  # nosec B108


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_RPC_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.settimeout(self.timeout)
            connected.connect(str(self._path))
        except BaseException:
            connected.close()
            raise
        self.sock = connected


class _UnixTransport(Transport):
    """XML-RPC to a unix socket; supervisor's own transport leaves sockets open when it cannot connect."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._open: _UnixConnection | None = None

    def make_connection(self, host: Any) -> HTTPConnection:
        _, self._extra_headers, _ = self.get_host_info(host)
        self._open = self._open or _UnixConnection(self._path)
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
