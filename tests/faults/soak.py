"""`make soak`: an hour (or SOAK_S seconds) of steady work; memory, files, connections and prefetch must stay flat.

Prints a table, writes every sample to .cache/soak.csv and a plot to .cache/soak.svg, exits 1 if anything grew.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
import time

import psutil

from jobs import naming
from jobs.queue import celery_queues
from jobs.schema import Priority
from tests.support.processes.harness import ROOT, ServiceHarness
from tests.support.record import MODEL, Load, Record

SECONDS = float(os.environ.get("SOAK_S", "3600"))
SAMPLES = 120
GROWTH = 0.10
"""The last quarter may be this much above the second; the first is warm-up."""
FREE = {"rss_mib": 8.0, "fds": 4.0, "threads": 2.0, "connections": 6.0, "memory_mib": 4.0, "prefetch": 0.0}
"""Growth that is noise, in the unit of each measure."""
OUT = ROOT / ".cache" / "soak.csv"


def sample(harness: ServiceHarness) -> dict[str, float]:
    """Return a row of measurements."""
    row: dict[str, float] = {}
    seen: dict[str, int] = {}
    for child in harness.children:
        seen[child.role] = seen.get(child.role, 0) + 1
        name, process = f"{child.role}{seen[child.role]}", psutil.Process(child.pid)
        with process.oneshot():
            row[f"{name} rss_mib"] = process.memory_info().rss / 2**20
            row[f"{name} fds"] = process.num_fds()
            row[f"{name} threads"] = process.num_threads()
    with harness.server.client(1) as store, harness.server.client(0) as broker:
        row["server memory_mib"] = store.info("memory")["used_memory"] / 2**20
        row["server connections"] = store.info("clients")["connected_clients"]
        row["broker queued"] = sum(
            celery_queues.queue_length(broker, naming.queue_name(MODEL, p)) for p in Priority
        )
    app = celery_queues.build_celery_app(harness.server.url(0), celery_queues.model_queues([MODEL]), "soak")
    for name, stats in sorted((app.control.inspect(timeout=2).stats() or {}).items()):
        row[f"{name.partition('@')[0]} prefetch"] = stats["prefetch_count"]
    app.close()
    return row


def forget(harness: ServiceHarness) -> None:
    """Expire after half a minute the keys of a day (responses to Idempotency-Keys) or a week (tombstones).

    Both grow with the jobs of that time by design; within an hour they would look like a leak, or hide one.
    """
    with harness.server.client() as client:
        for pattern in ("{gleaner}:idem:*", "{gleaner}:gone:*"):
            for key in client.scan_iter(pattern, count=1000):
                client.expire(key, 30, lt=True)


def verdicts(rows: list[dict[str, float]]) -> list[tuple[str, float, float, float, bool]]:
    """Each measure's mean in the second and in the last quarter, its peak, and whether it grew."""
    quarter = max(1, len(rows) // 4)
    comparisons = []
    for name in rows[-1]:
        early = statistics.fmean(row.get(name, 0.0) for row in rows[quarter : 2 * quarter] or rows)
        late = statistics.fmean(row.get(name, 0.0) for row in rows[-quarter:])
        free = FREE.get(name.rpartition(" ")[2])
        grew = free is not None and late > early * (1 + GROWTH) + free
        comparisons.append((name, early, late, max(row.get(name, 0.0) for row in rows), grew))
    return comparisons


def plot(rows: list[dict[str, float]], minutes: float) -> str:
    """Every measure over time as SVG: a line each, scaled to its own peak, so that growth shows in any unit."""
    width, height, left = 480, 26, 200
    parts = []
    for at, name in enumerate(rows[-1]):
        values = [row.get(name, 0.0) for row in rows]
        top, step = max(values) or 1.0, width / max(1, len(values) - 1)
        foot = (at + 1) * height
        line = " ".join(f"{left + i * step:.1f},{foot - 20 * v / top:.1f}" for i, v in enumerate(values))
        parts.append(f'<text x="4" y="{foot - 4}">{name}, peak {max(values):.0f}</text>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="#06c"/>')
    size = f'width="{left + width + 10}" height="{(len(rows[-1]) + 1) * height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">'
    return "\n".join([head, f"<title>{minutes:.0f} minutes</title>", *parts, "</svg>"])


def main() -> int:
    """Work and watch; 1 if a measure grew or a document was lost."""
    harness = ServiceHarness()
    rows: list[dict[str, float]] = []
    times: list[float] = []
    try:
        for start in (harness.gateway, harness.courier, harness.worker, harness.worker):
            start().wait_ready()
        record = Record(harness)
        record.options = {"result_ttl_s": 20}
        began = time.monotonic()
        with Load(record, most_open=40):
            while (passed := time.monotonic() - began) < SECONDS:
                forget(harness)
                rows.append(sample(harness))
                times.append(passed / 60)
                time.sleep(max(0.2, SECONDS / SAMPLES))
        record.entries = record.entries[-20:]  # older results are past their time, as they should be
        clean = record.verdict().clean
    finally:
        harness.close()
    comparisons = verdicts(rows)
    OUT.parent.mkdir(exist_ok=True)
    with OUT.open("w", newline="") as out:
        table = csv.DictWriter(out, ["minutes", *rows[-1]], restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows({"minutes": round(at, 3), **row} for at, row in zip(times, rows, strict=True))
    OUT.with_suffix(".svg").write_text(plot(rows, times[-1]))
    lines = [
        f"{SECONDS:.0f} s, {sum(record.codes.values())} requests, {len(rows)} samples in {OUT.relative_to(ROOT)}",
        f"{'measure':28} {'2nd quarter':>12} {'last':>10} {'peak':>10}",
    ]
    for name, early, late, peak, grew in comparisons:
        lines.append(f"{name:28} {early:12.1f} {late:10.1f} {peak:10.1f}{'  GREW' if grew else ''}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if clean and not any(grew for *_, grew in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
