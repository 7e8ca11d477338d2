"""`gleaner redact`: files in, their texts without the entities out; resumable, as `gleaner extract` is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files import file_runs
from gleaner.cli.files.file_runs import Bom, CsvCells, Output, Overwrite, Summary, Written
from gleaner.cli.files.inputs import OnBadLine
from gleaner.cli.files.reading_options import (
    BadLine,
    Delimiter,
    Encoding,
    IdField,
    Ignored,
    Kind,
    QuotesOption,
    Reads,
    Split,
    TextField,
)
from gleaner.cli.files.writers import TEXTS
from gleaner.cli.label_options import Label, LabelsFile, Model, Threshold, read_labels, read_threshold


@with_gateway
def redact(
    gateway: Gateway,
    files: Annotated[list[Path], typer.Argument(help="Files or patterns as for `gleaner extract`; `-` is stdin.")],
    label: Label = None,
    labels_file: LabelsFile = None,
    output: Output = None,
    output_format: Written = None,
    mode: Annotated[
        Literal["label", "mask", "hash"],
        typer.Option(
            help="What stands for an entity: [PERSON]; a character, repeated; or [PERSON:3f9a1c2b7d4e5f60], the "
            "same for the same value everywhere, where the service has a key."
        ),
    ] = "label",
    hide: Annotated[
        list[str] | None, typer.Option(help="Hide only these of the labels; repeat it for more. [default: all]")
    ] = None,
    numbered: Annotated[
        bool, typer.Option("--numbered", help="[PERSON_1]: the same number for the same value in a document.")
    ] = False,
    character: Annotated[str | None, typer.Option(help="The mask's. [default: *]")] = None,
    length: Annotated[
        int | None, typer.Option(min=1, max=64, help="The mask's. [default: the value's own, so that offsets stay]")
    ] = None,
    threshold: Threshold = None,
    explain: Annotated[bool, typer.Option("--explain", help="Have every entity say why it was found.")] = False,
    model: Model = None,
    text_column: TextField = "text",
    id_column: IdField = None,
    kind: Kind = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quotes: QuotesOption = None,
    ignore_columns: Ignored = None,
    split: Split = False,
    on_bad_line: BadLine = OnBadLine.reject,
    csv: CsvCells = None,
    bom: Bom = False,
    overwrite: Overwrite = False,
    as_json: Summary = False,
) -> None:
    """Write texts without what the model finds in them.

    As JSON lines, each with `redacted_text` and where its entities were and are; or as CSV, TSV or Parquet, a row a
    document, its `text` the redacted one. No value of a hidden entity is in the
    output, nor kept by the service once its document has succeeded. If the run is interrupted or killed, the same
    command goes on where it was. A model misses some of what it looks for: a low --threshold hides more, and too
    much.
    """
    labels = read_labels(label, labels_file)
    if hide and labels is not None and (strange := set(hide) - set(labels)):
        raise CommandError(f"--hide names {', '.join(sorted(strange))}, which is none of the labels")
    how: dict[str, Any] = {"mode": mode, "labels": hide or None, "character": character, "length": length}
    options = file_runs.given_options(
        threshold=read_threshold(threshold, labels),
        model=model,
        explain=explain or None,
        redact={name: value for name, value in how.items() if value is not None}
        | ({"numbered": True} if numbered else {}),
    )
    wanted = file_runs.Wanted.of(
        output,
        output_format,
        TEXTS,
        cells=csv,
        bom=bom,
        overwrite=overwrite,
        as_json=as_json,
        read=labels_file,
    )
    reads = Reads.of(
        kind,
        text_column,
        id_column,
        delimiter=delimiter,
        encoding=encoding,
        quotes=quotes,
        ignored=ignore_columns,
        split=split,
        on_bad_line=on_bad_line,
    )
    file_runs.run(gateway, files, reads, labels, options, wanted)
