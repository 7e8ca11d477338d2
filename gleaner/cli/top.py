"""`gleaner top`: queues, workers, rates and errors as they are now, from the processes' own /metrics."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import httpx
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory
from gleaner.cli.failures import CommandError
from gleaner.stack.datadir import DataDir

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Sight:
    """What all processes showed at one moment.

    Attributes:
        at: monotonic seconds.
        samples: metric name to its samples, each its labels and its sum over processes.
        silent: addresses that did not answer.
    """

    at: float
    samples: Mapping[str, Mapping[Labels, float]]
    silent: tuple[str, ...] = ()

    def total(self, name: str, **where: str) -> float:
        """A metric's sum over the samples with these labels."""
        wanted = set(where.items())
        return sum(value for labels, value in self.samples.get(name, {}).items() if wanted <= labels)

    def by(self, name: str, label: str) -> dict[str, float]:
        """A metric's sums by one label."""
        found: dict[str, float] = defaultdict(float)
        for labels, value in self.samples.get(name, {}).items():
            found[dict(labels).get(label, "")] += value
        return dict(found)


_SHARED = (
    *("gleaner_open_", "gleaner_backlog_", "gleaner_oldest_", "gleaner_drain_", "gleaner_live_"),
    *("gleaner_model_trouble", "gleaner_store_"),
)
"""The ledger's numbers, which every courier shows alike: taken once, not summed."""


def top(
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", help="A process's /metrics; repeat it. [default: the local stack's]"),
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end.")] = False,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Watch queues, workers, rates, the oldest job and errors; Ctrl-C ends it."""
    urls = metrics or _of_stack(DataDir.at(data_dir))
    console = Console()
    with httpx.Client(timeout=3, trust_env=False) as client:
        before = look(client, urls)
        time.sleep(min(every, 1.0) if once else 0)
        if once:
            console.print(picture(before, look(client, urls)))
            return
        with Live(picture(before, before), console=console, refresh_per_second=4) as live:
            while True:
                time.sleep(every)
                now = look(client, urls)
                live.update(picture(before, now))
                before = now


def look(client: httpx.Client, urls: Iterable[str]) -> Sight:
    """Read every process once."""
    from prometheus_client.parser import text_string_to_metric_families  # the light client does without it

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
    return Sight(time.monotonic(), samples, tuple(silent))


def picture(before: Sight, now: Sight) -> Group:
    """Two looks as something to print: sums from the second, rates from their difference."""
    seconds = max(now.at - before.at, 0.001)

    def rate(name: str) -> float:
        return max(0.0, now.total(name) - before.total(name)) / seconds

    queue = Table("model", "open shards", "jobs", "backlog", "oldest", "workers", "characters/s", box=None)
    for model, shards in sorted(now.by("gleaner_open_shards", "model").items()):

        def of(name: str, model: str = model) -> float:
            return now.total(name, model=model)

        trouble = " (cannot load)" if of("gleaner_model_trouble") else ""
        queue.add_row(
            model + trouble,
            f"{shards:.0f}",
            f"{of('gleaner_open_jobs'):.0f}",
            _span(of("gleaner_backlog_seconds")),
            _span(of("gleaner_oldest_open_seconds")),
            f"{of('gleaner_live_workers'):.0f}",
            f"{of('gleaner_drain_characters_per_second'):.0f}",
        )
    rates = Table("", "per second", "in all", box=None)
    for title, name in (
        ("requests", "gleaner_http_requests_total"),
        ("documents", "gleaner_documents_total"),
        ("jobs ended", "gleaner_jobs_total"),
        ("entities", "gleaner_entities_total"),
        ("webhook attempts", "gleaner_webhook_attempts_total"),
    ):
        rates.add_row(title, f"{rate(name):.1f}", f"{now.total(name):.0f}")
    held, slots = now.total("gleaner_worker_shards"), now.total("gleaner_worker_slots")
    lines = [Text(f"workers hold {held:.0f} of {slots:.0f} shards")]
    if not now.samples.get("gleaner_store_up"):
        lines.append(Text("no courier answers: the queue is not known", style="red"))
    elif not now.total("gleaner_store_up"):
        lines.append(Text("the store does not answer", style="red"))
    lines += [Text(f"no answer from {url}", style="red") for url in now.silent]
    return Group(queue, Text(), rates, Text(), *lines, _errors(now))


def _errors(now: Sight) -> Text:
    found = {
        **{f"document {code}": n for code, n in now.by("gleaner_documents_total", "code").items() if code != "ok"},
        **{
            f"HTTP {status}": n
            for status, n in now.by("gleaner_http_requests_total", "status").items()
            if status.startswith("5")
        },
        "leases lost": now.total("gleaner_leases_lost_total"),
        "webhooks given up": now.total("gleaner_webhook_attempts_total", outcome="failed"),
        "out of memory": now.total("gleaner_oom_total"),
    }
    told = ", ".join(f"{what} {count:.0f}" for what, count in found.items() if count)
    return Text(f"errors since start: {told or 'none'}", style="yellow" if told else "green")


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _of_stack(directory: DataDir) -> list[str]:
    stack = directory.read_stack()
    if stack is None:
        raise CommandError(
            f"no stack runs in {directory.root}: name processes by --metrics http://HOST:910x/metrics"
        )
    return [url for urls in stack["metrics"].values() for url in urls]
