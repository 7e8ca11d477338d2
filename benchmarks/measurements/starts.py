"""How long a gateway and a worker take from their exec until they serve, and how much memory that needs.

A worker is measured at its first start, with nothing in its model cache, and at later ones. A document waits for it
in the ledger, as it would after a time without workers; when that is answered, the first forward pass is over.
"""

from __future__ import annotations

import http.client
import statistics
import tempfile
import time
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

import httpx

from benchmarks.children import Stack, stack
from benchmarks.texts import LABELS, documents
from benchmarks.usage import rss_mb
from tests.support.processes.harness import wait_for

LOOK_S = 0.02
"""Between two looks at whether a process is ready."""
WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Start:
    """One process's start.

    Attributes:
        ready_s: from its exec to the first 200 of /readyz.
        answer_s: from its exec until the document that waited was done; 0 where none did.
        peak_mb: most memory that was resident.
        rss_mb: memory that is resident then.
    """

    ready_s: float
    answer_s: float
    peak_mb: float
    rss_mb: float

    @classmethod
    def median(cls, starts: list[Start]) -> Start:
        """Of several starts, figure by figure."""
        return cls(*(statistics.median(getattr(one, field.name) for one in starts) for field in fields(cls)))


def gateways(rounds: int) -> Start:
    """A gateway's."""
    with stack({}) as running:
        return Start.median([_start(running, "gateway", "gateway") for _ in range(rounds)])


def workers(rounds: int, module: str = "worker") -> tuple[Start, Start]:
    """A worker's first start, and its later ones."""
    with (
        tempfile.TemporaryDirectory(prefix="gl-") as cache,
        stack({"gateway": ("gateway",)}, GLEANER_MODEL_CACHE=cache) as running,
        httpx.Client(base_url=running.url, headers={"X-API-Key": running.key}, trust_env=False) as client,
    ):
        first, *later = [_start(running, "worker", module, client) for _ in range(1 + rounds)]
    return first, Start.median(later)


def _start(running: Stack, role: str, module: str, client: httpx.Client | None = None) -> Start:
    job = _waiting(client) if client else ""
    began = time.time()
    child = running.launch(role, (module,))
    try:
        _await_ready(child.probe_port)
        ready = time.time()
        done = _done_at(client, job) if client else began
        peak, rss = _memory_mb(child.pid)
    finally:
        child.drain()
    return Start(ready - began, done - began, peak, rss)


def _await_ready(port: int) -> None:
    """The lightest look there is: the start must not feel it."""

    def ready() -> bool:
        time.sleep(LOOK_S)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    wait_for(ready, WITHIN_S, "the process is ready")


def _waiting(client: httpx.Client) -> str:
    """A job of one document for workers to come; its path."""
    answer = client.post("/v1/jobs", json={"labels": list(LABELS), "documents": [{"text": documents(1)[0]}]})
    answer.raise_for_status()
    return f"/v1/jobs/{answer.json()['id']}"


def _done_at(client: httpx.Client, job: str) -> float:
    """When it was finished, by the ledger's clock, which is this machine's."""

    def view() -> dict[str, str]:
        return dict(client.get(job, params={"wait": 10}, timeout=30).json())

    wait_for(lambda: view()["finished_at"], WITHIN_S, "the job is finished")
    return datetime.fromisoformat(view()["finished_at"]).timestamp()


def _memory_mb(pid: int) -> tuple[float, float]:
    """Most so far, and now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    now = rss_mb(pid)
    return max(now, peak_kb * 1024 / 1e6), now  # the kernel counts in batches, and may lag behind
