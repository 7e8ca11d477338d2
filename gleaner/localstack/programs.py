"""The programs of a local stack: ports and paths -> `Program`s, which `jobs.process.programs` runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from gleaner.localstack.ports import LOOPBACK

SERVER: Final = "server"
GATEWAY: Final = "gateway"
WORKER: Final = "worker"
COURIER: Final = "courier"
FLOWER: Final = "flower"


@dataclass(frozen=True, slots=True)
class Program:
    """One child process.

    Attributes:
        name: unique; also the name of its log.
        kind: server, gateway, worker, courier or flower.
        command: arguments of `jobs.process.parent_death`.
        priority: the highest stops first; equal ones, as of several workers, stop at the same time.
        ready_url: answers 200 when the program is ready; None if readiness is determined otherwise.
        metrics_url: its Prometheus metrics.
        environment: variables in addition to those of all programs.
        settle_s: an exit sooner than this after the start counts as a failed start, in seconds.
        grace_s: seconds it may take to stop before it is killed.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    priority: int
    ready_url: str | None = None
    metrics_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    settle_s: int = 5
    grace_s: int = 15

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `jobs.process.programs.Program`."""
        names = ("name", "command", "environment", "priority", "settle_s", "grace_s")
        return {name: getattr(self, name) for name in names}


def server_program(binary: Path, configuration: Path, lock: Path) -> Program:
    """Return the embedded server, which locks a file; it stops last, so that draining programs can still write."""
    return Program(
        name=SERVER,
        kind=SERVER,
        command=("--lock", str(lock), str(binary), str(configuration)),
        priority=10,
        settle_s=1,
        grace_s=30,
    )


def courier_program(metrics_port: int) -> Program:
    """Return the courier; it stops after the workers, whose last results may trigger webhooks."""
    return _service(COURIER, "gateway.courier", metrics_port, priority=20, grace_s=45)


def worker_program(number: int, count: int, metrics_port: int) -> Program:
    """Return one of `count` workers; draining may take its whole grace period."""
    worker = _service(WORKER, "worker", metrics_port, priority=30, settle_s=10, grace_s=90)
    return worker if count == 1 else replace(worker, name=f"{WORKER}-{number}")


def gateway_program(port: int, metrics_port: int) -> Program:
    """Return the gateway; it stops before the workers, so that no job is accepted while they drain."""
    gateway = _service(GATEWAY, "gateway", metrics_port, priority=40, grace_s=75)
    environment = {**gateway.environment, "GLEANER_HOST": LOOPBACK, "GLEANER_PORT": str(port)}
    return replace(gateway, ready_url=_probe_url(port, "readyz"), environment=environment)


def flower_program(port: int, user: str, password: str) -> Program:
    """Return Flower, which shows the queues."""
    return Program(
        name=FLOWER,
        kind=FLOWER,
        command=(sys.executable, "-m", "jobs.queue.flower"),
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


def _service(kind: str, module: str, metrics_port: int, **limits: int) -> Program:
    """Return a program of the service, which serves its metrics and probes on `metrics_port`."""
    return Program(
        name=kind,
        kind=kind,
        command=(sys.executable, "-m", module),
        ready_url=_probe_url(metrics_port, "readyz"),
        metrics_url=_probe_url(metrics_port, "metrics"),
        environment={"GLEANER_METRICS_HOST": LOOPBACK, "GLEANER_METRICS_PORT": str(metrics_port)},
        **limits,
    )


def _probe_url(port: int, path: str) -> str:
    return f"http://{LOOPBACK}:{port}/{path}"
