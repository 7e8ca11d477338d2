"""A server, a gateway and a worker as children of a benchmark, each started as the module a benchmark names."""

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
"""A worker's first start with a model may try several runtimes."""


@dataclass(frozen=True)
class Stack:
    """What runs: the server, the children by role, and the key of a submitter.

    Attributes:
        launch: starts one more of this role as `python -m` with these arguments, and does not wait for it.
    """

    server: Server
    children: Mapping[str, Child]
    key: str
    launch: Callable[[str, tuple[str, ...]], Child]

    @property
    def url(self) -> str:
        """The gateway's."""
        return self.children["gateway"].url


@contextmanager
def stack(modules: Mapping[str, tuple[str, ...]], **settings: str) -> Iterator[Stack]:
    """Start a server and these children; all are ready inside the block and ended after it.

    Args:
        modules: `python -m` arguments by role: gateway, worker.
        settings: environment of all children.
    """
    with tempfile.TemporaryDirectory(prefix="gl-") as name, ExitStack() as ending:
        folder = Path(name)
        server = Server(folder)
        ending.callback(server.stop)
        key = api_keys.create_key(folder / "keys.json", tenant="bench", role="submitter").key
        common = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GLEANER_")},
            "GLEANER_REDIS_URL": server.url(LEDGER_DB),
            "GLEANER_BROKER_URL": server.url(BROKER_DB),
            "GLEANER_KEYS_FILE": str(folder / "keys.json"),
            **settings,
        }

        def launch(role: str, arguments: tuple[str, ...]) -> Child:
            child = _launch(folder, role, arguments, common)
            ending.callback(child.kill)
            return child

        children = {role: launch(role, arguments) for role, arguments in modules.items()}
        for child in children.values():
            wait_for(child.ready, READY_S, f"{child.role} is ready: {child.tail()}")
        yield Stack(server, children, key, launch)


def _launch(folder: Path, role: str, arguments: tuple[str, ...], environment: Mapping[str, str]) -> Child:
    """Start one child; not waited for."""
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
