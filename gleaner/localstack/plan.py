"""Options and free ports -> everything a local stack is going to be: programs, their settings, stack.json."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gleaner.localstack import datadir, ports, server
from gleaner.localstack import programs as plan
from gleaner.localstack.datadir import DataDir
from gleaner.localstack.programs import Program
from gleaner.localstack.server import Embedded, Stores

_FLOWER_USER: Final = "gleaner"


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


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A stack before it runs.

    Attributes:
        programs: what runs, the embedded server first if there is one.
        stores: where ledger and broker will be.
        facts: stack.json without the process ids.
        environment: what every program gets.
    """

    programs: tuple[Program, ...]
    stores: Stores
    facts: Mapping[str, Any]
    environment: Mapping[str, str]

    @property
    def embeds_server(self) -> bool:
        """True if the server is ours."""
        return self.programs[0].kind == plan.SERVER


def draw(options: StackOptions, directory: DataDir, inherited: Mapping[str, str]) -> Blueprint:
    """Choose ports and passwords, and write the embedded server's configuration.

    Args:
        options: what was asked for.
        directory: created already.
        inherited: the environment that the children start from.

    Raises:
        MissingExtra: no server binary.
        ServerUnreachable: `options.redis_url` answers nothing.
    """
    any_port, server_port, flower_port, *metrics = ports.free(5 + options.workers)
    gateway_port = options.port or any_port
    flower_password = secrets.token_urlsafe(18)
    own = None
    if options.redis_url is None:
        own = server.embedded(directory, server_port)
        stores = own.stores
        datadir.write_private(_server_configuration(directory), own.configuration)
    else:
        stores = server.external(options.redis_url, inherited.get("GLEANER_BROKER_URL") or None)
        server.require(stores)
    gateway_metrics, courier_metrics, *worker_metrics = metrics
    programs = (
        *([plan.server()] if own else []),
        plan.courier(courier_metrics),
        *(plan.worker(n, options.workers, port) for n, port in enumerate(worker_metrics, start=1)),
        plan.gateway(gateway_port, gateway_metrics),
        *([plan.flower(flower_port, _FLOWER_USER, flower_password)] if options.flower else []),
    )
    return Blueprint(
        programs=programs,
        stores=stores,
        facts={
            "gateway_url": f"http://{ports.LOOPBACK}:{gateway_port}",
            "flower_url": f"http://{ports.LOOPBACK}:{flower_port}" if options.flower else None,
            "flower_user": _FLOWER_USER if options.flower else None,
            "flower_password": flower_password if options.flower else None,
            "redis_url": stores.ledger_url,
            "broker_url": stores.broker_url,
            "metrics": {
                kind: [program.metrics_url for program in programs if program.kind == kind]
                for kind in (plan.GATEWAY, plan.WORKER, plan.COURIER)
            },
        },
        environment=_environment(options, directory, inherited, own, stores, gateway_port),
    )


def _environment(
    options: StackOptions,
    directory: DataDir,
    inherited: Mapping[str, str],
    own: Embedded | None,
    stores: Stores,
    gateway_port: int,
) -> dict[str, str]:
    environment = {
        **inherited,
        "GLEANER_REDIS_URL": stores.ledger_url,
        "GLEANER_BROKER_URL": stores.broker_url,
        "GLEANER_KEYS_FILE": str(directory.keys_file),
        "PYTHONPATH": os.pathsep.join(_import_path(inherited.get("PYTHONPATH"))),
        # `python -m` would look in the user's folder first, where a `jobs` or `worker` may well be.
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
    # Receivers on this very machine: who runs the stack may call them.
    environment.setdefault("GLEANER_WEBHOOK_ALLOW", "127.0.0.0/8,::1/128")
    environment.setdefault("GLEANER_WEBHOOK_ALLOW_HTTP", "true")
    environment.setdefault("GLEANER_REDACT_KEY", directory.ensure_redact_key())
    environment.setdefault("GLEANER_PUBLIC_URL", f"http://{ports.LOOPBACK}:{gateway_port}")
    if options.workers > 1:
        share = max(1, (os.cpu_count() or 1) // options.workers)
        environment.setdefault("OMP_NUM_THREADS", str(share))
    if own is not None:
        environment |= {
            "GLEANER_STACK_SERVER": str(own.binary),
            "GLEANER_STACK_SERVER_CONF": str(_server_configuration(directory)),
            "GLEANER_STACK_LOCK": str(directory.server_lock),
        }
    return environment


def _server_configuration(directory: DataDir) -> Path:
    return directory.run / "valkey.conf"


def _import_path(inherited: str | None) -> list[str]:
    """Where the children find the packages this process runs, installed or not."""
    here = str(Path(__file__).resolve().parents[2])
    return [here, *([inherited] if inherited else [])]
