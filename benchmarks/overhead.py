"""What a document costs outside the model: CPU of gateway, store and worker; how time and memory grow with a job.

`python -m benchmarks.overhead [--documents N]`. The real stack with a model that takes no time; one job of N
documents, then one of ten times as many.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.accept import cpu_s
from benchmarks.children import Stack, stack
from benchmarks.texts import LABELS, documents

MODULES = {"gateway": ("gateway",), "worker": ("benchmarks.path", "--child", "worker", "--fake")}
ROLES = (*MODULES, "store")


@dataclass(frozen=True)
class Cost:
    """Of one job: seconds until its end, CPU milliseconds a document and peak memory (MiB) by process."""

    documents: int
    seconds: float
    cpu_ms: dict[str, float]
    memory_mib: dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--documents", type=int, default=960)
    measure(parser.parse_args().documents)


def measure(count: int) -> tuple[Cost, Cost]:
    """Print and return the costs of a job of so many documents, and of one of ten times as many."""
    with stack(MODULES) as running:
        _job(running, count)  # connections, threads, caches
        small, large = _job(running, count), _job(running, 10 * count)
    print("| documents | seconds | CPU ms a document: " + " | ".join(ROLES) + " | peak MiB: gateway | worker |")
    print("|---|---|" + "---|" * (len(ROLES) + 2))
    for cost in (small, large):
        cpu = " | ".join(f"{cost.cpu_ms[role]:.3f}" for role in ROLES)
        memory = " | ".join(f"{cost.memory_mib[role]:.0f}" for role in MODULES)
        print(f"| {cost.documents} | {cost.seconds:.2f} | {cpu} | {memory} |")
    print(f"\n10 x the documents: {large.seconds / small.seconds:.1f} x the time")
    return small, large


def _job(running: Stack, count: int) -> Cost:
    pids = {role: child.pid for role, child in running.children.items()} | {"store": running.server.process.pid}
    body = {"labels": list(LABELS), "documents": [{"text": text} for text in documents(count)]}
    for role in MODULES:
        _forget_peak(pids[role])
    before = {role: cpu_s(pid) for role, pid in pids.items()}
    began = time.monotonic()
    with httpx.Client(
        base_url=running.url, headers={"X-API-Key": running.key}, trust_env=False, timeout=70
    ) as http:
        job = http.post("/v1/jobs", json=body).raise_for_status().json()
        while job["status"] in ("queued", "running"):
            job = http.get(f"/v1/jobs/{job['id']}", params={"wait": 60}).raise_for_status().json()
    seconds = time.monotonic() - began
    assert job["counts"]["succeeded"] == count, job["counts"]
    spent = {role: 1000 * (cpu_s(pid) - before[role]) / count for role, pid in pids.items()}
    return Cost(count, seconds, spent, {role: _peak_mib(pids[role]) for role in MODULES})


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak begins anew


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
