"""The programs of a local stack: options and ports -> `Program`s -> supervisor's configuration.

Supervisor runs the children: it restarts them with backoff, rotates logs and stops in order, and has done so for
twenty years. circus (zmq, tornado) requires more to do the same; honcho does not restart.
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
"""Command that starts a child. Run as a file, because as a module it would import the client first."""

_RPC_FACTORY: Final = "supervisor.rpcinterface:make_main_rpcinterface"


@dataclass(frozen=True, slots=True)
class Program:
    """One child process.

    Attributes:
        name: unique; also the name of its log.
        kind: server, gateway, worker, courier or flower.
        arguments: arguments of `gleaner.localstack.child`. `{NAME}` stands for the environment variable NAME.
        priority: lower starts earlier and stops later.
        ready_url: answers 200 when the program is ready; None if readiness is determined otherwise.
        metrics_url: its Prometheus metrics.
        environment: variables in addition to those of all programs; plain values without quotes.
        settle_s: an exit sooner than this after the start counts as a failed start, in seconds.
        grace_s: seconds it may take to stop before it is killed.
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


def server_program() -> Program:
    """Return the embedded server: it starts first and stops last, so that draining programs can still write."""
    return Program(
        name=SERVER,
        kind=SERVER,
        arguments=("--lock", "{GLEANER_STACK_LOCK}", "{GLEANER_STACK_SERVER}", "{GLEANER_STACK_SERVER_CONF}"),
        priority=10,
        settle_s=1,
        grace_s=30,
    )


def courier_program(metrics_port: int) -> Program:
    """Return the courier; it stops after the workers, whose last results may trigger webhooks."""
    return Program(
        name=COURIER,
        kind=COURIER,
        arguments=_run_module("gateway.courier"),
        priority=20,
        ready_url=_probe_url(metrics_port, "readyz"),
        metrics_url=_probe_url(metrics_port, "metrics"),
        environment=_probe_settings(metrics_port),
        grace_s=45,
    )


def worker_program(number: int, count: int, metrics_port: int) -> Program:
    """Return one of `count` workers; draining may take its whole grace period."""
    return Program(
        name=WORKER if count == 1 else f"{WORKER}-{number}",
        kind=WORKER,
        arguments=_run_module("worker"),
        priority=30,
        ready_url=_probe_url(metrics_port, "readyz"),
        metrics_url=_probe_url(metrics_port, "metrics"),
        environment=_probe_settings(metrics_port),
        settle_s=10,
        grace_s=90,
    )


def gateway_program(port: int, metrics_port: int) -> Program:
    """Return the gateway; it stops before the workers, so that no job is accepted while they drain."""
    return Program(
        name=GATEWAY,
        kind=GATEWAY,
        arguments=_run_module("gateway"),
        priority=40,
        ready_url=_probe_url(port, "readyz"),
        metrics_url=_probe_url(metrics_port, "metrics"),
        environment={**_probe_settings(metrics_port), "GLEANER_HOST": LOOPBACK, "GLEANER_PORT": str(port)},
        grace_s=75,
    )


def flower_program(port: int, user: str, password: str) -> Program:
    """Return Flower, which shows the queues."""
    return Program(
        name=FLOWER,
        kind=FLOWER,
        arguments=_run_module("jobs.queue.flower"),
        priority=50,
        ready_url=_probe_url(port, "healthcheck"),
        environment={
            "GLEANER_FLOWER_HOST": LOOPBACK,
            "GLEANER_FLOWER_PORT": str(port),
            "GLEANER_FLOWER_USER": user,
            "GLEANER_FLOWER_PASSWORD": password,
        },
        grace_s=5,
    )


def _run_module(module: str) -> tuple[str, ...]:
    return ("{GLEANER_STACK_PYTHON}", "-m", module)


def _probe_url(port: int, path: str) -> str:
    return f"http://{LOOPBACK}:{port}/{path}"


def _probe_settings(port: int) -> dict[str, str]:
    return {"GLEANER_METRICS_HOST": LOOPBACK, "GLEANER_METRICS_PORT": str(port)}


def supervisor_environment() -> dict[str, str]:
    """Return the variables that the configuration refers to, in addition to the paths that the caller sets."""
    return {"GLEANER_STACK_PYTHON": sys.executable, "GLEANER_STACK_CHILD": child.__file__}


def format_supervisor_conf(programs: Iterable[Program], user: str, password: str) -> str:
    """Return supervisor's configuration.

    Paths are passed through the environment, never in this text, whose format treats ` #` and ` ;` as comments
    and `%` as expansions. GLEANER_STACK_PRIVATE is a directory for the socket `s`, `pid`, and the link `logs`.
    """
    programs = tuple(programs)
    sections = [
        _format_section(
            "unix_http_server",
            file="%(ENV_GLEANER_STACK_PRIVATE)s/s",
            chmod="0700",
            username=user,
            password=password,
        ),
        _format_section(
            "supervisord",
            nodaemon="true",
            silent="true",
            logfile="%(ENV_GLEANER_STACK_PRIVATE)s/logs/supervisord.log",
            logfile_maxbytes="10MB",
            logfile_backups="3",
            pidfile="%(ENV_GLEANER_STACK_PRIVATE)s/pid",
            identifier="gleaner",
        ),
        _format_section("rpcinterface:supervisor", **{"supervisor.rpcinterface_factory": _RPC_FACTORY}),
        *(_program_format_section(program) for program in programs),
    ]
    # A group stops together, so that several workers drain at the same time; groups stop one after the other.
    for kind in dict.fromkeys(program.kind for program in programs):
        members = [program for program in programs if program.kind == kind]
        names = ",".join(program.name for program in members)
        sections.append(_format_section(f"group:{kind}s", programs=names, priority=str(members[0].priority)))
    return "\n".join(sections)


def _program_format_section(program: Program) -> str:
    command = (*CHILD, *program.arguments)
    return _format_section(
        f"program:{program.name}",
        command=" ".join(_quote_argument(part) for part in command),
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


def _quote_argument(part: str) -> str:
    if part.startswith("{"):
        return f'"%(ENV_{part[1:-1]})s"'
    return shlex.quote(part)


def _format_section(name: str, **settings: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items() if value)
    return f"[{name}]\n{lines}"
