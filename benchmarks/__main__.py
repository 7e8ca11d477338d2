"""Measures a local stack: latency of one text, speed of one large job, speed of many small jobs.

`python -m benchmarks [--documents N] [--workers N]`. Starts a stack of its own, prints a table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.texts import LABELS, documents
from gleaner import Client
from gleaner.stack import LocalStack, StackOptions

CALLS = 100
CLIENTS = 16
Row = tuple[str, str]


def main() -> None:
    """Run every measurement on a fresh stack."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--documents", type=int, default=1000, help="documents of each throughput measurement")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        options = StackOptions(data_dir=Path(folder), port=0, workers=arguments.workers, flower=False)
        with LocalStack(options) as stack, Client(stack.facts["gateway_url"], stack.key) as client:
            texts = documents(arguments.documents)
            cores = len(os.sched_getaffinity(0))
            print(f"{cores} cores, {arguments.workers} worker(s), {len(texts)} documents, {_size(texts)}\n")
            print("| measured | |\n|---|---|")
            metrics = stack.facts["metrics"]["worker"]
            for title, measure in (
                (f"{CALLS} calls of /v1/extract, one after the other", _latency),
                ("one job", _one_job),
                (f"a job for each document, {CLIENTS} clients", _many_jobs),
            ):
                before = _totals(metrics)
                for name, value in measure(client, texts):
                    print(f"| {title}: {name} | {value} |")
                print(f"| {title}: windows, jobs in a micro-batch | {_company(before, _totals(metrics))} |")


def _latency(client: Client, texts: Sequence[str]) -> Iterator[Row]:
    client.extract([texts[0]], LABELS)
    seconds = [_timed(lambda text=text: client.extract([text], LABELS)) for text in texts[:CALLS]]
    cuts = statistics.quantiles(seconds, n=20)
    yield "p50", f"{1000 * statistics.median(seconds):.0f} ms"
    yield "p95", f"{1000 * cuts[-1]:.0f} ms"


def _one_job(client: Client, texts: Sequence[str]) -> Iterator[Row]:
    def run() -> None:
        job = client.submit(texts, LABELS).wait()
        assert job.counts.succeeded == len(texts), job.counts

    yield from _speed(texts, _timed(run))


def _many_jobs(client: Client, texts: Sequence[str]) -> Iterator[Row]:
    def run() -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            jobs = list(pool.map(lambda text: client.submit([text], LABELS), texts))
            for job in pool.map(lambda job: job.wait(), jobs):
                assert job.status == "succeeded", job.status

    yield from _speed(texts, _timed(run))


def _speed(texts: Sequence[str], seconds: float) -> Iterator[Row]:
    yield "time", f"{seconds:.1f} s"
    yield "documents a second", f"{len(texts) / seconds:.1f}"
    yield "characters a second", f"{sum(map(len, texts)) / seconds:,.0f}"


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _size(texts: Sequence[str]) -> str:
    lengths = sorted(map(len, texts))
    return f"{lengths[len(lengths) // 2]} characters in the median, {lengths[-1]} at most"


def _totals(urls: Sequence[str]) -> dict[str, float]:
    """The workers' micro-batch sums and counts, added up."""
    totals: dict[str, float] = {}
    for url in urls:
        for family in text_string_to_metric_families(httpx.get(url).text):
            for sample in family.samples:
                if sample.name.startswith("gleaner_microbatch_") and sample.name.endswith(("_sum", "_count")):
                    totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals


def _company(before: dict[str, float], after: dict[str, float]) -> str:
    """Mean windows and mean jobs of a micro-batch between two looks."""

    def moved(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    batches = moved("gleaner_microbatch_windows_count") or 1.0
    windows, jobs = moved("gleaner_microbatch_windows_sum"), moved("gleaner_microbatch_jobs_sum")
    return f"{windows / batches:.1f}, {jobs / batches:.1f}"


if __name__ == "__main__":
    main()
