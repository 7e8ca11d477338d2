"""The gateway as a separate process, on a test's servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs import api_keys
from tests.support.processes.harness import ROOT, Child, free_port


def launch(folder: Path, settings: dict[str, str]) -> Child:
    """Start a gateway; not waited for. Its keys are in `folder`/keys.json."""
    log, port, probes = folder / "gateway.log", free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GLEANER_")},
        "GLEANER_PORT": str(port),
        "GLEANER_METRICS_PORT": str(probes),
        "GLEANER_KEYS_FILE": str(folder / "keys.json"),
        "GLEANER_SHUTDOWN_GRACE_S": "20",
        **settings,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    return Child("gateway", process, log, probes, f"http://127.0.0.1:{port}")


@contextmanager
def running_gateway(folder: Path, ledger_url: str, broker_url: str, **settings: str) -> Iterator[tuple[Child, str]]:
    """Run a gateway until the block ends; yield it ready, with a key of an admin of the tenant `acme`."""
    key = api_keys.create_key(folder / "keys.json", tenant="acme", role="admin").key
    child = launch(folder, {"GLEANER_REDIS_URL": ledger_url, "GLEANER_BROKER_URL": broker_url, **settings})
    try:
        yield child.wait_ready(), key
    finally:
        child.kill()
