"""`gleaner demo`: run sample documents through the whole service and show the results.

stack up -> one job of all samples -> progress -> highlighted entities -> summary -> webhook -> stack down.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from gleaner.client import Client, Job
from gleaner.demo.highlight import Part, assign_colours, excerpt_around, highlight
from gleaner.demo.samples import Sample, load_samples
from gleaner.models import Result
from gleaner.webhook_listener import Listener
from gleaner.webhooks import new_secret

_LONG = 900
"""Longer texts are abridged, in characters."""
_WEBHOOK_S = 10.0
"""Seconds to wait for the webhook once the job has ended."""


def run_samples(client: Client, console: Console) -> bool:
    """Extract from the samples and show the results; return True if every document succeeded."""
    samples = load_samples()
    began = time.monotonic()
    with Listener(new_secret()) as listener:
        job = _run_job(client, samples, listener, console)
        seconds = time.monotonic() - began
        event = listener.next(_WEBHOOK_S)
    results = list(job.results())
    for sample, result in zip(samples, results, strict=True):
        # Lines are wrapped only on a terminal, not in a file.
        console.print(_format_result(sample, result), soft_wrap=not console.is_terminal)
    console.print(_format_summary(job, results, seconds), soft_wrap=not console.is_terminal)
    console.print(_format_event(event), soft_wrap=not console.is_terminal)
    return event is not None and all(result.ok for result in results)


def _format_event(event: dict[str, Any] | None) -> Text:
    if event is None:
        return Text(f"no webhook arrived within {_WEBHOOK_S:.0f} s", style="red")
    return Text.assemble(
        ("webhook    ", "bold"), f"{event['type']}, signature verified\n", (json.dumps(event), "dim"), "\n"
    )


def _run_job(client: Client, samples: tuple[Sample, ...], listener: Listener, console: Console) -> Job:
    job = client.submit(
        [sample.to_document() for sample in samples],
        metadata={"made_by": "gleaner demo"},
        webhook={"url": listener.url, "secret": listener.secret},
    )
    console.print(f"job {job.id}: {len(samples)} documents accepted")
    columns = (TextColumn("extracting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("extracting", total=len(samples))
        return job.wait(on_progress=lambda info: progress.update(task, completed=info.counts.finished))


def _format_result(sample: Sample, result: Result) -> Text:
    words = len(sample.text.split())
    windows = f", {result.windows} windows" if result.windows > 1 else ""
    title = Text.assemble((sample.id, "bold"), (f"  {words} words{windows}", "dim"))
    if not result.ok:
        reason = result.error.detail if result.error else result.status
        return Text.assemble("\n", title, "\n", (reason, "red"))
    long = len(sample.text) > _LONG
    parts = excerpt_around(sample.text, result.entities, _LONG) if long else [Part(0, len(sample.text))]
    palette = assign_colours(list(sample.labels))
    body = highlight(sample.text, result.entities, palette, parts)
    if long:
        body.append(f"  ({len(result.entities)} entities in all)", style="dim")
    return Text.assemble("\n", title, "\n", body)


def _format_summary(job: Job, results: list[Result], seconds: float) -> Text:
    labels = Counter(entity.label for result in results for entity in result.entities)
    by_label = ", ".join(f"{label} {count}" for label, count in labels.most_common())
    failed = sum(not result.ok for result in results)
    usage = job.info.usage
    rows = (
        ("documents", f"{len(results)} ({failed} failed)"),
        ("entities", f"{labels.total()}: {by_label}"),
        ("windows", f"{usage.windows} (documents with more than one: {usage.windowed_documents})"),
        ("speed", f"{len(results) / seconds:.1f} documents/s, {usage.characters / seconds:,.0f} characters/s"),
    )
    lines = [Text.assemble((f"{name:<11}", "bold"), value) for name, value in rows]
    return Text("\n").join([Text(), *lines, Text()])
