"""`LocalStack`: the whole service on this machine, from nothing to ready, and back to nothing.

start: lock the directory -> server -> the others -> ready -> stack.json.  stop: the same backwards.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx

from gleaner.stack import datadir, ports, server
from gleaner.stack import programs as plan
from gleaner.stack.datadir import DataDir, Lock
from gleaner.stack.errors import AlreadyRunning, Interrupted, MissingExtra, StackError, StartFailed
from gleaner.stack.programs import Program
from gleaner.stack.server import Embedded, Stores
from gleaner.stack.supervision import Child, Supervision

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


@dataclass(frozen=True, slots=True)
class StackOptions:
    """How a local stack is set up.

    Attributes:
        data_dir: keys, data, logs and stack.json; `~` allowed.
        port: the gateway's; 0 takes a free one.
        redis_url: the ledger's database on a server that is there; None embeds a server.
        workers: worker processes.
        flower: whether queue inspection runs too.
        ready_timeout_s: how long everything may take to be ready, the model's warm-up included.
    """

    data_dir: Path = datadir.DEFAULT
    port: int = 8000
    redis_url: str | None = None
    workers: int = 1
    flower: bool = True
    ready_timeout_s: float = 180.0


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
        self._programs: tuple[Program, ...] = ()
        self._supervision: Supervision | None = None
        self._children: dict[str, Child] = {}
        self._relaunch_at: dict[str, float] = {}
        self._facts: dict[str, Any] = {}

    @property
    def gateway_url(self) -> str:
        """Where the API, the console (`/`) and the API's pages (`/docs`) are."""
        return str(self._facts["gateway_url"])

    @property
    def flower_url(self) -> str | None:
        """Where Flower is, if it runs."""
        url: str | None = self._facts["flower_url"]
        return url

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
            StackError: see `gleaner.stack.errors`; nothing is left running.
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
        if {name: child.pid for name, child in before.items()} != self._pids_by_name():
            datadir.write_stack(self.directory, {**self._facts, "pids": self._pids()})

    def _start(self) -> None:
        _require_packages()
        self.directory.create()
        self._lock.acquire_or_fail(self.directory.root)
        self.directory.stack_file.unlink(missing_ok=True)
        self._await_previous_server()
        if self.options.port:
            ports.require(self.options.port)
        port, server_port, flower_port, *metrics = ports.free(5 + self.options.workers)
        own = server.embedded(self.directory, server_port) if self.options.redis_url is None else None
        stores = own.stores if own else self._external()
        self.directory.ensure_admin_key(_create_admin_key, _key_is_good)
        gateway_port = self.options.port or port
        flower_password = secrets.token_urlsafe(18)
        self._programs = self._plan(own, gateway_port, flower_port, flower_password, metrics)
        self._facts = self._describe(stores, gateway_port, flower_port, flower_password)
        self._supervision = Supervision(self.directory, self._programs, self._child_environment(own, stores))
        self._supervision.start()
        if own is not None:
            self._launch([plan.SERVER])
            self._await(lambda _program: server.answers(stores.ledger_url) is None, [plan.SERVER])
        others = [program.name for program in self._programs if program.kind != plan.SERVER]
        self._launch(others)
        with httpx.Client(trust_env=False, timeout=2.0) as http:
            self._await(lambda program: _is_ready(http, program), others)
        datadir.write_stack(self.directory, {**self._facts, "pids": self._pids()})

    def _external(self) -> Stores:
        stores = server.external(self.options.redis_url or "", self._environment.get("GLEANER_BROKER_URL") or None)
        server.require(stores)
        return stores

    def _plan(
        self,
        own: Embedded | None,
        gateway_port: int,
        flower_port: int,
        flower_password: str,
        metrics: list[int],
    ) -> tuple[Program, ...]:
        gateway_metrics, courier_metrics, *worker_metrics = metrics
        workers = self.options.workers
        return (
            *([plan.server()] if own else []),
            plan.courier(courier_metrics),
            *(plan.worker(n, workers, port) for n, port in enumerate(worker_metrics, start=1)),
            plan.gateway(gateway_port, gateway_metrics),
            *([plan.flower(flower_port, "gleaner", flower_password)] if self.options.flower else []),
        )

    def _describe(
        self, stores: Stores, gateway_port: int, flower_port: int, flower_password: str
    ) -> dict[str, Any]:
        flower = self.options.flower
        kinds = (plan.GATEWAY, plan.WORKER, plan.COURIER)
        return {
            "gateway_url": f"http://{ports.LOOPBACK}:{gateway_port}",
            "flower_url": f"http://{ports.LOOPBACK}:{flower_port}" if flower else None,
            "flower_user": "gleaner" if flower else None,
            "flower_password": flower_password if flower else None,
            "redis_url": stores.ledger_url,
            "broker_url": stores.broker_url,
            "metrics": {kind: [p.metrics_url for p in self._programs if p.kind == kind] for kind in kinds},
        }

    def _child_environment(self, own: Embedded | None, stores: Stores) -> dict[str, str]:
        environment = {
            **self._environment,
            "GLEANER_REDIS_URL": stores.ledger_url,
            "GLEANER_BROKER_URL": stores.broker_url,
            "GLEANER_KEYS_FILE": str(self.directory.keys_file),
            "PYTHONPATH": os.pathsep.join(_import_path(self._environment.get("PYTHONPATH"))),
            # `python -m` would look in the user's folder first, where a `jobs` or `worker` may well be.
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
        }
        if self.options.workers > 1:
            share = max(1, (os.cpu_count() or 1) // self.options.workers)
            environment.setdefault("OMP_NUM_THREADS", str(share))
        if own is not None:
            configuration = self.directory.run / "valkey.conf"
            datadir.write_private(configuration, own.configuration)
            environment |= {
                "GLEANER_STACK_SERVER": str(own.binary),
                "GLEANER_STACK_SERVER_CONF": str(configuration),
                "GLEANER_STACK_LOCK": str(self.directory.server_lock),
            }
        return environment

    def _launch(self, names: list[str]) -> None:
        for name in names:
            self._tell("starting", name, "starting")
            self._running().launch(name)

    def _await(self, ready: Callable[[Program], bool], names: list[str]) -> None:
        end = time.monotonic() + self.options.ready_timeout_s
        waiting = [program for program in self._programs if program.name in names]
        first_pids: dict[str, int] = {}
        while waiting:
            self._children = self._running().children() or {}
            for program in waiting:
                self._require_alive(program, first_pids)
            for program in [one for one in waiting if ready(one)]:
                waiting.remove(program)
                self._tell("ready", program.name, "ready")
            if waiting and time.monotonic() > end:
                late = ", ".join(program.name for program in waiting)
                raise StartFailed(
                    f"not ready after {self.options.ready_timeout_s:g} s: {late}" + self._log_tail(waiting[0].name)
                )
            if waiting and self._stop_requested.wait(_POLL_S):
                raise Interrupted("stopped while starting")

    def _require_alive(self, program: Program, first_pids: dict[str, int]) -> None:
        child = self._children.get(program.name)
        if child is None:
            raise StartFailed(f"the supervisor ended; see {self.directory.log('supervisord')}")
        first = first_pids.setdefault(program.name, child.pid)
        if child.state in ("BACKOFF", "EXITED", "FATAL", "STOPPED") or child.pid != first:
            raise StartFailed(f"{program.name} ended while it started" + self._log_tail(program.name))

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
            if self._stop_requested.wait(_POLL_S):
                raise Interrupted("stopped while starting")
        lock.release()

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
            self._tell(
                "given_up",
                now.name,
                f"failed several times; next try in {_RELAUNCH_S:g} s" + self._log_tail(now.name),
            )
        elif time.monotonic() > self._relaunch_at[now.name]:
            self._relaunch_at[now.name] = time.monotonic() + _RELAUNCH_S
            self._running().launch(now.name)

    def _pids_by_name(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items()}

    def _pids(self) -> dict[str, Any]:
        by_name = self._pids_by_name()

        def of(kind: str) -> list[int]:
            pids = (by_name.get(program.name, 0) for program in self._programs if program.kind == kind)
            return [pid for pid in pids if pid]

        one = {kind: next(iter(of(kind)), None) for kind in (plan.SERVER, plan.FLOWER)}
        several = {kind: of(kind) for kind in (plan.GATEWAY, plan.WORKER, plan.COURIER)}
        return {plan.SERVER: one[plan.SERVER], **several, plan.FLOWER: one[plan.FLOWER]}

    def _running(self) -> Supervision:
        if self._supervision is None:
            raise StackError("the stack is not running")
        return self._supervision

    def _tell(self, kind: EventKind, name: str, text: str) -> None:
        self._on_event(Event(kind, name, text))


def _is_ready(http: httpx.Client, program: Program) -> bool:
    if program.ready_url is None:
        return True
    try:
        return http.get(program.ready_url).status_code == 200
    except httpx.HTTPError:
        return False


def _require_packages() -> None:
    for package in ("supervisor", "redis", "fastapi", "celery", "gliner", "flower"):
        if find_spec(package) is None:
            raise MissingExtra(package)


def _import_path(inherited: str | None) -> list[str]:
    """Where the children find the packages this process runs, installed or not."""
    here = str(Path(__file__).resolve().parents[2])
    return [here, *([inherited] if inherited else [])]


def _create_admin_key(keys_file: Path) -> str:
    from jobs import keys

    return keys.create(keys_file, tenant="default", role="admin", name="local stack").key


def _key_is_good(keys_file: Path, key: str) -> bool:
    from jobs import keys

    return keys.KeyRing(keys_file).verify(key) is not None
