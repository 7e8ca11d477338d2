"""`gleaner jobs`, `watch`, `results`, `cancel`, `retry`, `purge`: follow and manage submitted jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.escaping import escape_text
from gleaner.cli.exit_codes import DOCUMENTS_FAILED
from gleaner.cli.files.file_runs import Bom, CsvCells, TableOption
from gleaner.cli.files.outputs import require_free
from gleaner.cli.files.result_rows import TABLES, TableName
from gleaner.cli.files.writers import OutputFormat, Printer, make_form, open_writer
from gleaner.cli.printing import AsJson, format_time, print_items, print_line, print_result
from gleaner.models import JobInfo

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]


@with_gateway
def list_jobs(
    gateway: Gateway,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Show only this job.")] = None,
    status: Annotated[str | None, typer.Option(help="Only jobs with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of jobs, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first, or show one."""
    with gateway.open_client() as client:
        handles = [client.job(job)] if job else list(client.jobs(status=status, limit=limit))
    columns = {
        "job": lambda job: job.id,
        "status": lambda job: job.status,
        "finished": lambda job: f"{job.counts.finished}/{job.counts.total}",
        "failed": lambda job: job.counts.failed,
        "eta": lambda job: None if job.eta_s is None else f"{job.eta_s:.0f} s",
        "created": lambda job: format_time(job.created_at),
    }
    print_items([handle.info for handle in handles], columns, as_json)


@with_gateway
def watch_job(
    gateway: Gateway,
    job: JobId,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Stop waiting after this number of seconds (exit code 3); the job continues."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Wait for a job to end and show its progress; exit code 1 if it did not succeed."""
    with gateway.open_client() as client, _progress_reporter(as_json) as report:
        ended = client.job(job).wait(timeout, on_progress=report)
    if not as_json:
        print_line(_describe_job(ended.info))
    if ended.status != "succeeded":
        raise typer.Exit(DOCUMENTS_FAILED)


@with_gateway
def print_results(
    gateway: Gateway,
    job: JobId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file instead of standard output; replaces it."),
    ] = None,
    status: Annotated[str | None, typer.Option(help="Only documents with this status.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for documents that are not finished yet.")] = False,
    kind: Annotated[
        OutputFormat | None,
        typer.Option("--format", help="Format of the output. [default: by OUT's name, or jsonl]"),
    ] = None,
    table: TableOption = TableName.ENTITIES,
    csv: CsvCells = None,
    bom: Bom = False,
) -> None:
    """Print a job's results in input order: as JSON lines, or in the format of --format."""
    form = make_form(output, kind, csv, bom, TABLES[table])
    if output is not None:
        require_free(output)
    with (
        contextlib.nullcontext(Printer(form).write_now) if output is None else open_writer(output, form) as write,
        gateway.open_client() as client,
    ):
        for result in client.job(job).results(status=status, follow=follow):
            write(result.to_json())


@with_gateway
def cancel_job(gateway: Gateway, job: JobId, as_json: AsJson = False) -> None:
    """Stop a job; finished documents keep their results."""
    with gateway.open_client() as client:
        handle = client.job(job).cancel()
    print_result(handle.info, f"{handle.id} is {handle.status}", as_json)


@with_gateway
def retry_job(gateway: Gateway, job: JobId, as_json: AsJson = False) -> None:
    """Create a new job from the failed, cancelled and expired documents of a finished one."""
    with gateway.open_client() as client:
        handle = client.job(job).retry()
    print_result(handle.info, f"{handle.id} retries {handle.counts.total} documents of {job}", as_json)


@with_gateway
def purge_job(gateway: Gateway, job: JobId, as_json: AsJson = False) -> None:
    """Permanently delete the texts and results of a finished job."""
    with gateway.open_client() as client:
        client.job(job).delete()
    print_result({"id": job, "purged": True}, f"{job} is purged", as_json)


@contextlib.contextmanager
def _progress_reporter(as_json: bool) -> Iterator[Callable[[JobInfo], None]]:
    """Yield a function that shows a job's progress: as a bar on a terminal, elsewhere as a line for each change."""
    console = Console(stderr=True)
    if as_json or not console.is_terminal:
        shown: tuple[object, ...] = ()

        def print_change(info: JobInfo) -> None:
            nonlocal shown
            if shown != (info.status, info.counts):
                shown = (info.status, info.counts)
                print_result(info, _describe_job(info), as_json)

        yield print_change
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, TextColumn("{task.fields[eta]}"), console=console, transient=True) as progress:
        task = progress.add_task("", total=None, eta="")

        def report(info: JobInfo) -> None:
            eta = "" if info.eta_s is None else f"eta {info.eta_s:.0f} s"
            counts = info.counts
            progress.update(
                task, total=counts.total, completed=counts.finished, description=escape_text(info.status), eta=eta
            )

        yield report


def _describe_job(info: JobInfo) -> str:
    counts = info.counts
    eta = "" if info.done or info.eta_s is None else f", eta {info.eta_s:.0f} s"
    why = "".join(f", {count} x {code}" for code, count in info.error_summary.items())
    return (
        f"{info.id} is {info.status}: {counts.finished}/{counts.total} finished, {counts.failed} failed{why}{eta}"
    )
