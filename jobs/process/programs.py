"""`python -m jobs.process.programs FD`: runs programs for its parent process, which controls it over a socket.

The parent sends JSON lines: first the programs and the folder of their logs, then requests, each of which is
answered with the state of all programs. At SIGTERM, or when the socket closes because the parent was killed, the
programs are stopped in order. `jobs.process.parent_death` ends them if this process is killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobs.process import parent_death
from jobs.process.supervisor import Child, StopGroup, Supervisor

log = logging.getLogger(__name__)

LOG_BYTES: Final = 10_000_000
LOG_BACKUPS: Final = 3
_LINE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Program:
    """A program as the parent describes it.

    Attributes:
        name: unique; also the name of its log.
        command: arguments of `jobs.process.parent_death`.
        environment: variables in addition to those of this process.
        priority: programs with the highest one stop first; those with the same at the same time.
        settle_s: an exit sooner than this after the start counts as a failed start, in seconds.
        grace_s: seconds it may take to stop before it is killed.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    priority: int
    settle_s: float
    grace_s: float


class LogFile:
    """A program's log, rotated when it exceeds `limit` bytes; `LOG_BACKUPS` older ones are kept.

    Output that cannot be written, for example to a full disk, is lost: a program waiting for its log would hang.
    """

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path = path
        self._limit = limit
        self._file = path.open("ab", buffering=0)
        self._is_losing = False

    def write(self, data: bytes) -> None:
        """Append output, if that is possible."""
        try:
            if self._file.closed:
                self._file = self._path.open("ab", buffering=0)
            if self._file.tell() + len(data) > self._limit:
                self._rotate()
            self._file.write(data)
            self._is_losing = False
        except OSError as error:
            if not self._is_losing:
                log.warning("%s: output is lost: %s", self._path.name, error)
            self._is_losing = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        paths = [self._path, *(self._path.with_name(f"{self._path.name}.{n + 1}") for n in range(LOG_BACKUPS))]
        for older, newer in zip(paths[:0:-1], paths[-2::-1], strict=True):
            if newer.exists():
                newer.replace(older)
        self._file = self._path.open("ab", buffering=0)


class ProgramSupervisor(Supervisor):
    """Runs the programs that are started by request, and writes their output to logs."""

    def __init__(self, programs: Sequence[Program], logs: Path) -> None:
        super().__init__()
        self._programs = {program.name: program for program in programs}
        self._logs = {program.name: LogFile(logs / f"{program.name}.log") for program in programs}

    async def spawn_child(self, name: str, channel: socket.socket) -> asyncio.subprocess.Process:
        """Start a program that ends with this process and writes its output to `channel`."""
        program = self._programs[name]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", parent_death.__file__, *program.command),
            env={**os.environ, **program.environment, parent_death.PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=channel.fileno(),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def has_started(self, child: Child) -> bool:
        """Return whether the program has run for its settling time."""
        return time.monotonic() - child.started_at >= self._programs[child.name].settle_s

    def receive_data(self, child: Child, data: bytes) -> None:
        """Log a program's output."""
        self._logs[child.name].write(data)

    def note_end(self, child: Child) -> None:
        """Log the end of a program."""
        facts = (child.name, child.process.pid, child.process.returncode, self.failures[child.name])
        log.info("%s: process %d ended with %d; failed starts: %d", *facts)

    async def answer_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the parent's requests until the socket closes."""
        try:
            while line := await reader.readline():
                request = json.loads(line)
                if "start" in request:
                    await self.start_child(request["start"])
                answer = {"number": request["number"], "children": self._list_states()}
                writer.write(json.dumps(answer).encode() + b"\n")
        finally:
            self.begin_shutdown()

    def _list_states(self) -> list[dict[str, Any]]:
        children = self.children
        return [
            {
                "name": name,
                "pid": children[name].process.pid if name in children else 0,
                "failures": self.failures.get(name, 0),
            }
            for name in self._programs
        ]


def plan_stop(programs: Iterable[Program]) -> list[StopGroup]:
    """Return the programs in the order in which they are stopped."""
    groups: dict[int, list[Program]] = defaultdict(list)
    for program in programs:
        groups[program.priority].append(program)
    return [
        StopGroup(tuple(program.name for program in group), max(program.grace_s for program in group))
        for _, group in sorted(groups.items(), reverse=True)
    ]


async def run_programs(control: socket.socket) -> int:
    """Run the programs that the parent describes until it stops or dies; return 0 if all stopped cleanly."""
    reader, writer = await asyncio.open_connection(sock=control, limit=_LINE_BYTES)
    request = json.loads(await reader.readline())
    programs = [Program(**item) for item in request["programs"]]
    supervisor = ProgramSupervisor(programs, Path(request["logs"]))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.begin_shutdown)
    answering = asyncio.create_task(supervisor.answer_requests(reader, writer), name="requests")
    code = await supervisor.run(plan_stop(programs))
    answering.cancel()
    return code


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    sys.exit(asyncio.run(run_programs(socket.socket(fileno=int(sys.argv[1])))))
