"""`gleaner jobs`, `watch`, `results`, `cancel`, `retry`, `purge`: a job's life after its submission."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.escaping import plain
from gleaner.cli.exit_codes import DOCUMENTS_FAILED
from gleaner.cli.files.file_runs import Bom, CsvCells
from gleaner.cli.files.outputs import require_free
from gleaner.cli.files.writers import Cells, Form, OutputFormat, format_of, printing, require, writing
from gleaner.cli.output import AsJson, local, print_json, print_line, print_table, seconds
from gleaner.models import JobInfo

JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]


@with_gateway
def jobs(
    gateway: Gateway,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Show this job alone.")] = None,
    status: Annotated[str | None, typer.Option(help="Only jobs with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first, or show one."""
    with gateway.client() as client:
        found = [client.job(job)] if job else list(client.jobs(status=status, limit=limit))
    if as_json:
        for one in found:
            print_json(one.info)
        return
    print_table(
        ("job", "status", "finished", "failed", "eta", "created"),
        (
            (
                one.id,
                one.status,
                f"{one.counts.finished}/{one.counts.total}",
                str(one.counts.failed),
                seconds(one.info.eta_s),
                local(one.info.created_at),
            )
            for one in found
        ),
    )


@with_gateway
def watch(
    gateway: Gateway,
    job: JobId,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Give up after so many seconds (exit code 3); the job goes on.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow a job to its end; exit code 1 if it did not succeed."""
    with gateway.client() as client, _following(as_json) as tell:
        ended = client.job(job).wait(timeout, on_progress=tell)
    if not as_json:
        print_line(_sentence(ended.info))
    if ended.status != "succeeded":
        raise typer.Exit(DOCUMENTS_FAILED)


@with_gateway
def results(
    gateway: Gateway,
    job: JobId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file instead of standard output; replaced if there.")
    ] = None,
    status: Annotated[str | None, typer.Option(help="Only documents with this status.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for documents that are not finished yet.")] = False,
    kind: Annotated[
        OutputFormat | None,
        typer.Option("--format", help="How to write them. [default: by OUT's name, else jsonl]"),
    ] = None,
    csv: CsvCells = None,
    bom: Bom = False,
) -> None:
    """Print a job's results in input order: JSON, one object a line, or as --format says."""
    form = Form(format_of(output, kind), csv or Cells.guarded, bom)
    require(form.kind)
    if output is not None:
        require_free(output)
    with printing(form) if output is None else writing(output, form) as write, gateway.client() as client:
        for result in client.job(job).results(status=status, follow=follow):
            write(result.to_json())


@with_gateway
def cancel(gateway: Gateway, job: JobId, as_json: AsJson = False) -> None:
    """Stop a job; documents that are finished keep their results."""
    with gateway.client() as client:
        handle = client.job(job).cancel()
    if as_json:
        print_json(handle.info)
    else:
        print_line(f"{handle.id} is {handle.status}")


@with_gateway
def retry(gateway: Gateway, job: JobId, as_json: AsJson = False) -> None:
    """Make a new job of a finished one's failed, cancelled and expired documents."""
    with gateway.client() as client:
        handle = client.job(job).retry()
    if as_json:
        print_json(handle.info)
    else:
        print_line(f"{handle.id} retries {handle.counts.total} documents of {job}")


@with_gateway
def purge(gateway: Gateway, job: JobId, as_json: AsJson = False) -> None:
    """Delete a finished job's texts and results for good."""
    with gateway.client() as client:
        client.job(job).delete()
    if as_json:
        print_json({"id": job, "purged": True})
    else:
        print_line(f"{job} is purged")


@contextmanager
def _following(as_json: bool) -> Iterator[Callable[[JobInfo], None]]:
    """What `watch` does with every answer: a bar on a terminal, a line whenever something changed elsewhere."""
    said: list[object] = []

    def changed(info: JobInfo) -> bool:
        now = (info.status, info.counts)
        if said[-1:] == [now]:
            return False
        said[:] = [now]
        return True

    console = Console(stderr=True)
    if as_json or not console.is_terminal:
        yield lambda info: (print_json(info) if as_json else print_line(_sentence(info))) if changed(info) else None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, TextColumn("{task.fields[eta]}"), console=console, transient=True) as progress:
        task = progress.add_task("", total=None, eta="")

        def tell(info: JobInfo) -> None:
            eta = "" if info.eta_s is None else f"eta {seconds(info.eta_s)}"
            counts = info.counts
            progress.update(
                task, total=counts.total, completed=counts.finished, description=plain(info.status), eta=eta
            )

        yield tell


def _sentence(info: JobInfo) -> str:
    counts = info.counts
    eta = "" if info.done or info.eta_s is None else f", eta {seconds(info.eta_s)}"
    why = "".join(f", {count} x {code}" for code, count in info.error_summary.items())
    return (
        f"{info.id} is {info.status}: {counts.finished}/{counts.total} finished, {counts.failed} failed{why}{eta}"
    )
