"""`gleaner jobs`, `results`, `cancel`, `retry`, `purge`, `models`: what is at the gateway, as tables or JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory, Key, Url, connect
from gleaner.models import JobInfo

JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def jobs(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Show this job alone.")] = None,
    status: Annotated[str | None, typer.Option(help="Only jobs with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """List jobs, newest first, or show one."""
    with connect(context, url, key, data_dir) as client:
        found = [client.job(job)] if job else list(client.jobs(status=status, limit=limit))
    if as_json:
        for one in found:
            typer.echo(json.dumps(asdict(one.info), default=str))
    else:
        Console().print(_table([one.info for one in found]))


def results(
    context: typer.Context,
    job: JobId,
    status: Annotated[str | None, typer.Option(help="Only documents with this status.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for documents that are not finished yet.")] = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Print a job's results in input order, one JSON object a line."""
    with connect(context, url, key, data_dir) as client:
        for result in client.job(job).results(status=status, follow=follow):
            typer.echo(json.dumps(result.to_json(), ensure_ascii=False))


def cancel(
    context: typer.Context,
    job: JobId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Stop a job; documents that are finished keep their results."""
    with connect(context, url, key, data_dir) as client:
        handle = client.job(job).cancel()
    typer.echo(f"{handle.id} is {handle.status}")


def retry(
    context: typer.Context,
    job: JobId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Make a new job of a finished one's failed, cancelled and expired documents."""
    with connect(context, url, key, data_dir) as client:
        handle = client.job(job).retry()
    typer.echo(f"{handle.id} retries {handle.counts.total} documents of {job}")


def purge(
    context: typer.Context,
    job: JobId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Delete a finished job's texts and results for good."""
    with connect(context, url, key, data_dir) as client:
        client.job(job).delete()
    typer.echo(f"{job} is purged")


def models(
    context: typer.Context,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """List the models that jobs may name."""
    with connect(context, url, key, data_dir) as client:
        found = client.models()
    if as_json:
        for model in found:
            typer.echo(json.dumps(asdict(model)))
        return
    table = Table("model", "workers", "revision", "state", box=None)
    for model in found:
        state = "ready" if model.available else model.reason or "no worker now; jobs wait for one"
        table.add_row(model.name, str(model.workers), model.revision or "", state)
    Console().print(table)


def _table(found: list[JobInfo]) -> Table:
    table = Table("job", "status", "finished", "failed", "eta", "created", box=None)
    for info in found:
        counts = info.counts
        table.add_row(
            info.id,
            info.status,
            f"{counts.finished}/{counts.total}",
            str(counts.failed),
            "" if info.eta_s is None else f"{info.eta_s:.0f} s",
            _local(info.created_at),
        )
    return table


def _local(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
