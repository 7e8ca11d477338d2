"""`gleaner extract`: extract entities from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.extraction import Query
from gleaner.cli.files.file_runs import OutputOptions, run_files
from gleaner.cli.files.reading_options import IdColumn, ReadingOptions
from gleaner.cli.files.writers import ENTITIES
from gleaner.cli.label_options import (
    MergeAdjacent,
    OverlapOptions,
    ThresholdOptions,
    drop_unset,
    read_labels,
    read_threshold,
)


@with_gateway
def extract_files(
    *,
    gateway: Gateway,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Text, HTML, JSON lines, CSV, TSV or Parquet, optionally .gz or .zst; patterns such as "
            "'in/**/*.txt'; `-` is stdin."
        ),
    ],
    label_options: ThresholdOptions,
    output: OutputOptions,
    overlap: OverlapOptions,
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
    id_column: IdColumn = None,
    reading: ReadingOptions,
) -> None:
    """Extract entities from files.

    Results are in input order: JSON lines with one object per document; or CSV, TSV, Parquet with one row per
    entity. If the run is interrupted or killed, the same command resumes it, as long as OUT.gleaner-lines and
    OUT.gleaner-state exist. Every file is read and checked before anything is submitted.
    """
    labels = read_labels(label_options.label, label_options.labels_file)
    options = drop_unset(
        threshold=read_threshold(label_options.threshold, labels),
        model=label_options.model,
        flat=False if overlap.nested else None,
        multi_label=overlap.multi_label or None,
        merge_adjacent=merge_adjacent,
        long_text=long_text,
        offset_unit=offset_unit,
        return_text=return_text or None,
    )
    target = output.make_target(ENTITIES, label_options.labels_file)
    rows = reading.make_reading(id_column, offset_unit or "codepoint")
    run_files(gateway, files, rows, Query(labels, options), target)
