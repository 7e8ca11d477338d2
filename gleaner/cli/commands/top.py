"""`gleaner top`: current queues, workers, rates and errors, from the processes' /metrics."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import httpx
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory
from gleaner.cli.escaping import escape_text
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.printing import print_json
from gleaner.localstack.datadir import DataDir

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Metrics of all processes at one moment.

    Attributes:
        at: monotonic seconds.
        samples: metric name -> labels -> value, summed over processes.
        silent: addresses that did not respond.
    """

    at: float
    samples: Mapping[str, Mapping[Labels, float]]
    silent: tuple[str, ...] = ()

    def sum_samples(self, name: str, **where: str) -> float:
        """Return a metric's sum over the samples with these labels."""
        required = set(where.items())
        return sum(value for labels, value in self.samples.get(name, {}).items() if required <= labels)

    def sum_by_label(self, name: str, label: str) -> dict[str, float]:
        """Return a metric's sums by the values of one label."""
        sums: dict[str, float] = defaultdict(float)
        for labels, value in self.samples.get(name, {}).items():
            sums[dict(labels).get(label, "")] += value
        return dict(sums)


_SHARED = (
    *("gleaner_open_", "gleaner_backlog_", "gleaner_oldest_", "gleaner_drain_", "gleaner_live_"),
    *("gleaner_model_trouble", "gleaner_store_", "gleaner_tenant_stored_"),
)
"""Prefixes of the ledger's metrics, which are the same in every courier: they are not summed."""
_COUNTERS = {
    "requests": "gleaner_http_requests_total",
    "documents": "gleaner_documents_total",
    "jobs ended": "gleaner_jobs_total",
    "entities": "gleaner_entities_total",
    "webhook attempts": "gleaner_webhook_attempts_total",
}


def show_metrics(
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics", help="URL of a process's /metrics; may be repeated. [default: the local stack's]"
        ),
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two updates.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the state once and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state once, as a JSON object.")] = False,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Watch queues, workers, rates, the oldest job and errors, until Ctrl-C."""
    urls = metrics or _local_metrics_urls(DataDir(data_dir))
    console = Console()
    with httpx.Client(timeout=3, trust_env=False) as client:
        before = scrape_metrics(client, urls)
        if once or as_json:
            time.sleep(min(every, 1.0))
            current = compute_state(before, scrape_metrics(client, urls))
            if as_json:
                print_json(current)
            else:
                console.print(format_state(current))
            return
        with Live(format_state(compute_state(before, before)), console=console, refresh_per_second=4) as live:
            while True:
                time.sleep(every)
                now = scrape_metrics(client, urls)
                live.update(format_state(compute_state(before, now)))
                before = now


def scrape_metrics(client: httpx.Client, urls: Iterable[str]) -> Snapshot:
    """Read the metrics of every process once."""
    from prometheus_client.parser import text_string_to_metric_families  # the client package must not require it

    samples: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
    silent = []
    for url in urls:
        try:
            text = client.get(url).raise_for_status().text
        except httpx.HTTPError:
            silent.append(url)
            continue
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = frozenset(sample.labels.items())
                if sample.name.startswith(_SHARED):
                    samples[sample.name][labels] = sample.value
                else:
                    samples[sample.name][labels] += sample.value
    return Snapshot(time.monotonic(), samples, tuple(silent))


@dataclass(frozen=True, slots=True)
class Queue:
    """One model's backlog."""

    model: str
    trouble: bool
    open_shards: int
    open_jobs: int
    backlog_s: float
    oldest_s: float
    workers: int
    characters_per_s: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """A counter: its current rate and its total."""

    what: str
    per_s: float
    total: int


@dataclass(frozen=True, slots=True)
class State:
    """State computed from two snapshots: sums from the second, rates from their difference.

    Attributes:
        store: state of Redis: up, down, or unknown if no courier responds.
        stored: bytes stored in Redis by tenant, largest first.
        errors: number of errors by kind since the processes started.
        silent: addresses that did not respond.
    """

    queues: tuple[Queue, ...]
    rates: tuple[Throughput, ...]
    shards_held: int
    slots: int
    store: Literal["up", "down", "unknown"]
    stored: Mapping[str, int]
    errors: Mapping[str, int]
    silent: tuple[str, ...]


def compute_state(before: Snapshot, now: Snapshot) -> State:
    """Compute the state from two snapshots."""
    elapsed = max(now.at - before.at, 0.001)
    queues = []
    for model in sorted(now.sum_by_label("gleaner_open_shards", "model")):
        read = partial(now.sum_samples, model=model)
        queues.append(
            Queue(
                model=model,
                trouble=bool(read("gleaner_model_trouble")),
                open_shards=int(read("gleaner_open_shards")),
                open_jobs=int(read("gleaner_open_jobs")),
                backlog_s=read("gleaner_backlog_seconds"),
                oldest_s=read("gleaner_oldest_open_seconds"),
                workers=int(read("gleaner_live_workers")),
                characters_per_s=read("gleaner_drain_characters_per_second"),
            )
        )
    rates = []
    for what, name in _COUNTERS.items():
        total = now.sum_samples(name)
        rates.append(Throughput(what, max(0.0, total - before.sum_samples(name)) / elapsed, int(total)))
    is_redis_known = bool(now.samples.get("gleaner_store_up"))
    stored = now.sum_by_label("gleaner_tenant_stored_bytes", "tenant")
    return State(
        queues=tuple(queues),
        rates=tuple(rates),
        shards_held=int(now.sum_samples("gleaner_worker_shards")),
        slots=int(now.sum_samples("gleaner_worker_slots")),
        store="unknown" if not is_redis_known else "up" if now.sum_samples("gleaner_store_up") else "down",
        stored={tenant: int(size) for tenant, size in sorted(stored.items(), key=lambda item: -item[1])},
        errors=_count_errors(now),
        silent=now.silent,
    )


def format_state(current: State) -> Group:
    """Return the state as tables and lines to print."""
    queue = Table("model", "open shards", "jobs", "backlog", "oldest", "workers", "characters/s", box=None)
    for backlog in current.queues:
        queue.add_row(
            Text(escape_text(backlog.model) + (" (cannot load)" if backlog.trouble else "")),
            str(backlog.open_shards),
            str(backlog.open_jobs),
            _format_duration(backlog.backlog_s),
            _format_duration(backlog.oldest_s),
            str(backlog.workers),
            f"{backlog.characters_per_s:.0f}",
        )
    rates = Table("", "per second", "total", box=None)
    for rate in current.rates:
        rates.add_row(rate.what, f"{rate.per_s:.1f}", str(rate.total))
    lines = [Text(f"workers are processing {current.shards_held} shards in {current.slots} slots")]
    trouble = {"unknown": "no courier responds: the queues are unknown", "down": "Redis does not respond"}
    problems = [trouble[current.store]] if current.store in trouble else []
    problems += [f"no response from {escape_text(url)}" for url in current.silent]
    lines += [Text(problem, style="red") for problem in problems]
    if current.stored:
        largest = list(current.stored.items())[:5]
        sizes = ", ".join(f"{escape_text(tenant)} {size / 1e6:.1f} MB" for tenant, size in largest)
        lines.append(Text(f"stored in Redis by tenant: {sizes}"))
    counts = ", ".join(f"{escape_text(what)} {count}" for what, count in current.errors.items())
    errors = Text(f"errors since start: {counts or 'none'}", style="yellow" if counts else "green")
    return Group(queue, Text(), rates, Text(), *lines, errors)


def _count_errors(now: Snapshot) -> dict[str, int]:
    documents = now.sum_by_label("gleaner_documents_total", "code")
    answers = now.sum_by_label("gleaner_http_requests_total", "status")
    counts = {
        **{f"document {code}": count for code, count in documents.items() if code != "ok"},
        **{f"HTTP {status}": count for status, count in answers.items() if status.startswith("5")},
        "leases lost": now.sum_samples("gleaner_leases_lost_total"),
        "webhooks given up": now.sum_samples("gleaner_webhook_attempts_total", outcome="failed"),
        "out of memory": now.sum_samples("gleaner_oom_total"),
    }
    return {what: int(count) for what, count in counts.items() if count}


def _format_duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _local_metrics_urls(directory: DataDir) -> list[str]:
    stack = directory.read_stack()
    if stack is None:
        raise CommandError(
            f"no stack is running in {directory.root}; name the processes with --metrics http://HOST:910x/metrics"
        )
    return [url for urls in stack["metrics"].values() for url in urls]
