"""`gleaner extract`: files in, entities out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gleaner.cli import runs, writers
from gleaner.cli.asking import (
    Label,
    LabelsFile,
    Model,
    MultiLabel,
    Nested,
    Threshold,
    read_labels,
    read_threshold,
)
from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.readers import Columns
from gleaner.cli.runs import IdField, Kind, Output, Overwrite, Summary, TextField, Written


@with_gateway
def extract(
    gateway: Gateway,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Text, HTML, JSON lines, CSV, TSV or Parquet; or patterns, 'in/**/*.txt'; `-` is stdin."
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
    id_column: IdField = "id",
    kind: Kind = None,
    overwrite: Overwrite = False,
    as_json: Summary = False,
) -> None:
    """Extract entities from files.

    Results come in input order: JSON lines, an object a document; or CSV, TSV, Parquet, a row an entity. If the run
    is interrupted or killed, the same command goes on where it was, as long as OUT and OUT.gleaner-state are there.
    """
    labels = read_labels(label, labels_file)
    options = runs.given_options(
        threshold=read_threshold(threshold, labels),
        model=model,
        flat=False if nested else None,
        multi_label=multi_label or None,
        long_text=long_text,
        offset_unit=offset_unit,
        return_text=return_text or None,
    )
    wanted = runs.Wanted(output, output_format, writers.ENTITIES, overwrite, as_json)
    runs.run(gateway, files, kind, Columns(text_column, id_column), labels, options, wanted)
