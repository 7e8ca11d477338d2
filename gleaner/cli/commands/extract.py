"""`gleaner extract`: files in, entities out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.files import file_runs, writers
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
from gleaner.cli.label_options import (
    Label,
    LabelsFile,
    MergeAdjacent,
    Model,
    MultiLabel,
    Nested,
    Threshold,
    read_labels,
    read_threshold,
)


@with_gateway
def extract(
    gateway: Gateway,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Text, HTML, JSON lines, CSV, TSV or Parquet, .gz and .zst too; or patterns, 'in/**/*.txt'; `-` "
            "is stdin."
        ),
    ],
    label: Label = None,
    labels_file: LabelsFile = None,
    output: Output = None,
    output_format: Written = None,
    threshold: Threshold = None,
    model: Model = None,
    nested: Nested = False,
    multi_label: MultiLabel = False,
    merge_adjacent: MergeAdjacent = None,
    long_text: Annotated[
        Literal["window", "truncate", "reject"] | None, typer.Option(help="What long texts get. [default: window]")
    ] = None,
    offset_unit: Annotated[
        Literal["codepoint", "utf16", "byte"] | None,
        typer.Option(help="What start and end count. [default: codepoint, as Python does]"),
    ] = None,
    return_text: Annotated[
        bool, typer.Option("--return-text", help="Have every result carry its text (JSON lines).")
    ] = False,
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
    """Extract entities from files.

    Results come in input order: JSON lines, an object a document; or CSV, TSV, Parquet, a row an entity. If the run
    is interrupted or killed, the same command goes on where it was, as long as OUT.gleaner-lines and
    OUT.gleaner-state are there. Nothing is submitted before every file was read once and found right.
    """
    labels = read_labels(label, labels_file)
    options = file_runs.given_options(
        threshold=read_threshold(threshold, labels),
        model=model,
        flat=False if nested else None,
        multi_label=multi_label or None,
        merge_adjacent=merge_adjacent,
        long_text=long_text,
        offset_unit=offset_unit,
        return_text=return_text or None,
    )
    wanted = file_runs.Wanted.of(
        output,
        output_format,
        writers.ENTITIES,
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
        unit=offset_unit,
        split=split,
        on_bad_line=on_bad_line,
    )
    file_runs.run(gateway, files, reads, labels, options, wanted)
