"""A Redis server, a gateway and a worker as child processes, started as the modules that a benchmark names."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs import api_keys
from tests.support.processes.harness import ROOT, Child, Server, free_port, guard, wait_for

LEDGER_DB, BROKER_DB = 1, 0
READY_S = 180.0
"""Timeout for a start; a worker's first start with a model may try several runtimes."""


@dataclass(frozen=True)
class Stack:
    """A running stack: the Redis server, the children by role, and an API key of role submitter.

    Attributes:
        launch: starts another child of a role as `python -m` with these arguments, without waiting for it.
    """

    server: Server
    children: Mapping[str, Child]
    key: str
    launch: Callable[[str, tuple[str, ...]], Child]

    @property
    def url(self) -> str:
        """URL of the gateway."""
        return self.children["gateway"].url


@contextmanager
def start_stack(modules: Mapping[str, tuple[str, ...]], **settings: str) -> Iterator[Stack]:
    """Start a Redis server and these children; all are ready inside the block and stopped after it.

    Args:
        modules: `python -m` arguments by role: gateway, worker.
        settings: environment of all children.
    """
    with tempfile.TemporaryDirectory(prefix="gl-") as name, ExitStack() as cleanup:
        folder = Path(name)
        server = Server(folder)
        cleanup.callback(server.stop)
        key = api_keys.create_key(folder / "keys.json", tenant="bench", role="submitter").key
        common = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GLEANER_")},
            "GLEANER_REDIS_URL": server.url(LEDGER_DB),
            "GLEANER_BROKER_URL": server.url(BROKER_DB),
            "GLEANER_KEYS_FILE": str(folder / "keys.json"),
            **settings,
        }

        def launch(role: str, arguments: tuple[str, ...]) -> Child:
            child = _launch_child(folder, role, arguments, common)
            cleanup.callback(child.kill)
            return child

        children = {role: launch(role, arguments) for role, arguments in modules.items()}
        for child in children.values():
            wait_for(child.ready, READY_S, f"{child.role} is ready: {child.tail()}")
        yield Stack(server, children, key, launch)


def _launch_child(folder: Path, role: str, arguments: tuple[str, ...], environment: Mapping[str, str]) -> Child:
    """Start a child process without waiting for it."""
    port, probes = free_port(), free_port()
    log = folder / f"{role}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*guard(), sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**environment, "GLEANER_PORT": str(port), "GLEANER_METRICS_PORT": str(probes)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Child(role, process, log, probes, f"http://127.0.0.1:{port}")
