"""Run the supervisor, `jobs.process.programs`, as a child process: start it, query its programs, stop it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gleaner.localstack.datadir import DataDir
from gleaner.localstack.errors import StartFailed
from gleaner.localstack.programs import Program

_ANSWER_LIMIT_S: Final = 15.0
_GIVE_UP_AFTER: Final = 6
MARK: Final = "GLEANER_STACK_ID"
"""Environment variable: a random word that every process of a stack inherits, so that orphans can be found."""


@dataclass(frozen=True, slots=True)
class ProgramState:
    """State of a program.

    Attributes:
        pid: process id, 0 while it does not run.
        failures: number of failed starts in a row.
    """

    name: str
    pid: int
    failures: int

    @property
    def is_failing(self) -> bool:
        """True once several starts in a row have failed; the next ones are 30 seconds apart."""
        return self.failures >= _GIVE_UP_AFTER


class SupervisorProcess:
    """A supervisor process that ends when this process does, with all programs.

    Args:
        directory: folder of the logs.
        programs: the programs to run; none is started before `launch_program`.
        environment: environment variables of every program.
    """

    def __init__(self, directory: DataDir, programs: Iterable[Program], environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._programs = tuple(programs)
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._mark = secrets.token_hex(8)
        self._number = 0
        self._received = b""

    def start(self) -> None:
        """Start the supervisor, without any program.

        Raises:
            StartFailed: it exited at once or does not respond.
        """
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_ANSWER_LIMIT_S)
        with theirs, self._directory.log_path("supervisor").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jobs.process.programs", str(theirs.fileno())],
                env={**self._environment, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # so that Ctrl-C reaches only this process, which then stops in order
            )
        programs = [program.to_json() for program in self._programs]
        with contextlib.suppress(OSError):
            self._send_line({"programs": programs, "logs": str(self._directory.logs)})
        if self.list_children() is None:
            raise StartFailed(f"the supervisor did not start; see {self._directory.log_path('supervisor')}")

    @property
    def is_alive(self) -> bool:
        """True while the supervisor runs."""
        return self._process is not None and self._process.poll() is None

    def launch_program(self, name: str) -> None:
        """Start a program. Does nothing if it was started before."""
        self._request({"start": name})

    def list_children(self) -> dict[str, ProgramState] | None:
        """Return every program's state by name, or None if the supervisor does not respond."""
        return self._request({})

    def stop(self) -> None:
        """Stop the programs in order, each with its grace period; return when all processes have ended."""
        if self._process is not None:
            grace_s = sum({program.kind: program.grace_s for program in self._programs}.values()) + 30.0
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            # Processes are left only if the supervisor was killed; the kernel has sent them SIGTERM.
            end_processes(self._mark, max(program.grace_s for program in self._programs))
        if self._socket is not None:
            self._socket.close()

    def kill(self) -> None:
        """Kill everything without a grace period; the server's data stays consistent. Call `stop` afterwards."""
        signal_processes(self._mark, signal.SIGKILL)

    def _request(self, request: Mapping[str, Any]) -> dict[str, ProgramState] | None:
        self._number += 1
        try:
            self._send_line({**request, "number": self._number})
            answer = self._receive_answer()
        except OSError:
            return None
        return {item["name"]: ProgramState(**item) for item in answer} if answer is not None else None

    def _send_line(self, request: Mapping[str, Any]) -> None:
        if self._socket is None:
            raise ConnectionError("the supervisor was not started")
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def _receive_answer(self) -> list[dict[str, Any]] | None:
        """Return the children in the answer to the latest request, or None if the supervisor has ended."""
        while self._socket is not None:
            while b"\n" in self._received:
                line, _, self._received = self._received.partition(b"\n")
                answer = json.loads(line)
                if answer["number"] == self._number:  # and not one that came after its time limit
                    children: list[dict[str, Any]] = answer["children"]
                    return children
            received = self._socket.recv(1 << 16)
            if not received:
                return None
            self._received += received
        return None


def find_processes(mark: str) -> list[int]:
    """Return the ids of the stack's processes that are still running."""
    variable = f"{MARK}={mark}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            # The process may have ended meanwhile, be a zombie, or belong to another user.
            with contextlib.suppress(OSError):
                if variable in (entry / "environ").read_bytes().split(b"\0"):
                    pids.append(int(entry.name))
    return pids


def signal_processes(mark: str, signal_number: int) -> None:
    """Send a signal to all processes of the stack."""
    for pid in find_processes(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def end_processes(mark: str, grace_s: float) -> None:
    """Wait until no process of the stack is left; kill those that are still running after `grace_s` seconds."""
    deadline = time.monotonic() + grace_s
    while find_processes(mark):
        if time.monotonic() > deadline:
            signal_processes(mark, signal.SIGKILL)
        time.sleep(0.05)
