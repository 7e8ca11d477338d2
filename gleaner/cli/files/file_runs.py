"""The work of `extract` and `redact`: files in, results out; the same command resumes an interrupted run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from gleaner.cli.connection import Gateway
from gleaner.cli.exit_codes import DOCUMENTS_FAILED
from gleaner.cli.extraction import CHUNK_CHARACTERS, Extraction, FileSink, Query, Sink, Tally
from gleaner.cli.files import writers
from gleaner.cli.files.inputs import Inputs, open_inputs
from gleaner.cli.files.journal import Journal
from gleaner.cli.files.outputs import LINES, Outputs, helper_path
from gleaner.cli.files.reading_options import InputOptions
from gleaner.cli.files.rows import Fault
from gleaner.cli.files.writers import Cells, Form, OutputFormat, Table
from gleaner.cli.output import print_json, print_to
from gleaner.client import Client
from gleaner.client.calls import SubmitOptions
from gleaner.client.scheduling import CHUNK_DOCUMENTS

_RETRIES = 6
"""Retries that cover a gateway's absence of half a minute, for example during a deployment."""

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The file to write. [default: print JSON lines]")
]
Written = Annotated[
    OutputFormat | None,
    typer.Option("--output-format", help="Format of the output. [default: by OUT's name, or jsonl]"),
]
CsvCells = Annotated[
    Cells | None,
    typer.Option(
        "--csv",
        help="CSV and TSV cells that a spreadsheet would run as a formula: guarded by a leading ', or raw. "
        "[default: guarded]",
    ),
]
Bom = Annotated[bool, typer.Option("--bom", help="Start CSV and TSV with a byte order mark, for Excel.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start again and replace OUT.")]
Summary = Annotated[
    bool,
    typer.Option("--json", help="Print the summary as JSON: with -o to standard output, else to standard error."),
]


@dataclass(frozen=True, slots=True)
class Target:
    """The output file and its format.

    Attributes:
        table: its columns and rows, if the format is a table.
    """

    path: Path
    form: Form
    table: Table

    @property
    def lines_path(self) -> Path:
        """File that grows during the run and becomes the output."""
        return helper_path(self.path, LINES)

    @property
    def line_form(self) -> Form:
        """Format of that file: Parquet, whose index is at its end, is converted from JSON lines at the end."""
        return Form() if self.form.kind is OutputFormat.PARQUET else self.form

    def finish(self, journal: Journal) -> None:
        """Turn the file of lines into the output."""
        if self.form.kind is OutputFormat.PARQUET:
            with writers.open_writer(self.path, self.form, self.table) as write:
                for line in writers.read_lines(self.lines_path):
                    write(line)
        else:
            writers.put_in_place(self.lines_path, self.path)
        journal.record_completion(self.path.stat().st_size)
        self.tidy()

    def tidy(self) -> None:
        """Remove the file of lines once the output is complete."""
        self.lines_path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Options of a command's output.

    Attributes:
        path: the file to write; None prints the results.
        form: format of the results.
        table: columns and rows, if the format is a table.
        overwrite: start again, whatever exists.
        as_json: print the summary as JSON.
        labels_file: a file that the command reads in addition to its inputs.
    """

    path: Path | None
    form: Form
    table: Table
    overwrite: bool
    as_json: bool
    labels_file: Path | None = None

    @property
    def outputs(self) -> Outputs:
        """The files that are written."""
        read = () if self.labels_file is None else (self.labels_file,)
        return Outputs(() if self.path is None else (self.path,), self.overwrite, read)


def run_files(
    gateway: Gateway, files: list[Path], reads: InputOptions, query: Query, output: OutputOptions
) -> None:
    """Process every document of the files, and write the results.

    Raises:
        typer.Exit: documents failed or were skipped.
        InputError, JournalError, CommandError, GleanerError: the message says what to do.
    """
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        output.outputs.check_writable()
        sink = writers.Printer(output.form, output.table) if output.path is None else None
        inputs = stack.enter_context(
            open_inputs(files, reads.kind, reads.reading, reads.on_bad_line, output.outputs)
        )
        for note in inputs.notes:
            print_to(console, note)
        client = stack.enter_context(gateway.open_client(retries=_RETRIES))
        if sink is not None:
            tally = _extract_to_stdout(client, query, inputs, console, sink)
        else:
            tally = _extract_to_file(client, query, inputs, console, output)
    _print_summary(console, tally, inputs, output)
    if tally.failed or inputs.skipped:
        raise typer.Exit(DOCUMENTS_FAILED)


def _extract_to_stdout(client: Client, query: Query, inputs: Inputs, console: Console, sink: Sink) -> Tally:
    # If both go to one terminal, the bar would overwrite lines of results.
    with _show_progress(console, inputs.total, 0, hidden=sys.stdout.isatty()) as on_progress:
        extraction = Extraction(client, query, sink, None, on_progress)
        try:
            return extraction.run(inputs.read_rows())
        except KeyboardInterrupt:
            extraction.cancel_jobs()
            raise


def _extract_to_file(
    client: Client, query: Query, inputs: Inputs, console: Console, output: OutputOptions
) -> Tally:
    target = Target(cast("Path", output.path), output.form, output.table)
    fingerprint = _compute_fingerprint(inputs, query, target)
    with contextlib.closing(Journal.open(target.path, fingerprint, overwrite=output.overwrite)) as journal:
        before = journal.progress
        if before.complete:
            target.tidy()
            print_to(
                console,
                f"{target.path} is already complete ({before.documents} documents); --overwrite starts again",
            )
            return Tally(before.documents, before.failed, before.entities)
        if before.documents:
            console.print(f"Resuming: {before.documents} of {inputs.total} documents already done")
        try:
            with (
                FileSink(target.lines_path, before.bytes, target.line_form, target.table) as sink,
                _show_progress(console, inputs.total, before.documents) as on_progress,
            ):
                tally = Extraction(client, query, sink, journal, on_progress).run(inputs.read_rows())
            target.finish(journal)
        except KeyboardInterrupt:
            console.print("interrupted; run the same command again to resume")
            raise
        except OSError as failure:
            if failure.filename is None:  # for example, if the disk is full
                failure.filename = str(target.lines_path)
                console.print(
                    "finished documents are kept; fix the problem and run the same command again to resume"
                )
            raise
        return tally


@contextlib.contextmanager
def _show_progress(
    console: Console, total: int, done: int, *, hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; yield a function that takes the number of finished documents."""
    progress = Progress(
        TextColumn("extracting"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn("documents/s"),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
        disable=hidden or not console.is_terminal,
        transient=True,
    )
    with progress:
        task = progress.add_task("extracting", total=total, completed=done)
        yield lambda finished: progress.update(task, completed=finished)


class _RateColumn(TextColumn):
    """Documents per second, once known."""

    def render(self, task: Task) -> Text:
        """Return the rate as text."""
        return Text("" if task.speed is None else f"{task.speed:.1f} {self.text_format}")


def _print_summary(console: Console, tally: Tally, inputs: Inputs, output: OutputOptions) -> None:
    if output.as_json:
        summary = {
            "documents": tally.documents,
            "entities": tally.entities,
            "failed": tally.failed,
            "errors": dict(tally.errors),
            "output": None if output.path is None else str(output.path),
            **({"skipped": inputs.skipped} if inputs.skipped else {}),
        }
        print_json(summary, to_stderr=output.path is None)
        return
    skipped = f", {inputs.skipped} skipped" if inputs.skipped else ""
    where = f" -> {output.path}" if output.path else ""
    print_to(
        console, f"{tally.documents} documents, {tally.entities} entities, {tally.failed} failed{skipped}{where}"
    )
    for code, count in tally.errors.most_common():
        print_to(console, f"  {count} x {code}")
    for fault in inputs.faults.describe():
        print_to(console, f"  {'skipped' if inputs.skipped else 'failed'}: {fault}")


def drop_unset(**options: Any) -> SubmitOptions:
    """Return the options that are not None."""
    return cast("SubmitOptions", {name: value for name, value in options.items() if value is not None})


def _compute_fingerprint(inputs: Inputs, query: Query, target: Target) -> str:
    reading, form = inputs.reading, target.form
    identity = {
        "inputs": inputs.digest,
        "columns": [reading.columns.text, reading.columns.id],
        "formats": [None if isinstance(source, Fault) else source.kind for source in inputs.sources],
        "reading": [reading.delimiter, reading.encoding, reading.quotes, sorted(reading.ignored), reading.split],
        "on_bad_line": inputs.on_bad_line,
        "labels": query.labels,
        "options": dict(query.options),
        "chunks": [CHUNK_DOCUMENTS, CHUNK_CHARACTERS],
        "output": [form.kind, form.cells, form.bom],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
