"""What a local stack consists of: options and ports -> `Program`s -> supervisor's configuration.

Supervisor runs the children: it restarts with back-off, rotates logs and stops in order, and has done so for
twenty years. circus (zmq, tornado) needs more to do the same; honcho restarts nothing.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gleaner.localstack import child
from gleaner.localstack.ports import LOOPBACK

SERVER: Final = "server"
GATEWAY: Final = "gateway"
WORKER: Final = "worker"
COURIER: Final = "courier"
FLOWER: Final = "flower"

CHILD: Final = ("{GLEANER_STACK_PYTHON}", "-I", "-S", "{GLEANER_STACK_CHILD}")
"""Starts a child. By its file, bare: as a module it would import the client first, every time."""

_RPC_FACTORY: Final = "supervisor.rpcinterface:make_main_rpcinterface"


@dataclass(frozen=True, slots=True)
class Program:
    """One child process.

    Attributes:
        name: unique; also the name of its log.
        kind: what it is one of.
        arguments: what `gleaner.localstack.child` gets. `{NAME}` stands for the environment's NAME, for paths.
        priority: lower starts earlier and stops later.
        ready_url: answers 200 when it can do its work; None if readiness is found out otherwise.
        metrics_url: its Prometheus metrics.
        environment: what it gets beyond what all get; plain values without quotes.
        settle_s: ending sooner than this after its start counts as a failed start.
        grace_s: how long it may take to stop before it is killed.
    """

    name: str
    kind: str
    arguments: tuple[str, ...]
    priority: int
    ready_url: str | None = None
    metrics_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    settle_s: int = 5
    grace_s: int = 15


def server() -> Program:
    """The embedded server: first to start, last to stop, so that every drain can still write."""
    return Program(
        name=SERVER,
        kind=SERVER,
        arguments=("--lock", "{GLEANER_STACK_LOCK}", "{GLEANER_STACK_SERVER}", "{GLEANER_STACK_SERVER_CONF}"),
        priority=10,
        settle_s=1,
        grace_s=30,
    )


def courier(metrics_port: int) -> Program:
    """Webhook deliveries and upkeep; outlives the workers, whose last results may call for them."""
    return _python(COURIER, COURIER, "gateway.courier", 20, metrics_port, grace_s=45)


def worker(number: int, count: int, metrics_port: int) -> Program:
    """One of `count` workers; its drain may take the whole shutdown grace."""
    name = WORKER if count == 1 else f"{WORKER}-{number}"
    return _python(name, WORKER, "worker", 30, metrics_port, settle_s=10, grace_s=90)


def gateway(port: int, metrics_port: int) -> Program:
    """The HTTP API; stops before the workers, so that nothing is accepted while they drain."""
    return _python(
        GATEWAY,
        GATEWAY,
        "gateway",
        40,
        metrics_port,
        ready_url=f"http://{LOOPBACK}:{port}/readyz",
        environment={"GLEANER_HOST": LOOPBACK, "GLEANER_PORT": str(port)},
        grace_s=75,
    )


def flower(port: int, user: str, password: str) -> Program:
    """Queue inspection."""
    return Program(
        name=FLOWER,
        kind=FLOWER,
        arguments=("{GLEANER_STACK_PYTHON}", "-m", "jobs.queue.flower"),
        priority=50,
        ready_url=f"http://{LOOPBACK}:{port}/healthcheck",
        environment={
            "GLEANER_FLOWER_HOST": LOOPBACK,
            "GLEANER_FLOWER_PORT": str(port),
            "GLEANER_FLOWER_USER": user,
            "GLEANER_FLOWER_PASSWORD": password,
        },
        grace_s=5,
    )


def _python(
    name: str,
    kind: str,
    module: str,
    priority: int,
    metrics_port: int,
    *,
    ready_url: str | None = None,
    environment: Mapping[str, str] | None = None,
    settle_s: int = 5,
    grace_s: int,
) -> Program:
    base = f"http://{LOOPBACK}:{metrics_port}"
    ports = {"GLEANER_METRICS_HOST": LOOPBACK, "GLEANER_METRICS_PORT": str(metrics_port)}
    return Program(
        name=name,
        kind=kind,
        arguments=("{GLEANER_STACK_PYTHON}", "-m", module),
        priority=priority,
        ready_url=ready_url or f"{base}/readyz",
        metrics_url=f"{base}/metrics",
        environment={**ports, **(environment or {})},
        settle_s=settle_s,
        grace_s=grace_s,
    )


def base_environment() -> dict[str, str]:
    """What the configuration below refers to, besides the paths its caller adds."""
    return {"GLEANER_STACK_PYTHON": sys.executable, "GLEANER_STACK_CHILD": child.__file__}


def supervisor_conf(programs: Iterable[Program], user: str, password: str) -> str:
    """Supervisor's configuration.

    Paths come in through the environment, never through this text: its format takes ` #` and ` ;` for comments
    and `%` for expansions. GLEANER_STACK_PRIVATE is a directory for the socket `s`, `pid`, and the link `logs`.
    """
    listed = list(programs)
    sections = [
        _section(
            "unix_http_server",
            file="%(ENV_GLEANER_STACK_PRIVATE)s/s",
            chmod="0700",
            username=user,
            password=password,
        ),
        _section(
            "supervisord",
            nodaemon="true",
            silent="true",
            logfile="%(ENV_GLEANER_STACK_PRIVATE)s/logs/supervisord.log",
            logfile_maxbytes="10MB",
            logfile_backups="3",
            pidfile="%(ENV_GLEANER_STACK_PRIVATE)s/pid",
            identifier="gleaner",
        ),
        _section("rpcinterface:supervisor", **{"supervisor.rpcinterface_factory": _RPC_FACTORY}),
        *(_program(program) for program in listed),
    ]
    # A group stops together, so that several workers drain at the same time; groups stop one after the other.
    for kind in dict.fromkeys(program.kind for program in listed):
        members = [program for program in listed if program.kind == kind]
        names = ",".join(program.name for program in members)
        sections.append(_section(f"group:{kind}s", programs=names, priority=str(members[0].priority)))
    return "\n".join(sections)


def _program(program: Program) -> str:
    command = (*CHILD, *program.arguments)
    return _section(
        f"program:{program.name}",
        command=" ".join(_argument(part) for part in command),
        environment=",".join(f'{name}="{value}"' for name, value in program.environment.items()),
        priority=str(program.priority),
        autostart="false",
        autorestart="true",
        startsecs=str(program.settle_s),
        startretries="5",
        stopsignal="TERM",
        stopwaitsecs=str(program.grace_s),
        killasgroup="true",
        redirect_stderr="true",
        stdout_logfile=f"%(ENV_GLEANER_STACK_PRIVATE)s/logs/{program.name}.log",
        stdout_logfile_maxbytes="10MB",
        stdout_logfile_backups="3",
    )


def _argument(part: str) -> str:
    if part.startswith("{"):
        return f'"%(ENV_{part[1:-1]})s"'
    return shlex.quote(part)


def _section(name: str, **settings: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items() if value)
    return f"[{name}]\n{lines}"
