"""The work that `extract` and `redact` share: files in, results out; the same command again goes on."""

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
from gleaner.cli.extraction import CHUNK_CHARACTERS, CHUNK_DOCUMENTS, Extraction, FileSink, Sink, Tally
from gleaner.cli.files import writers
from gleaner.cli.files.inputs import Inputs, look_at
from gleaner.cli.files.journal import Journal
from gleaner.cli.files.outputs import LINES, Outputs, helper
from gleaner.cli.files.reading_options import Reads
from gleaner.cli.files.rows import Fault
from gleaner.cli.files.writers import Cells, Form, OutputFormat, Table
from gleaner.cli.output import print_json, say
from gleaner.client import Client
from gleaner.client.calls import Labels, SubmitOptions

_RETRIES = 6
"""A gateway may be away for half a minute, as while it is replaced, before a run ends."""

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The file to write; without it JSON lines are printed.")
]
Written = Annotated[
    OutputFormat | None,
    typer.Option("--output-format", help="How to write it. [default: by OUT's name, or jsonl]"),
]
CsvCells = Annotated[
    Cells | None,
    typer.Option(
        "--csv",
        help="Cells of CSV and TSV that a spreadsheet would run as a formula: guarded by a leading ', or raw. "
        "[default: guarded]",
    ),
]
Bom = Annotated[bool, typer.Option("--bom", help="Begin CSV and TSV with a byte order mark, for Excel.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin again, whatever OUT holds.")]
Summary = Annotated[
    bool, typer.Option("--json", help="The summary as JSON: printed with -o, else on standard error.")
]


@dataclass(frozen=True, slots=True)
class Target:
    """The output file and how it is written.

    Attributes:
        table: what rows it has, where it is a table.
    """

    path: Path
    form: Form
    table: Table

    @property
    def lines(self) -> Path:
        """What grows during the run and becomes the output."""
        return helper(self.path, LINES)

    @property
    def line_form(self) -> Form:
        """The form of the lines: Parquet, whose index is at its end, is made of JSON lines once all are there."""
        return Form() if self.form.kind is OutputFormat.parquet else self.form

    def finish(self, journal: Journal) -> None:
        """Make the output of its lines."""
        if self.form.kind is OutputFormat.parquet:
            with writers.writing(self.path, self.form, self.table) as write:
                for line in writers.read_lines(self.lines):
                    write(line)
        else:
            writers.put_in_place(self.lines, self.path)
        journal.complete(self.path.stat().st_size)
        self.tidy()

    def tidy(self) -> None:
        """Remove the lines once the output is made of them."""
        self.lines.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command shall write.

    Attributes:
        path: where to; None prints it.
        form: how.
        table: of what, where that is a table.
        overwrite: begin again, whatever is there.
        as_json: the summary as JSON.
        read: files that the command reads besides its inputs.
    """

    path: Path | None
    form: Form
    table: Table
    overwrite: bool
    as_json: bool
    read: tuple[Path, ...] = ()

    @classmethod
    def of(
        cls,
        path: Path | None,
        kind: OutputFormat | None,
        table: Table,
        *,
        cells: Cells | None,
        bom: bool,
        overwrite: bool,
        as_json: bool,
        read: Path | None,
    ) -> Wanted:
        """Return what the options say.

        Raises:
            CommandError: they do not go together, or the format cannot be written here.
        """
        form = Form(writers.format_of(path, kind), cells or Cells.guarded, bom)
        writers.require(form.kind)
        return cls(path, form, table, overwrite, as_json, () if read is None else (read,))

    @property
    def outputs(self) -> Outputs:
        """The files that are written."""
        return Outputs(() if self.path is None else (self.path,), self.overwrite, self.read)


def run(
    gateway: Gateway,
    files: list[Path],
    reads: Reads,
    labels: Labels | None,
    options: SubmitOptions,
    wanted: Wanted,
) -> None:
    """Have the gateway work on every document of the files, and write its results.

    Raises:
        typer.Exit: some documents failed, or were left out.
        InputError, JournalError, CommandError, GleanerError: as they say.
    """
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        wanted.outputs.check()
        sink = writers.Printer(wanted.form, wanted.table) if wanted.path is None else None
        inputs = stack.enter_context(look_at(files, reads.kind, reads.reading, reads.on_bad_line, wanted.outputs))
        for note in inputs.notes:
            say(console, note)
        client = stack.enter_context(gateway.client(retries=_RETRIES))
        if sink is not None:
            tally = _to_stdout(client, labels, options, inputs, console, sink)
        else:
            target = Target(cast("Path", wanted.path), wanted.form, wanted.table)
            fingerprint = _fingerprint(inputs, labels, options, target)
            journal = Journal.open(target.path, fingerprint, overwrite=wanted.overwrite)
            stack.callback(journal.close)
            tally = _to_file(client, labels, options, inputs, target, journal, console)
    _summary(console, tally, inputs, wanted)
    if tally.failed or inputs.skipped:
        raise typer.Exit(DOCUMENTS_FAILED)


def _to_stdout(
    client: Client,
    labels: Labels | None,
    options: SubmitOptions,
    inputs: Inputs,
    console: Console,
    sink: Sink,
) -> Tally:
    # On one terminal, results and a bar would stand in each other's lines.
    with _bar(console, inputs.total, 0, hidden=sys.stdout.isatty()) as on_progress:
        run = Extraction(client, labels, options, sink, None, on_progress)
        try:
            return run.run(inputs.rows())
        except KeyboardInterrupt:
            run.cancel()
            raise


def _to_file(
    client: Client,
    labels: Labels | None,
    options: SubmitOptions,
    inputs: Inputs,
    target: Target,
    journal: Journal,
    console: Console,
) -> Tally:
    before = journal.progress
    if before.complete:
        target.tidy()
        say(console, f"{target.path} is complete already ({before.documents} documents); --overwrite begins again")
        return Tally(before.documents, before.failed, before.entities)
    if before.documents:
        console.print(f"going on after {before.documents} of {inputs.total} documents")
    try:
        with (
            FileSink(target.lines, before.bytes, target.line_form, target.table) as sink,
            _bar(console, inputs.total, before.documents) as on_progress,
        ):
            tally = Extraction(client, labels, options, sink, journal, on_progress).run(inputs.rows())
        target.finish(journal)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here")
        raise
    except OSError as failure:
        if failure.filename is None:  # as where the disk is full
            failure.filename = str(target.lines)
            console.print("what is done is kept; once this is mended, the same command goes on from here")
        raise
    return tally


@contextlib.contextmanager
def _bar(console: Console, total: int, done: int, *, hidden: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; it takes the number of finished documents."""
    progress = Progress(
        TextColumn("extracting"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate("documents/s"),
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


class _Rate(TextColumn):
    """Documents a second, once known."""

    def render(self, task: Task) -> Text:
        """The rate as text."""
        return Text("" if task.speed is None else f"{task.speed:.1f} {self.text_format}")


def _summary(console: Console, tally: Tally, inputs: Inputs, wanted: Wanted) -> None:
    if wanted.as_json:
        summary = {
            "documents": tally.documents,
            "entities": tally.entities,
            "failed": tally.failed,
            "errors": dict(tally.errors),
            "output": None if wanted.path is None else str(wanted.path),
            **({"skipped": inputs.skipped} if inputs.skipped else {}),
        }
        print_json(summary, to_stderr=wanted.path is None)
        return
    skipped = f", {inputs.skipped} skipped" if inputs.skipped else ""
    where = f" -> {wanted.path}" if wanted.path else ""
    say(console, f"{tally.documents} documents, {tally.entities} entities, {tally.failed} failed{skipped}{where}")
    for code, count in tally.errors.most_common():
        say(console, f"  {count} x {code}")
    for fault in inputs.faults.lines():
        say(console, f"  {'skipped' if inputs.skipped else 'failed'}: {fault}")


def given_options(**given: Any) -> SubmitOptions:
    """Return the options that have a value."""
    return cast("SubmitOptions", {name: value for name, value in given.items() if value is not None})


def _fingerprint(inputs: Inputs, labels: Labels | None, options: SubmitOptions, target: Target) -> str:
    reading, form = inputs.reading, target.form
    identity = {
        "inputs": inputs.digest,
        "columns": [reading.columns.text, reading.columns.id],
        "formats": [None if isinstance(source, Fault) else source.kind for source in inputs.sources],
        "reading": [reading.delimiter, reading.encoding, reading.quotes, sorted(reading.ignored), reading.split],
        "on_bad_line": inputs.on_bad_line,
        "labels": labels,
        "options": dict(options),
        "chunks": [CHUNK_DOCUMENTS, CHUNK_CHARACTERS],
        "output": [form.kind, form.cells, form.bom],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
