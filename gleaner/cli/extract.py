"""`gleaner extract`: files in, JSON lines out, with a progress bar; the same command again goes on."""

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

from gleaner._calls import SubmitOptions
from gleaner.cli import readers
from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory, Key, Url, connect
from gleaner.cli.extraction import CHUNK_CHARACTERS, CHUNK_DOCUMENTS, Extraction, FileSink, Tally
from gleaner.cli.journal import Journal
from gleaner.cli.readers import Columns, Format, Row
from gleaner.client import Client

_RETRIES = 6
"""A gateway may be away for half a minute, as while it is replaced, before a run ends."""


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


def extract(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Text, JSON lines, CSV or Parquet; `-` is standard input.")],
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="What to look for; repeat it for more.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON lines, one a document; without it they are printed."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Score from which an entity counts. [default: 0.5]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="One of `gleaner models`.")] = None,
    nested: Annotated[bool, typer.Option("--nested", help="Allow entities inside entities.")] = False,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Allow several labels for one span.")] = False,
    text_column: Annotated[str, typer.Option(help="Column or JSON field of the text.")] = "text",
    id_column: Annotated[str, typer.Option(help="Column or JSON field of the id, if rows have one.")] = "id",
    kind: Annotated[
        Format | None, typer.Option("--format", help="What the files are. [default: by their names]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, whatever OUT holds.")] = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Extract entities from files.

    Results come in input order, one JSON object a line, each with its document's id. If the run is interrupted
    or killed, the same command goes on where it was, as long as OUT and OUT.gleaner-state are there.
    """
    options = _options(threshold, model, nested, multi_label)
    labels = _labels(label)
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        inputs = stack.enter_context(_inputs(files, kind, Columns(text_column, id_column)))
        client = stack.enter_context(connect(context, url, key, data_dir, retries=_RETRIES))
        if output is None:
            tally = _to_stdout(client, labels, options, inputs, console)
        else:
            journal = Journal.open(output, _fingerprint(inputs, labels, options), overwrite=overwrite)
            stack.callback(journal.close)
            tally = _to_file(client, labels, options, inputs, output, journal, console)
    if tally.failed:
        raise typer.Exit(1)


def _to_stdout(
    client: Client, labels: list[str] | None, options: SubmitOptions, inputs: Inputs, console: Console
) -> Tally:
    with _bar(console, inputs.total, 0) as on_progress:
        run = Extraction(client, labels, options, _Stdout(), None, on_progress)
        try:
            tally = run.run(inputs.rows())
        except KeyboardInterrupt:
            run.cancel()
            raise
    _summary(console, tally)
    return tally


def _to_file(
    client: Client,
    labels: list[str] | None,
    options: SubmitOptions,
    inputs: Inputs,
    output: Path,
    journal: Journal,
    console: Console,
) -> Tally:
    before = journal.progress
    if before.complete:
        console.print(f"{output} is complete already ({before.documents} documents); --overwrite begins anew")
        return Tally(before.documents, before.failed)
    if before.documents:
        console.print(f"going on after {before.documents} of {inputs.total} documents")
    try:
        with (
            FileSink(output, before.bytes) as sink,
            _bar(console, inputs.total, before.documents) as on_progress,
        ):
            tally = Extraction(client, labels, options, sink, journal, on_progress).run(inputs.rows())
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here")
        raise
    _summary(console, tally, output)
    return tally


class _Stdout:
    """Results on standard output."""

    def write(self, line: str) -> None:
        """Print a line."""
        sys.stdout.buffer.write(line.encode(errors="backslashreplace"))

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


def _summary(console: Console, tally: Tally, output: Path | None = None) -> None:
    where = f" -> {output}" if output else ""
    console.print(f"{tally.documents} documents, {tally.entities} entities, {tally.failed} failed{where}")
    for code, count in tally.errors.most_common():
        console.print(f"  {count} x {code}")


def _options(threshold: float | None, model: str | None, nested: bool, multi_label: bool) -> SubmitOptions:
    given: dict[str, Any] = {}
    if threshold is not None:
        given["threshold"] = threshold
    if model is not None:
        given["model"] = model
    if nested:
        given["flat"] = False
    if multi_label:
        given["multi_label"] = True
    return cast("SubmitOptions", given)


def _labels(label: list[str] | None) -> list[str] | None:
    # None is right where every JSON line brings its own; the gateway says so if one does not.
    return list(label) if label else None


@contextlib.contextmanager
def _inputs(files: list[Path], kind: Format | None, columns: Columns) -> Iterator[Inputs]:
    """Look at every file: is it readable, how many documents, what digest."""
    with tempfile.TemporaryDirectory(prefix="gleaner-") as spool:
        sources = tuple(_source(path, kind, Path(spool)) for path in files)
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


def _fingerprint(inputs: Inputs, labels: list[str] | None, options: SubmitOptions) -> str:
    identity = {
        "inputs": inputs.digest,
        "columns": [inputs.columns.text, inputs.columns.id],
        "formats": [source.kind for source in inputs.sources],
        "labels": labels,
        "options": dict(options),
        "chunks": [CHUNK_DOCUMENTS, CHUNK_CHARACTERS],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
