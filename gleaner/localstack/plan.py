"""Plan a local stack from its options and free ports: programs, their settings, stack.json."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gleaner.localstack import datadir, ports, server
from gleaner.localstack.datadir import DataDir
from gleaner.localstack.programs import (
    COURIER,
    GATEWAY,
    SERVER,
    WORKER,
    Program,
    courier_program,
    flower_program,
    gateway_program,
    server_program,
    worker_program,
)
from gleaner.localstack.server import RedisUrls

_FLOWER_USER: Final = "gleaner"


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Options of a local stack.

    Attributes:
        data_dir: folder of keys, data, logs and stack.json; `~` is expanded.
        port: the gateway's; 0 for a free one.
        redis_url: the ledger's database on an existing server; None starts an embedded one.
        workers: number of worker processes.
        flower: True to run Flower, which shows the queues.
        ready_timeout_s: seconds until everything must be ready, including the model's warm-up.
    """

    data_dir: Path = datadir.DEFAULT
    port: int = 8000
    redis_url: str | None = None
    workers: int = 1
    flower: bool = True
    ready_timeout_s: float = 180.0


@dataclass(frozen=True, slots=True)
class StackPlan:
    """Plan of a stack.

    Attributes:
        programs: the programs to run, the embedded server first if there is one.
        urls: URLs of ledger and broker.
        facts: stack.json without the process ids.
        environment: environment variables of every program.
    """

    programs: tuple[Program, ...]
    urls: RedisUrls
    facts: Mapping[str, Any]
    environment: Mapping[str, str]

    @property
    def has_embedded_server(self) -> bool:
        """True if the stack starts its server."""
        return self.programs[0].kind == SERVER


def make_plan(options: StackOptions, directory: DataDir, inherited: Mapping[str, str]) -> StackPlan:
    """Choose ports and passwords, and write the embedded server's configuration.

    Args:
        options: the user's options.
        directory: the data directory, which must exist.
        inherited: environment variables that the children inherit.

    Raises:
        MissingExtra: the server binary is not installed.
        ServerUnreachable: the server at `options.redis_url` does not respond.
    """
    free_port, server_port, flower_port, *metrics = ports.find_free(5 + options.workers)
    gateway_port = options.port or free_port
    flower_password = secrets.token_urlsafe(18)
    embedded_server: list[Program] = []
    if options.redis_url is None:
        embedded = server.plan_embedded(directory, server_port)
        urls = embedded.urls
        configuration = directory.run / "valkey.conf"
        datadir.write_private(configuration, embedded.configuration)
        embedded_server = [server_program(embedded.binary, configuration, directory.server_lock)]
    else:
        urls = server.plan_external(options.redis_url, inherited.get("GLEANER_BROKER_URL") or None)
        server.require_reachable(urls)
    gateway_metrics, courier_metrics, *worker_metrics = metrics
    programs = (
        *embedded_server,
        courier_program(courier_metrics),
        *(worker_program(n, options.workers, port) for n, port in enumerate(worker_metrics, start=1)),
        gateway_program(gateway_port, gateway_metrics),
        *([flower_program(flower_port, _FLOWER_USER, flower_password)] if options.flower else []),
    )
    return StackPlan(
        programs=programs,
        urls=urls,
        facts={
            "gateway_url": f"http://{ports.LOOPBACK}:{gateway_port}",
            "flower_url": f"http://{ports.LOOPBACK}:{flower_port}" if options.flower else None,
            "flower_user": _FLOWER_USER if options.flower else None,
            "flower_password": flower_password if options.flower else None,
            "redis_url": urls.ledger_url,
            "broker_url": urls.broker_url,
            "metrics": {
                kind: [program.metrics_url for program in programs if program.kind == kind]
                for kind in (GATEWAY, WORKER, COURIER)
            },
        },
        environment=_build_environment(options, directory, inherited, urls, gateway_port),
    )


def _build_environment(
    options: StackOptions, directory: DataDir, inherited: Mapping[str, str], urls: RedisUrls, gateway_port: int
) -> dict[str, str]:
    # On this path the children find the packages of this process, installed or not.
    import_path = filter(None, (str(Path(__file__).resolve().parents[2]), inherited.get("PYTHONPATH")))
    environment = {
        **inherited,
        "GLEANER_REDIS_URL": urls.ledger_url,
        "GLEANER_BROKER_URL": urls.broker_url,
        "GLEANER_KEYS_FILE": str(directory.keys_file),
        "PYTHONPATH": os.pathsep.join(import_path),
        # Without it, `python -m` would search the user's folder first, which may have a `jobs` or `worker` package.
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
    # Allow webhooks to receivers on this machine.
    environment.setdefault("GLEANER_WEBHOOK_ALLOW", "127.0.0.0/8,::1/128")
    environment.setdefault("GLEANER_WEBHOOK_ALLOW_HTTP", "true")
    environment.setdefault("GLEANER_REDACT_KEY", directory.ensure_redact_key())
    environment.setdefault("GLEANER_PUBLIC_URL", f"http://{ports.LOOPBACK}:{gateway_port}")
    if options.workers > 1:
        share = max(1, (os.cpu_count() or 1) // options.workers)
        environment.setdefault("GLEANER_CPUS", str(share))
    return environment
