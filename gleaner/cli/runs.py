"""What `extract` and `redact` share: files in, results out, with a progress bar; the same command again goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
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

from gleaner._calls import Labels, SubmitOptions
from gleaner.cli import readers, writers
from gleaner.cli.connection import Gateway
from gleaner.cli.extraction import CHUNK_CHARACTERS, CHUNK_DOCUMENTS, Extraction, FileSink, Sink, Tally
from gleaner.cli.failures import DOCUMENTS_FAILED
from gleaner.cli.journal import Journal
from gleaner.cli.output import print_json
from gleaner.cli.readers import Columns, Format, Row
from gleaner.cli.writers import Line, OutputFormat, Table
from gleaner.client import Client

_RETRIES = 6
"""A gateway may be away for half a minute, as while it is replaced, before a run ends."""

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The file to write; without it JSON lines are printed.")
]
Written = Annotated[
    OutputFormat | None,
    typer.Option("--output-format", help="How to write it. [default: by OUT's name, or jsonl]"),
]
TextField = Annotated[str, typer.Option("--text-column", help="Column or JSON field of the text.")]
IdField = Annotated[str, typer.Option("--id-column", help="Column or JSON field of the id, if rows have one.")]
Kind = Annotated[Format | None, typer.Option("--format", help="What the files are. [default: by their names]")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin anew, whatever OUT holds.")]
Summary = Annotated[
    bool, typer.Option("--json", help="The summary as JSON: printed with -o, else on standard error.")
]


@dataclass(frozen=True, slots=True)
class Source:
    """An input file; `name` is what the user called it."""

    name: str
    path: Path
    kind: Format


@dataclass(frozen=True, slots=True)
class Inputs:
    """All input of a run, looked at once before anything is submitted.

    Attributes:
        total: documents in all.
        digest: of the contents.
    """

    sources: tuple[Source, ...]
    columns: Columns
    total: int
    digest: str

    def rows(self) -> Iterator[Row]:
        """Every document in order."""
        for source in self.sources:
            yield from readers.read(source.path, source.kind, self.columns, source.name)


@dataclass(frozen=True, slots=True)
class Target:
    """The output file and how it is written.

    Attributes:
        table: what rows it has, where it is a table.
        lines: what grows during the run: the output itself, or JSON lines of which it is made at the end.
    """

    path: Path
    kind: OutputFormat
    table: Table
    lines: Path

    @classmethod
    def of(cls, path: Path, given: OutputFormat | None, table: Table) -> Target:
        """Parquet has its index at its end, half of it is nothing: it is made of lines, once all are there."""
        kind = writers.format_of(path, given)
        writers.require(kind)
        grows = path if kind is not OutputFormat.parquet else path.with_name(f"{path.name}.gleaner-lines")
        return cls(path, kind, table, grows)

    def tidy(self) -> None:
        """Remove the lines once the output is made of them."""
        if self.lines != self.path:
            self.lines.unlink(missing_ok=True)

    @property
    def line_kind(self) -> OutputFormat:
        """How the lines are written."""
        return self.kind if self.lines == self.path else OutputFormat.jsonl

    def finish(self) -> None:
        """Make the output of its lines, where they are not it."""
        if self.lines != self.path:
            with writers.writing(self.path, self.kind, self.table) as write:
                for line in writers.read_lines(self.lines):
                    write(line)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command shall write.

    Attributes:
        path: where to; None prints it.
        kind: how; None goes by the path's name.
        table: of what, where that is a table.
        overwrite: begin anew, whatever is there.
        as_json: the summary as JSON.
    """

    path: Path | None
    kind: OutputFormat | None
    table: Table
    overwrite: bool
    as_json: bool


def run(
    gateway: Gateway,
    files: list[Path],
    kind: Format | None,
    columns: Columns,
    labels: Labels | None,
    options: SubmitOptions,
    wanted: Wanted,
) -> None:
    """Have the gateway work on every document of the files, and write its results.

    Raises:
        typer.Exit: some documents failed.
        InputError, JournalError, CommandError, GleanerError: as they say.
    """
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        target = None if wanted.path is None else Target.of(wanted.path, wanted.kind, wanted.table)
        inputs = stack.enter_context(_inputs(files, kind, columns))
        client = stack.enter_context(gateway.client(retries=_RETRIES))
        if target is None:
            sink = _Stdout(wanted.kind or OutputFormat.jsonl, wanted.table)
            tally = _to_stdout(client, labels, options, inputs, console, sink)
        else:
            fingerprint = _fingerprint(inputs, labels, options, target)
            journal = Journal.open(target.path, fingerprint, overwrite=wanted.overwrite, lines=target.lines)
            stack.callback(journal.close)
            tally = _to_file(client, labels, options, inputs, target, journal, console)
    _summary(console, tally, wanted.path, wanted.as_json)
    if tally.failed:
        raise typer.Exit(DOCUMENTS_FAILED)


def _to_stdout(
    client: Client,
    labels: Labels | None,
    options: SubmitOptions,
    inputs: Inputs,
    console: Console,
    sink: Sink,
) -> Tally:
    with _bar(console, inputs.total, 0) as on_progress:
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
        console.print(
            f"{target.path} is complete already ({before.documents} documents); --overwrite begins anew",
            soft_wrap=True,
        )
        return Tally(before.documents, before.failed, before.entities)
    if before.documents:
        console.print(f"going on after {before.documents} of {inputs.total} documents")
    try:
        with (
            FileSink(target.lines, before.bytes, target.line_kind, target.table) as sink,
            _bar(console, inputs.total, before.documents) as on_progress,
        ):
            tally = Extraction(client, labels, options, sink, journal, on_progress).run(inputs.rows())
        target.finish()
        journal.complete()
        target.tidy()
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here")
        raise
    return tally


class _Stdout:
    """Results on standard output."""

    def __init__(self, kind: OutputFormat, table: Table) -> None:
        head, self._encode = writers.encoder(kind, table)
        sys.stdout.buffer.write(head)

    def write(self, line: Line) -> None:
        """Print a result."""
        sys.stdout.buffer.write(self._encode(line))

    def commit(self) -> int:
        """Let the reader have it."""
        sys.stdout.buffer.flush()
        return 0


@contextlib.contextmanager
def _bar(console: Console, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; takes the number of finished documents."""
    progress = Progress(
        TextColumn("extracting"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate("documents/s"),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
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


def _summary(console: Console, tally: Tally, output: Path | None, as_json: bool) -> None:
    if as_json:
        found = {
            "documents": tally.documents,
            "entities": tally.entities,
            "failed": tally.failed,
            "errors": dict(tally.errors),
            "output": None if output is None else str(output),
        }
        print_json(found, to_stderr=output is None)
        return
    where = f" -> {output}" if output else ""
    console.print(
        f"{tally.documents} documents, {tally.entities} entities, {tally.failed} failed{where}", soft_wrap=True
    )
    for code, count in tally.errors.most_common():
        console.print(f"  {count} x {code}")


def given_options(**given: Any) -> SubmitOptions:
    """Those that were given."""
    return cast("SubmitOptions", {name: value for name, value in given.items() if value is not None})


@contextlib.contextmanager
def _inputs(files: list[Path], kind: Format | None, columns: Columns) -> Iterator[Inputs]:
    """Look at every file: is it readable, how many documents, what digest."""
    with tempfile.TemporaryDirectory(prefix="gleaner-") as spool:
        sources = tuple(_source(path, kind, Path(spool)) for path in readers.expand(files))
        digest = hashlib.sha256()
        total = 0
        for source in sources:
            total += sum(1 for _ in readers.read(source.path, source.kind, columns, source.name))
            with source.path.open("rb") as file:
                digest.update(source.name.encode(errors="surrogateescape") + b"\0")
                digest.update(hashlib.file_digest(file, "sha256").digest())
        if not total:
            raise readers.InputError("no documents: the input is empty")
        yield Inputs(sources, columns, total, digest.hexdigest())


def _source(path: Path, kind: Format | None, spool: Path) -> Source:
    if str(path) != "-":
        return Source(str(path), path, readers.format_of(path, kind))
    # Read twice like any file, and so resumable: the same bytes on standard input are the same run.
    spooled = spool / "stdin"
    with spooled.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return Source("stdin", spooled, kind or Format.txt)


def _fingerprint(inputs: Inputs, labels: Labels | None, options: SubmitOptions, target: Target) -> str:
    identity = {
        "inputs": inputs.digest,
        "columns": [inputs.columns.text, inputs.columns.id],
        "formats": [source.kind for source in inputs.sources],
        "labels": labels,
        "options": dict(options),
        "chunks": [CHUNK_DOCUMENTS, CHUNK_CHARACTERS],
        "output": target.kind,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
