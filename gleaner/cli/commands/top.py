"""`gleaner top`: queues, workers, rates and errors as they are now, from the processes' own /metrics."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import httpx
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory
from gleaner.cli.escaping import plain
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.output import print_json
from gleaner.localstack.datadir import DataDir

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
    *("gleaner_model_trouble", "gleaner_store_", "gleaner_tenant_stored_"),
)
"""The ledger's numbers, which every courier shows alike: taken once, not summed."""


def top(
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", help="A process's /metrics; repeat it. [default: the local stack's]"),
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One look as a JSON object.")] = False,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Watch queues, workers, rates, the oldest job and errors; Ctrl-C ends it."""
    urls = metrics or _of_stack(DataDir.from_path(data_dir))
    console = Console()
    with httpx.Client(timeout=3, trust_env=False) as client:
        before = look(client, urls)
        if once or as_json:
            time.sleep(min(every, 1.0))
            seen = state(before, look(client, urls))
            if as_json:
                print_json(seen)
            else:
                console.print(picture(seen))
            return
        with Live(picture(state(before, before)), console=console, refresh_per_second=4) as live:
            while True:
                time.sleep(every)
                now = look(client, urls)
                live.update(picture(state(before, now)))
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
class Rate:
    """What is counted: how fast it goes now, and how much it is in all."""

    what: str
    per_s: float
    total: int


@dataclass(frozen=True, slots=True)
class State:
    """Two looks, understood: sums from the second, rates from their difference.

    Attributes:
        store: up, down, or unknown where no courier answers.
        stored: bytes that tenants keep in the store, the most first.
        errors: how often what went wrong since the processes' start.
        silent: addresses that did not answer.
    """

    queues: tuple[Queue, ...]
    rates: tuple[Rate, ...]
    shards_held: int
    slots: int
    store: Literal["up", "down", "unknown"]
    stored: Mapping[str, int]
    errors: Mapping[str, int]
    silent: tuple[str, ...]


def state(before: Sight, now: Sight) -> State:
    """What two looks mean."""
    elapsed = max(now.at - before.at, 0.001)
    queues = []
    for model in sorted(now.by("gleaner_open_shards", "model")):

        def of(name: str, model: str = model) -> float:
            return now.total(name, model=model)

        queues.append(
            Queue(
                model=model,
                trouble=bool(of("gleaner_model_trouble")),
                open_shards=int(of("gleaner_open_shards")),
                open_jobs=int(of("gleaner_open_jobs")),
                backlog_s=of("gleaner_backlog_seconds"),
                oldest_s=of("gleaner_oldest_open_seconds"),
                workers=int(of("gleaner_live_workers")),
                characters_per_s=of("gleaner_drain_characters_per_second"),
            )
        )
    rates = (
        Rate(what, max(0.0, now.total(name) - before.total(name)) / elapsed, int(now.total(name)))
        for what, name in (
            ("requests", "gleaner_http_requests_total"),
            ("documents", "gleaner_documents_total"),
            ("jobs ended", "gleaner_jobs_total"),
            ("entities", "gleaner_entities_total"),
            ("webhook attempts", "gleaner_webhook_attempts_total"),
        )
    )
    known = bool(now.samples.get("gleaner_store_up"))
    return State(
        queues=tuple(queues),
        rates=tuple(rates),
        shards_held=int(now.total("gleaner_worker_shards")),
        slots=int(now.total("gleaner_worker_slots")),
        store="unknown" if not known else "up" if now.total("gleaner_store_up") else "down",
        stored=_stored(now),
        errors=_errors(now),
        silent=now.silent,
    )


def picture(seen: State) -> Group:
    """The state as something to print."""
    queue = Table("model", "open shards", "jobs", "backlog", "oldest", "workers", "characters/s", box=None)
    for each in seen.queues:
        queue.add_row(
            Text(plain(each.model) + (" (cannot load)" if each.trouble else "")),
            str(each.open_shards),
            str(each.open_jobs),
            _span(each.backlog_s),
            _span(each.oldest_s),
            str(each.workers),
            f"{each.characters_per_s:.0f}",
        )
    rates = Table("", "per second", "in all", box=None)
    for rate in seen.rates:
        rates.add_row(rate.what, f"{rate.per_s:.1f}", str(rate.total))
    lines = [Text(f"workers hold {seen.shards_held} of {seen.slots} shards")]
    if seen.store == "unknown":
        lines.append(Text("no courier answers: the queue is not known", style="red"))
    elif seen.store == "down":
        lines.append(Text("the store does not answer", style="red"))
    lines += [Text(f"no answer from {plain(url)}", style="red") for url in seen.silent]
    if seen.stored:
        kept = ", ".join(f"{plain(tenant)} {size / 1e6:.1f} MB" for tenant, size in list(seen.stored.items())[:5])
        lines.append(Text(f"tenants keep in the store: {kept}"))
    told = ", ".join(f"{plain(what)} {count}" for what, count in seen.errors.items())
    errors = Text(f"errors since start: {told or 'none'}", style="yellow" if told else "green")
    return Group(queue, Text(), rates, Text(), *lines, errors)


def _stored(now: Sight) -> dict[str, int]:
    found = now.by("gleaner_tenant_stored_bytes", "tenant")
    return {tenant: int(size) for tenant, size in sorted(found.items(), key=lambda item: -item[1])}


def _errors(now: Sight) -> dict[str, int]:
    documents, answers = now.by("gleaner_documents_total", "code"), now.by("gleaner_http_requests_total", "status")
    found = {
        **{f"document {code}": count for code, count in documents.items() if code != "ok"},
        **{f"HTTP {status}": count for status, count in answers.items() if status.startswith("5")},
        "leases lost": now.total("gleaner_leases_lost_total"),
        "webhooks given up": now.total("gleaner_webhook_attempts_total", outcome="failed"),
        "out of memory": now.total("gleaner_oom_total"),
    }
    return {what: int(count) for what, count in found.items() if count}


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
