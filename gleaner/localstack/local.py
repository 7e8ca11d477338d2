"""`LocalStack`: start and stop the whole service on this machine.

start: lock the directory -> server -> other programs -> ready -> stack.json.  stop: the same in reverse order.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx

from gleaner.localstack import plan, ports, server
from gleaner.localstack.datadir import DataDir, Lock, write_private
from gleaner.localstack.errors import AlreadyRunning, Interrupted, MissingExtra, StackError, StartFailed
from gleaner.localstack.plan import StackOptions, StackPlan
from gleaner.localstack.programs import COURIER, FLOWER, GATEWAY, SERVER, WORKER, Program
from gleaner.localstack.supervisor import ProgramState, SupervisorProcess

_POLL_S: Final = 0.2
_LOG_LINES: Final = 15
_PREVIOUS_STOP_LIMIT_S: Final = 120.0

EventKind = Literal["starting", "ready", "ended", "restarted", "given_up", "stopping", "waiting"]


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a process to be shown to the user: kind, name of the process, and a sentence."""

    kind: EventKind
    name: str
    text: str


class LocalStack:
    """Server, gateway, workers, courier and Flower as child processes that end when this process does.

    A context manager: ready inside the block, stopped after it. Start it from the main thread, because the children
    end with the thread that started them.

    Args:
        options: see `StackOptions`.
        on_event: called with each event, in the calling thread.
        stop_requested: set it to make a running `start` raise `Interrupted`, and `watch_children` return.
        environment: settings for the children in addition to this process's.
    """

    def __init__(
        self,
        options: StackOptions | None = None,
        *,
        on_event: Callable[[Event], None] = lambda _event: None,
        stop_requested: threading.Event | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.options = options or StackOptions()
        self.directory = DataDir(self.options.data_dir)
        self._on_event = on_event
        self._stop_requested = stop_requested or threading.Event()
        self._environment = {**os.environ, **(environment or {})}
        self._lock = Lock(self.directory.run / "stack.lock")
        self._plan: StackPlan | None = None
        self._supervisor: SupervisorProcess | None = None
        self._children: dict[str, ProgramState] = {}

    @property
    def facts(self) -> Mapping[str, Any]:
        """Content of stack.json without process ids: URLs, Flower's password, metrics."""
        if self._plan is None:
            raise StackError("the stack was not started")
        return self._plan.facts

    @property
    def key(self) -> str:
        """The admin key."""
        return self.directory.admin_key.read_text().strip()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; return when it is ready and stack.json is written.

        Raises:
            StackError: see `gleaner.localstack.errors`; no process is left running.
        """
        try:
            self._start_programs()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Drain and stop everything. Does nothing if nothing runs."""
        if self._supervisor is not None:
            self.directory.stack_file.unlink(missing_ok=True)
            self._emit_event("stopping", "stack", "finishing running work")
            self._supervisor.stop()
            self._supervisor = None
        self._lock.release()

    def kill(self) -> None:
        """Kill everything without draining; for the user who presses Ctrl-C twice."""
        if self._supervisor is not None:
            self._supervisor.kill()

    def watch_children(self) -> None:
        """Keep stack.json up to date and report changes of the children, until `stop_requested` is set.

        Raises:
            StackError: the supervisor exited.
        """
        while not self._stop_requested.wait(_POLL_S):
            self.check_children()

    def check_children(self) -> None:
        """Check the children once, and report changes.

        Raises:
            StackError: the supervisor exited.
        """
        supervisor = self._require_running()
        now = supervisor.list_children()
        if now is None:
            if supervisor.is_alive:
                return
            raise StackError(f"the supervisor exited; see {self.directory.log_path('supervisor')}")
        before, self._children = self._children, now
        for child in now.values():
            self._report_change(before.get(child.name, child), child)
        if any(child.pid != now[child.name].pid for child in before.values()):
            self._write_stack()

    def _start_programs(self) -> None:
        _require_packages()
        self.directory.create_folders()
        if not self._lock.acquire():
            root = self.directory.root
            raise AlreadyRunning(f"a stack is already running in {root}; stop it, or choose another --data-dir")
        self.directory.stack_file.unlink(missing_ok=True)
        self._await_previous_server()
        if self.options.port:
            ports.require_free(self.options.port)
        self.directory.ensure_admin_key()
        self._plan = new_plan = plan.make_plan(self.options, self.directory, self._environment)
        self._supervisor = SupervisorProcess(self.directory, new_plan.programs, new_plan.environment)
        self._supervisor.start()
        programs = list(new_plan.programs)
        if new_plan.has_embedded_server:
            ledger_url = new_plan.urls.ledger_url
            self._launch_programs([programs.pop(0)], lambda _program: server.connection_error(ledger_url) is None)
        with httpx.Client(trust_env=False, timeout=2.0) as http:
            self._launch_programs(programs, lambda program: _is_ready(http, program))
        self._write_stack()

    def _launch_programs(self, programs: list[Program], ready: Callable[[Program], bool]) -> None:
        """Start programs and wait until all are ready."""
        for program in programs:
            self._emit_event("starting", program.name, "starting")
            self._require_running().launch_program(program.name)
        end = time.monotonic() + self.options.ready_timeout_s
        waiting = list(programs)
        first_pids: dict[str, int] = {}
        while True:
            self._children = self._require_running().list_children() or {}
            for program in waiting:
                self._require_alive(program, first_pids)
            for program in filter(ready, tuple(waiting)):
                waiting.remove(program)
                self._emit_event("ready", program.name, "ready")
            if not waiting:
                return
            if time.monotonic() > end:
                late = ", ".join(program.name for program in waiting)
                limit = f"{self.options.ready_timeout_s:g} s"
                raise StartFailed(f"not ready after {limit}: {late}{self._log_tail(waiting[0].name)}")
            self._sleep_or_interrupt()

    def _require_alive(self, program: Program, first_pids: dict[str, int]) -> None:
        child = self._children.get(program.name)
        if child is None:
            raise StartFailed(f"the supervisor exited; see {self.directory.log_path('supervisor')}")
        first = first_pids.setdefault(program.name, child.pid)
        if child.pid != first or not child.pid:
            raise StartFailed(f"{program.name} exited during start-up{self._log_tail(program.name)}")

    def _log_tail(self, name: str) -> str:
        path = self.directory.log_path(name)
        lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:] if path.exists() else []
        return f"; last lines of {path}:\n" + "\n".join(f"  {line}" for line in lines)

    def _await_previous_server(self) -> None:
        """Wait until the server of a killed stack, which may still be draining, releases the directory."""
        lock = Lock(self.directory.server_lock)
        end = time.monotonic() + _PREVIOUS_STOP_LIMIT_S
        is_announced = False
        while not lock.acquire():
            if time.monotonic() > end:
                raise AlreadyRunning(
                    f"the server of an earlier stack is still running in {self.directory.root}; stop it"
                )
            if not is_announced:
                self._emit_event("waiting", "stack", "an earlier stack is still stopping")
                is_announced = True
            self._sleep_or_interrupt()
        lock.release()

    def _sleep_or_interrupt(self) -> None:
        if self._stop_requested.wait(_POLL_S):
            raise Interrupted("stopped while starting")

    def _report_change(self, before: ProgramState, now: ProgramState) -> None:
        log = self.directory.log_path(now.name)
        if before.pid and now.pid and before.pid != now.pid:
            self._emit_event("restarted", now.name, f"exited, restarted as process {now.pid}; log: {log}")
        elif before.pid and not now.pid:
            self._emit_event("ended", now.name, f"exited, will be restarted; log: {log}")
        elif now.pid and not before.pid:
            self._emit_event("restarted", now.name, f"restarted as process {now.pid}")
        if now.is_failing and not before.is_failing:
            text = f"failed several times; next attempt in 30 s{self._log_tail(now.name)}"
            self._emit_event("given_up", now.name, text)

    def _write_stack(self) -> None:
        programs = self._plan.programs if self._plan else ()

        def pids_of(kind: str) -> list[int]:
            pids = (self._children[program.name].pid for program in programs if program.kind == kind)
            return [pid for pid in pids if pid]

        pids = {
            SERVER: next(iter(pids_of(SERVER)), None),
            **{kind: pids_of(kind) for kind in (GATEWAY, WORKER, COURIER)},
            FLOWER: next(iter(pids_of(FLOWER)), None),
        }
        write_private(self.directory.stack_file, json.dumps({**self.facts, "pids": pids}, indent=2) + "\n")

    def _require_running(self) -> SupervisorProcess:
        if self._supervisor is None:
            raise StackError("the stack is not running")
        return self._supervisor

    def _emit_event(self, kind: EventKind, name: str, text: str) -> None:
        self._on_event(Event(kind, name, text))


def _is_ready(http: httpx.Client, program: Program) -> bool:
    try:
        return program.ready_url is None or http.get(program.ready_url).status_code == 200
    except httpx.HTTPError:
        return False


def _require_packages() -> None:
    for package in ("redis", "fastapi", "celery", "gliner", "flower"):
        if find_spec(package) is None:
            raise MissingExtra(package)
