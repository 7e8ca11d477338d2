"""`gleaner extract`: extract entities, relations and classes from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.extraction import Query
from gleaner.cli.files.file_runs import OutputOptions, TableOption, run_files
from gleaner.cli.files.reading_options import IdColumn, ReadingOptions
from gleaner.cli.files.result_rows import TABLES, TableName
from gleaner.cli.label_options import (
    MergeAdjacent,
    OverlapOptions,
    ThresholdOptions,
    choose_labels,
    drop_unset,
    find_label_set,
    read_labels,
    read_threshold,
)
from gleaner.cli.task_options import TaskOptions, read_schema


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
    task_options: TaskOptions,
    output: OutputOptions,
    table: TableOption = TableName.ENTITIES,
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
    """Extract entities, relations and classes from files.

    Results are in input order: JSON lines with one object per document; text for people; or CSV, TSV, Parquet with
    one row per entity, relation or class. If the run is interrupted or killed, the same command resumes it, as long
    as OUT.gleaner-lines and OUT.gleaner-state exist. Every file is read and checked before anything is submitted.
    """
    labels, tasks = read_schema(read_labels(label_options.label, label_options.labels_file), task_options)
    label_set = find_label_set(gateway, label_options.label_set, labels)
    options = drop_unset(
        **tasks,
        label_set=label_set and label_set.reference,
        threshold=read_threshold(label_options.threshold, choose_labels(labels, label_set)),
        model=label_options.model,
        flat=False if overlap.nested else None,
        multi_label=overlap.multi_label or None,
        merge_adjacent=merge_adjacent,
        long_text=long_text,
        offset_unit=offset_unit,
        return_text=return_text or None,
    )
    target = output.make_target(TABLES[table], label_options.labels_file, task_options.schema)
    rows = reading.make_reading(id_column, offset_unit or "codepoint")
    run_files(gateway, files, rows, Query(labels, options), target)
