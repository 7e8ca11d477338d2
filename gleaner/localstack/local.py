"""`LocalStack`: the whole service on this machine, from nothing to ready, and back to nothing.

start: lock the directory -> server -> the others -> ready -> stack.json.  stop: the same backwards.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx

from gleaner.localstack import datadir, plan, ports, server
from gleaner.localstack.datadir import DataDir, Lock
from gleaner.localstack.errors import AlreadyRunning, Interrupted, MissingExtra, StackError, StartFailed
from gleaner.localstack.plan import Blueprint, StackOptions
from gleaner.localstack.programs import COURIER, FLOWER, GATEWAY, SERVER, WORKER, Program
from gleaner.localstack.supervision import Child, Supervision

_POLL_S: Final = 0.2
_LOG_LINES: Final = 15
_RELAUNCH_S: Final = 30.0
_PREVIOUS_STOP_LIMIT_S: Final = 120.0

EventKind = Literal["starting", "ready", "ended", "restarted", "given_up", "stopping", "waiting"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person watching the stack wants to know, as a kind, whose, and a sentence."""

    kind: EventKind
    name: str
    text: str


class LocalStack:
    """Server, gateway, workers, courier and Flower as child processes that end when this one does.

    A context manager: ready inside the block, gone after it. Start it from the main thread (the children's
    lives are bound to the starting thread).

    Args:
        options: see `StackOptions`.
        on_event: told what happens, from the thread that called.
        stop_requested: set it to have a start that is under way raise `Interrupted`, and `watch` return.
        environment: settings for the children beside this process's own.
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
        self.directory = DataDir.at(self.options.data_dir)
        self._on_event = on_event
        self._stop_requested = stop_requested or threading.Event()
        self._environment = {**os.environ, **(environment or {})}
        self._lock = Lock(self.directory.run / "stack.lock")
        self._blueprint: Blueprint | None = None
        self._supervision: Supervision | None = None
        self._children: dict[str, Child] = {}
        self._relaunch_at: dict[str, float] = {}

    @property
    def facts(self) -> Mapping[str, Any]:
        """What stack.json says, process ids aside: URLs, Flower's password, metrics."""
        if self._blueprint is None:
            raise StackError("the stack was not started")
        return self._blueprint.facts

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
        """Return when everything is ready and stack.json says so.

        Raises:
            StackError: see `gleaner.localstack.errors`; nothing is left running.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Drain and end everything. Harmless if nothing runs."""
        if self._supervision is not None:
            self.directory.stack_file.unlink(missing_ok=True)
            self._tell("stopping", "stack", "finishing what runs")
            self._supervision.stop()
            self._supervision = None
        self._lock.release()

    def kill(self) -> None:
        """End everything without waiting for what runs; for the user who presses Ctrl-C twice."""
        if self._supervision is not None:
            self._supervision.kill()

    def watch(self) -> None:
        """Keep stack.json true and tell what happens to the children, until `stop_requested` is set.

        Raises:
            StackError: the supervisor itself ended.
        """
        while not self._stop_requested.wait(_POLL_S):
            self.check()

    def check(self) -> None:
        """Look at the children once.

        Raises:
            StackError: the supervisor itself ended.
        """
        supervision = self._running()
        now = supervision.children()
        if now is None:
            if supervision.alive:
                return
            raise StackError(f"the supervisor ended; see {self.directory.log('supervisord')}")
        before, self._children = self._children, now
        for child in now.values():
            self._compare(before.get(child.name, child), child)
        if any(child.pid != now[child.name].pid for child in before.values()):
            self._write_stack()

    def _start(self) -> None:
        _require_packages()
        self.directory.create()
        self._lock.acquire_or_fail(self.directory.root)
        self.directory.stack_file.unlink(missing_ok=True)
        self._await_previous_server()
        if self.options.port:
            ports.require(self.options.port)
        self.directory.ensure_admin_key(_create_admin_key, _key_is_good)
        self._blueprint = drawn = plan.draw(self.options, self.directory, self._environment)
        self._supervision = Supervision(self.directory, drawn.programs, drawn.environment)
        self._supervision.start()
        others = list(drawn.programs)
        if drawn.embeds_server:
            self._launch([others.pop(0)], lambda _program: server.answers(drawn.stores.ledger_url) is None)
        with httpx.Client(trust_env=False, timeout=2.0) as http:
            self._launch(others, lambda program: _is_ready(http, program))
        self._write_stack()

    def _launch(self, programs: list[Program], ready: Callable[[Program], bool]) -> None:
        """Start programs and wait until all are ready."""
        for program in programs:
            self._tell("starting", program.name, "starting")
            self._running().launch(program.name)
        end = time.monotonic() + self.options.ready_timeout_s
        waiting = list(programs)
        first_pids: dict[str, int] = {}
        while True:
            self._children = self._running().children() or {}
            for program in waiting:
                self._require_alive(program, first_pids)
            for program in [one for one in waiting if ready(one)]:
                waiting.remove(program)
                self._tell("ready", program.name, "ready")
            if not waiting:
                return
            if time.monotonic() > end:
                late = ", ".join(program.name for program in waiting)
                limit = f"{self.options.ready_timeout_s:g} s"
                raise StartFailed(f"not ready after {limit}: {late}{self._log_tail(waiting[0].name)}")
            self._pause()

    def _require_alive(self, program: Program, first_pids: dict[str, int]) -> None:
        child = self._children.get(program.name)
        if child is None:
            raise StartFailed(f"the supervisor ended; see {self.directory.log('supervisord')}")
        first = first_pids.setdefault(program.name, child.pid)
        if child.pid != first or child.state not in ("STARTING", "RUNNING"):
            raise StartFailed(f"{program.name} ended while it started{self._log_tail(program.name)}")

    def _log_tail(self, name: str) -> str:
        path = self.directory.log(name)
        lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:] if path.exists() else []
        return f"; the end of {path}:\n" + "\n".join(f"  {line}" for line in lines)

    def _await_previous_server(self) -> None:
        """Wait for the server of a killed stack, which is still draining, to let go of the directory."""
        lock = Lock(self.directory.server_lock)
        end = time.monotonic() + _PREVIOUS_STOP_LIMIT_S
        told = False
        while not lock.acquire():
            if time.monotonic() > end:
                raise AlreadyRunning(f"the server of an earlier stack still runs in {self.directory.root}")
            if not told:
                self._tell("waiting", "stack", "an earlier stack is still stopping")
                told = True
            self._pause()
        lock.release()

    def _pause(self) -> None:
        if self._stop_requested.wait(_POLL_S):
            raise Interrupted("stopped while starting")

    def _compare(self, before: Child, now: Child) -> None:
        log = self.directory.log(now.name)
        if before.pid and now.pid and before.pid != now.pid:
            self._tell("restarted", now.name, f"ended, started again as process {now.pid}; log: {log}")
        elif before.pid and not now.pid:
            self._tell("ended", now.name, f"ended, will be started again; log: {log}")
        elif now.pid and not before.pid:
            self._tell("restarted", now.name, f"started again as process {now.pid}")
        if now.state != "FATAL":
            return
        if before.state != "FATAL":
            self._relaunch_at[now.name] = time.monotonic() + _RELAUNCH_S
            text = f"failed several times; next try in {_RELAUNCH_S:g} s{self._log_tail(now.name)}"
            self._tell("given_up", now.name, text)
        elif time.monotonic() > self._relaunch_at[now.name]:
            self._relaunch_at[now.name] = time.monotonic() + _RELAUNCH_S
            self._running().launch(now.name)

    def _write_stack(self) -> None:
        programs = self._blueprint.programs if self._blueprint else ()

        def of(kind: str) -> list[int]:
            pids = (self._children[program.name].pid for program in programs if program.kind == kind)
            return [pid for pid in pids if pid]

        pids = {
            SERVER: next(iter(of(SERVER)), None),
            **{kind: of(kind) for kind in (GATEWAY, WORKER, COURIER)},
            FLOWER: next(iter(of(FLOWER)), None),
        }
        datadir.write_stack(self.directory, {**self.facts, "pids": pids})

    def _running(self) -> Supervision:
        if self._supervision is None:
            raise StackError("the stack is not running")
        return self._supervision

    def _tell(self, kind: EventKind, name: str, text: str) -> None:
        self._on_event(Event(kind, name, text))


def _is_ready(http: httpx.Client, program: Program) -> bool:
    try:
        return program.ready_url is None or http.get(program.ready_url).status_code == 200
    except httpx.HTTPError:
        return False


def _require_packages() -> None:
    for package in ("supervisor", "redis", "fastapi", "celery", "gliner", "flower"):
        if find_spec(package) is None:
            raise MissingExtra(package)


def _create_admin_key(keys_file: Path) -> str:
    from jobs import api_keys

    return api_keys.create_key(keys_file, tenant="default", role="admin", name="local stack").key


def _key_is_good(keys_file: Path, key: str) -> bool:
    from jobs import api_keys

    return api_keys.KeyRing(keys_file).verify(key) is not None
