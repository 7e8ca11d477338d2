"""Run supervisord as a child process: start it, query its programs, stop it with all of them."""

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
from gleaner.localstack.child import PARENT
from gleaner.localstack.datadir import SOCKET_PATH_LIMIT, DataDir, write_private
from gleaner.localstack.errors import MissingExtra, StartFailed
from gleaner.localstack.orphans import MARK
from gleaner.localstack.programs import CHILD, Program, format_supervisor_conf, supervisor_environment

_START_LIMIT_S: Final = 15.0
_RPC_TIMEOUT_S: Final = 10.0
_USER: Final = "gleaner"
_SOCKET: Final = "s"


@dataclass(frozen=True, slots=True)
class Child:
    """State of a program in supervisor.

    Attributes:
        pid: process id, 0 while it does not run.
        state: supervisor's: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL, UNKNOWN.
    """

    name: str
    pid: int
    state: str


class Supervision:
    """A supervisord that ends when this process does.

    The kernel sends the parent-death signal when the *thread* that started it ends, so start it from a thread that
    runs as long as the stack: the main thread.

    Args:
        directory: folder of configuration and logs.
        programs: the programs to run; none is started before `launch_program`.
        environment: environment variables of every program.
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
        """Start supervisord, without any program.

        Raises:
            StartFailed: it exited at once or does not respond.
        """
        if find_spec("supervisor") is None:
            raise MissingExtra("supervisor")
        password = secrets.token_hex(16)
        self._private = private = _private_directory()
        rpc_socket = private / _SOCKET
        # A link, because supervisor expands `%` in the path of a log twice, and the user's path may contain one.
        (private / "logs").symlink_to(self._directory.logs)
        conf = self._directory.run / "supervisord.conf"
        write_private(conf, format_supervisor_conf(self._programs, _USER, password))
        command = [*CHILD, "{GLEANER_STACK_PYTHON}", "-m", "supervisor.supervisord", "-n", "-c", str(conf)]
        environment = {
            **self._environment,
            **supervisor_environment(),
            PARENT: str(os.getpid()),
            MARK: self._mark,
            "GLEANER_STACK_PRIVATE": str(private),
        }
        with self._directory.log_path("supervisord.err").open("wb") as errors:
            self._process = subprocess.Popen(
                [environment.get(part.strip("{}"), part) for part in command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # so that Ctrl-C reaches only this process, which then stops in order
            )
        self._transport = _UnixTransport(rpc_socket)
        self._rpc = ServerProxy(f"http://{_USER}:{password}@localhost", transport=self._transport)
        self._await_answer()

    @property
    def is_alive(self) -> bool:
        """True while supervisord runs."""
        return self._process is not None and self._process.poll() is None

    def launch_program(self, name: str) -> None:
        """Start a program, also after supervisor gave up restarting it. Does nothing if it runs."""
        with contextlib.suppress(Fault):
            self._rpc.supervisor.startProcess(f"{self._kind_of(name)}s:{name}", False)

    def list_children(self) -> dict[str, Child] | None:
        """Return every program's state by name, or None if supervisord does not respond (it may be stopping)."""
        try:
            processes = self._rpc.supervisor.getAllProcessInfo()
        except (OSError, HTTPException, Fault):
            return None
        return {item["name"]: Child(item["name"], item["pid"], item["statename"]) for item in processes}

    def stop(self) -> None:
        """Stop the programs in order, each with its grace period, then supervisord; return when all have ended."""
        if self._process is not None:
            grace_s = sum({program.kind: program.grace_s for program in self._programs}.values()) + 30.0
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            # Processes are left only if supervisord was killed; the kernel has sent them SIGTERM.
            orphans.end_processes(self._mark, max(program.grace_s for program in self._programs))
        if self._transport is not None:
            self._transport.close()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)

    def kill(self) -> None:
        """Kill everything without a grace period; the server's data stays consistent. Call `stop` afterwards."""
        orphans.signal_processes(self._mark, signal.SIGKILL)

    def _kind_of(self, name: str) -> str:
        return next(program.kind for program in self._programs if program.name == name)

    def _await_answer(self) -> None:
        end = time.monotonic() + _START_LIMIT_S
        while self.is_alive and time.monotonic() < end:
            if self.list_children() is not None:
                return
            time.sleep(0.05)
        raise StartFailed(f"supervisord did not start; see its logs in {self._directory.logs}")


def _private_directory() -> Path:
    """Create a directory, mode 700, whose path is short enough for a socket in it."""
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
        unix_socket = socket.socket(socket.AF_UNIX)
        try:
            unix_socket.settimeout(self.timeout)
            unix_socket.connect(str(self._path))
        except BaseException:
            unix_socket.close()
            raise
        self.sock = unix_socket


class _UnixTransport(Transport):
    """XML-RPC over a unix socket; supervisor's transport leaves sockets open when it cannot connect."""

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
