"""`gleaner redact`: remove entities from the texts of files; resumable like `gleaner extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.extraction import Query
from gleaner.cli.files import file_runs, writers
from gleaner.cli.files.file_runs import Bom, CsvCells, Output, OutputOptions, Overwrite, Summary, Written
from gleaner.cli.files.inputs import OnBadLine
from gleaner.cli.files.reading_options import (
    BadLine,
    Delimiter,
    Encoding,
    IdField,
    Ignored,
    InputOptions,
    Kind,
    QuotesOption,
    Split,
    TextField,
)
from gleaner.cli.files.rows import Columns, Quotes, Reading
from gleaner.cli.label_options import Label, LabelsFile, Model, Threshold, read_labels, read_threshold


@with_gateway
def redact_files(
    gateway: Gateway,
    files: Annotated[list[Path], typer.Argument(help="Files or patterns as for `gleaner extract`; `-` is stdin.")],
    label: Label = None,
    labels_file: LabelsFile = None,
    output: Output = None,
    output_format: Written = None,
    mode: Annotated[
        Literal["label", "mask", "hash"],
        typer.Option(
            help="Replacement of an entity: [PERSON]; a repeated character; or [PERSON:3f9a1c2b7d4e5f60], equal "
            "for equal values, which requires a key in the service."
        ),
    ] = "label",
    hide: Annotated[
        list[str] | None, typer.Option(help="Hide only this label; may be repeated. [default: all]")
    ] = None,
    numbered: Annotated[
        bool, typer.Option("--numbered", help="[PERSON_1]: equal values in a document get the same number.")
    ] = False,
    character: Annotated[str | None, typer.Option(help="Character of the mask. [default: *]")] = None,
    length: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Length of the mask. [default: the value's, so that offsets stay]"),
    ] = None,
    threshold: Threshold = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Include in every entity the reason why it was found.")
    ] = False,
    model: Model = None,
    text_column: TextField = "text",
    id_column: IdField = None,
    kind: Kind = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quotes: QuotesOption = None,
    ignore_columns: Ignored = None,
    split: Split = False,
    on_bad_line: BadLine = OnBadLine.REJECT,
    csv: CsvCells = None,
    bom: Bom = False,
    overwrite: Overwrite = False,
    as_json: Summary = False,
) -> None:
    """Write the texts of files without their entities.

    As JSON lines with `redacted_text` and the entities' offsets before and after; or as CSV, TSV or Parquet with
    one row per document, whose `text` is redacted. The values of hidden entities are not in the output, and the
    service deletes them once the document has succeeded. If the run is interrupted or killed, the same command
    resumes it. A model misses some entities: a low --threshold hides more of them, and also text that is none.
    """
    labels = read_labels(label, labels_file)
    if hide and labels is not None and (unknown := set(hide) - set(labels)):
        raise CommandError(f"--hide names labels that are not looked for: {', '.join(sorted(unknown))}; add -l")
    redaction: dict[str, Any] = {"mode": mode, "labels": hide or None, "character": character, "length": length}
    options = file_runs.drop_unset(
        threshold=read_threshold(threshold, labels),
        model=model,
        explain=explain or None,
        redact={name: value for name, value in redaction.items() if value is not None}
        | ({"numbered": True} if numbered else {}),
    )
    form = writers.make_form(output, output_format, csv, bom)
    output_options = OutputOptions(output, form, writers.TEXTS, overwrite, as_json, labels_file)
    reading = Reading(
        Columns(text_column, id_column),
        delimiter,
        encoding,
        quotes or Quotes.DOUBLED,
        frozenset(ignore_columns or ()),
        "codepoint",
        split,
    )
    reads = InputOptions.parse(kind, reading, on_bad_line)
    file_runs.run_files(gateway, files, reads, Query(labels, options), output_options)
