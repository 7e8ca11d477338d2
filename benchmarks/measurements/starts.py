"""Start times of a gateway and a worker, from exec until they serve, and their memory.

A worker is measured at its first start, with an empty model cache, and at later ones. A document waits for it in
the ledger, as after a time without workers; when that is done, the first forward pass is over.
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

from benchmarks.children import Stack, start_stack
from benchmarks.texts import LABELS, make_texts
from benchmarks.usage import rss_mb
from tests.support.processes.harness import wait_for

POLL_S = 0.02
"""Seconds between two polls of /readyz."""
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Start:
    """Start of a process.

    Attributes:
        ready_s: from exec to the first 200 of /readyz.
        answer_s: from exec until the waiting document was done; 0 without one.
        peak_mb: peak of resident memory.
        rss_mb: resident memory at the end.
    """

    ready_s: float
    answer_s: float
    peak_mb: float
    rss_mb: float

    @classmethod
    def median(cls, starts: list[Start]) -> Start:
        """Return the median of several starts, field by field."""
        return cls(*(statistics.median(getattr(start, field.name) for start in starts) for field in fields(cls)))


def measure_gateways(rounds: int) -> Start:
    """Measure a gateway's start."""
    with start_stack({}) as running:
        return Start.median([_measure_start(running, "gateway", "gateway") for _ in range(rounds)])


def measure_workers(rounds: int, module: str = "worker") -> tuple[Start, Start]:
    """Measure a worker's first start, and its later ones."""
    with (
        tempfile.TemporaryDirectory(prefix="gl-") as cache,
        start_stack({"gateway": ("gateway",)}, GLEANER_MODEL_CACHE=cache) as running,
        httpx.Client(base_url=running.url, headers={"X-API-Key": running.key}, trust_env=False) as client,
    ):
        first, *later = [_measure_start(running, "worker", module, client) for _ in range(1 + rounds)]
    return first, Start.median(later)


def _measure_start(running: Stack, role: str, module: str, client: httpx.Client | None = None) -> Start:
    job = _submit_job(client) if client else ""
    began = time.time()
    child = running.launch(role, (module,))
    try:
        _await_ready(child.probe_port)
        ready = time.time()
        done = _await_finish(client, job) if client else began
        peak, rss = _memory_mb(child.pid)
    finally:
        child.drain()
    return Start(ready - began, done - began, peak, rss)


def _await_ready(port: int) -> None:
    """Poll until the process is ready, as lightly as possible, since polling must not slow the start."""

    def is_ready() -> bool:
        time.sleep(POLL_S)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    wait_for(is_ready, TIMEOUT_S, "the process is ready")


def _submit_job(client: httpx.Client) -> str:
    """Submit a job of one document, and return its path."""
    answer = client.post("/v1/jobs", json={"labels": list(LABELS), "documents": [{"text": make_texts(1)[0]}]})
    answer.raise_for_status()
    return f"/v1/jobs/{answer.json()['id']}"


def _await_finish(client: httpx.Client, job: str) -> float:
    """Return the time at which the job was finished, by Redis' clock, which is this machine's."""

    def fetch_job() -> dict[str, str]:
        return dict(client.get(job, params={"wait": 10}, timeout=30).json())

    wait_for(lambda: fetch_job()["finished_at"], TIMEOUT_S, "the job is finished")
    return datetime.fromisoformat(fetch_job()["finished_at"]).timestamp()


def _memory_mb(pid: int) -> tuple[float, float]:
    """Return peak and current resident memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    now = rss_mb(pid)
    return max(now, peak_kb * 1024 / 1e6), now  # the kernel counts in batches, and may lag behind
