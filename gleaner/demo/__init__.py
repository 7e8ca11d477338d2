"""`gleaner demo`: the whole service at work on sample documents, from nothing to a result and back to nothing.

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
from gleaner.demo.highlight import around, colours, highlight, whole
from gleaner.demo.samples import Sample, samples
from gleaner.models import Result
from gleaner.webhook_listener import Listener
from gleaner.webhooks import new_secret

_LONG = 900
"""Characters beyond which a text is abridged."""
_WEBHOOK_S = 10.0
"""How long the demo waits for its webhook once the job has ended."""


def documents(client: Client, console: Console) -> bool:
    """Extract from the samples and show what came of it; says whether every document succeeded."""
    shown = samples()
    began = time.monotonic()
    with Listener(new_secret()) as listener:
        job = _run(client, shown, listener, console)
        seconds = time.monotonic() - began
        event = listener.next(_WEBHOOK_S)
    results = list(job.results())
    for sample, result in zip(shown, results, strict=True):
        # Lines are folded for the terminal alone: in a file they are whole.
        console.print(_picture(sample, result), soft_wrap=not console.is_terminal)
    console.print(_summary(job, results, seconds), soft_wrap=not console.is_terminal)
    console.print(_told(event), soft_wrap=not console.is_terminal)
    return event is not None and all(result.ok for result in results)


def _told(event: dict[str, Any] | None) -> Text:
    if event is None:
        return Text(f"no webhook came within {_WEBHOOK_S:.0f} s", style="red")
    return Text.assemble(
        ("webhook    ", "bold"), f"{event['type']}, signature verified\n", (json.dumps(event), "dim"), "\n"
    )


def _run(client: Client, shown: tuple[Sample, ...], listener: Listener, console: Console) -> Job:
    job = client.submit(
        [sample.document() for sample in shown],
        metadata={"made_by": "gleaner demo"},
        webhook={"url": listener.url, "secret": listener.secret},
    )
    console.print(f"job {job.id}: {len(shown)} documents accepted")
    columns = (TextColumn("extracting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("extracting", total=len(shown))
        return job.wait(on_progress=lambda info: progress.update(task, completed=info.counts.finished))


def _picture(sample: Sample, result: Result) -> Text:
    words = len(sample.text.split())
    windows = f", {result.windows} windows" if result.windows > 1 else ""
    title = Text.assemble((sample.id, "bold"), (f"  {words} words{windows}", "dim"))
    if not result.ok:
        reason = result.error.detail if result.error else result.status
        return Text.assemble("\n", title, "\n", (reason, "red"))
    long = len(sample.text) > _LONG
    parts = around(sample.text, result.entities, _LONG) if long else whole(sample.text)
    palette = colours(list(sample.labels))
    body = highlight(sample.text, result.entities, palette, parts)
    if long:
        body.append(f"  ({len(result.entities)} entities in all)", style="dim")
    return Text.assemble("\n", title, "\n", body)


def _summary(job: Job, results: list[Result], seconds: float) -> Text:
    labels = Counter(entity.label for result in results for entity in result.entities)
    by_label = ", ".join(f"{label} {count}" for label, count in labels.most_common())
    failed = sum(not result.ok for result in results)
    usage = job.info.usage
    rows = (
        ("documents", f"{len(results)} ({failed} failed)"),
        ("entities", f"{labels.total()}: {by_label}"),
        ("windows", f"{usage.windows} ({usage.windowed_documents} documents needed more than one)"),
        ("speed", f"{len(results) / seconds:.1f} documents/s, {usage.characters / seconds:,.0f} characters/s"),
    )
    lines = [Text.assemble((f"{name:<11}", "bold"), value) for name, value in rows]
    return Text("\n").join([Text(), *lines, Text()])
