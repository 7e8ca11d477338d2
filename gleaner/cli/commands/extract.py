"""`gleaner extract`: extract entities from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gleaner.cli.connection import Gateway, with_gateway
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
def extract_files(
    gateway: Gateway,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Text, HTML, JSON lines, CSV, TSV or Parquet, optionally .gz or .zst; patterns such as "
            "'in/**/*.txt'; `-` is stdin."
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
        Literal["window", "truncate", "reject"] | None,
        typer.Option(help="How to handle long texts. [default: window]"),
    ] = None,
    offset_unit: Annotated[
        Literal["codepoint", "utf16", "byte"] | None,
        typer.Option(help="Unit of start and end. [default: codepoint, as in Python]"),
    ] = None,
    return_text: Annotated[
        bool, typer.Option("--return-text", help="Include the text in every result (JSON lines).")
    ] = False,
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
    """Extract entities from files.

    Results are in input order: JSON lines with one object per document; or CSV, TSV, Parquet with one row per
    entity. If the run is interrupted or killed, the same command resumes it, as long as OUT.gleaner-lines and
    OUT.gleaner-state exist. Every file is read and checked before anything is submitted.
    """
    labels = read_labels(label, labels_file)
    options = file_runs.drop_unset(
        threshold=read_threshold(threshold, labels),
        model=model,
        flat=False if nested else None,
        multi_label=multi_label or None,
        merge_adjacent=merge_adjacent,
        long_text=long_text,
        offset_unit=offset_unit,
        return_text=return_text or None,
    )
    form = writers.make_form(output, output_format, csv, bom)
    output_options = OutputOptions(output, form, writers.ENTITIES, overwrite, as_json, labels_file)
    reading = Reading(
        Columns(text_column, id_column),
        delimiter,
        encoding,
        quotes or Quotes.DOUBLED,
        frozenset(ignore_columns or ()),
        offset_unit or "codepoint",
        split,
    )
    reads = InputOptions.parse(kind, reading, on_bad_line)
    file_runs.run_files(gateway, files, reads, Query(labels, options), output_options)
