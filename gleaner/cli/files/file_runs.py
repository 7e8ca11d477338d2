"""The work of `extract` and `redact`: files in, results out; the same command resumes an interrupted run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

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
from gleaner.cli.extraction import CHUNK_CHARACTERS, Extraction, Query
from gleaner.cli.files import writers
from gleaner.cli.files.inputs import Inputs, open_inputs
from gleaner.cli.files.journal import Journal, Tally
from gleaner.cli.files.outputs import LINES, Outputs, helper_path
from gleaner.cli.files.result_rows import ENTITIES, TEXTS, Table, TableName
from gleaner.cli.files.rows import Fault, Reading
from gleaner.cli.files.writers import Cells, FileSink, Form, OutputFormat, Sink
from gleaner.cli.printing import print_json, print_line
from gleaner.client import Client
from gleaner.client.scheduling import CHUNK_DOCUMENTS

_RETRIES = 6
"""Retries that cover a gateway's absence of half a minute, for example during a deployment."""

CsvCells = Annotated[
    Cells | None,
    typer.Option(
        "--csv",
        help="CSV and TSV cells that a spreadsheet would run as a formula: guarded by a leading ', or raw. "
        "[default: guarded]",
    ),
]
TableOption = Annotated[
    TableName, typer.Option("--table", help="Contents of CSV, TSV and Parquet: one row for each of them.")
]
Bom = Annotated[bool, typer.Option("--bom", help="Start CSV and TSV with a byte order mark, for Excel.")]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Options of the output of `extract` and `redact`."""

    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write. [default: print JSON lines]")
    ] = None
    output_format: Annotated[
        OutputFormat | None, typer.Option(help="Format of the output. [default: by OUT's name, or jsonl]")
    ] = None
    csv: CsvCells = None
    bom: Bom = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again and replace OUT.")] = False
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the summary as JSON: with -o to standard output, else to standard error."
        ),
    ] = False

    def make_target(self, table: Table, *files: Path | None) -> Target:
        """Return the output that the options name; `files` are read in addition to the inputs.

        Raises:
            CommandError: the options contradict each other, or a library for the format is missing.
        """
        form = writers.make_form(self.output, self.output_format, self.csv, self.bom, table)
        paths = tuple(path for path in (self.output,) if path is not None)
        read = tuple(path for path in files if path is not None)
        return Target(Outputs(paths, self.overwrite, read), form, self.as_json)


@dataclass(frozen=True, slots=True)
class Target:
    """The output of a run; without a path in `outputs`, the results are printed."""

    outputs: Outputs
    form: Form
    as_json: bool

    @property
    def path(self) -> Path | None:
        """The file to write, or None to print the results."""
        return next(iter(self.outputs.paths), None)


def run_files(gateway: Gateway, files: list[Path], reading: Reading, query: Query, target: Target) -> None:
    """Process every document of the files, and write the results.

    Raises:
        typer.Exit: documents failed or were skipped.
        InputError, JournalError, CommandError, GleanerError: the message says what to do.
    """
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        target.outputs.check_writable()
        sink = writers.Printer(target.form) if target.path is None else None
        inputs = stack.enter_context(open_inputs(files, reading, target.outputs))
        for note in inputs.notes:
            print_line(note, to_stderr=True)
        client = stack.enter_context(gateway.open_client(retries=_RETRIES))
        if sink is not None:
            tally = _extract_to_stdout(client, query, inputs, console, sink)
        else:
            tally = _extract_to_file(client, query, inputs, console, target)
    _print_summary(tally, inputs, target)
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


def _extract_to_file(client: Client, query: Query, inputs: Inputs, console: Console, target: Target) -> Tally:
    path, form = cast("Path", target.path), target.form
    lines = helper_path(path, LINES)
    fingerprint = _compute_fingerprint(inputs, query, form)
    with contextlib.closing(Journal.open(path, fingerprint, overwrite=target.outputs.overwrite)) as journal:
        before = journal.progress
        if before.complete:
            lines.unlink(missing_ok=True)
            text = f"{path} is already complete ({before.tally.documents} documents); --overwrite starts again"
            print_line(text, to_stderr=True)
            return before.tally
        if before.tally.documents:
            console.print(f"Resuming: {before.tally.documents} of {inputs.total} documents already done")
        # Parquet, whose index is at its end, is converted from JSON lines at the end.
        line_form = Form() if form.kind is OutputFormat.PARQUET else form
        try:
            with (
                contextlib.closing(FileSink(lines, before.bytes, line_form)) as sink,
                _show_progress(console, inputs.total, before.tally.documents) as on_progress,
            ):
                tally = Extraction(client, query, sink, journal, on_progress).run(inputs.read_rows())
            finish_output(path, form, journal)
        except KeyboardInterrupt:
            console.print("interrupted; run the same command again to resume")
            raise
        except OSError as failure:
            if failure.filename is None:  # for example, if the disk is full
                failure.filename = str(lines)
                console.print(
                    "finished documents are kept; fix the problem and run the same command again to resume"
                )
            raise
        return tally


def finish_output(path: Path, form: Form, journal: Journal) -> None:
    """Turn the file of lines into the output, and record that it is complete."""
    lines = helper_path(path, LINES)
    if form.kind is OutputFormat.PARQUET:
        with writers.open_writer(path, form) as write:
            for line in writers.read_results(lines):
                write(line)
    else:
        writers.put_in_place(lines, path)
    journal.record_completion(path.stat().st_size)
    lines.unlink(missing_ok=True)


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


def _print_summary(tally: Tally, inputs: Inputs, target: Target) -> None:
    if target.as_json:
        summary = {
            "documents": tally.documents,
            "entities": tally.entities,
            "failed": tally.failed,
            "errors": dict(tally.errors),
            "output": None if target.path is None else str(target.path),
            **({"skipped": inputs.skipped} if inputs.skipped else {}),
        }
        print_json(summary, to_stderr=target.path is None)
        return
    skipped = f", {inputs.skipped} skipped" if inputs.skipped else ""
    where = f" -> {target.path}" if target.path else ""
    lines = [f"{tally.documents} documents, {tally.entities} entities, {tally.failed} failed{skipped}{where}"]
    lines += [f"  {count} x {code}" for code, count in tally.errors.most_common()]
    lines += [f"  {'skipped' if inputs.skipped else 'failed'}: {fault}" for fault in inputs.faults.describe()]
    print_line("\n".join(lines), to_stderr=True)


def _compute_fingerprint(inputs: Inputs, query: Query, form: Form) -> str:
    reading = inputs.reading
    identity = {
        "inputs": inputs.digest,
        "columns": [reading.text_column, reading.id_column],
        "formats": [None if isinstance(source, Fault) else source.kind for source in inputs.sources],
        "reading": [reading.delimiter, reading.encoding, reading.quotes, sorted(reading.ignored), reading.split],
        "on_bad_line": reading.on_bad_line,
        "labels": query.labels,
        "options": dict(query.options),
        "chunks": [CHUNK_DOCUMENTS, CHUNK_CHARACTERS],
        "output": [form.kind, form.cells, form.bom],
        **({} if form.table in (ENTITIES, TEXTS) else {"table": form.table.columns}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
