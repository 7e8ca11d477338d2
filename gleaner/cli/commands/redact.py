"""`gleaner redact`: remove entities from the texts of files; resumable like `gleaner extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.extraction import Query
from gleaner.cli.files.file_runs import OutputOptions, run_files
from gleaner.cli.files.reading_options import IdColumn, ReadingOptions
from gleaner.cli.files.result_rows import TEXTS
from gleaner.cli.label_options import (
    ThresholdOptions,
    choose_labels,
    drop_unset,
    find_label_set,
    read_labels,
    read_threshold,
)


@with_gateway
def redact_files(
    *,
    gateway: Gateway,
    files: Annotated[list[Path], typer.Argument(help="Files or patterns as for `gleaner extract`; `-` is stdin.")],
    label_options: ThresholdOptions,
    output: OutputOptions,
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
    explain: Annotated[
        bool, typer.Option("--explain", help="Include in every entity the reason why it was found.")
    ] = False,
    id_column: IdColumn = None,
    reading: ReadingOptions,
) -> None:
    """Write the texts of files without their entities.

    As JSON lines with `redacted_text` and the entities' offsets before and after; or as CSV, TSV or Parquet with
    one row per document, whose `text` is redacted. The values of hidden entities are not in the output, and the
    service deletes them once the document has succeeded. If the run is interrupted or killed, the same command
    resumes it. A model misses some entities: a low --threshold hides more of them, and also text that is none.
    """
    labels = read_labels(label_options.label, label_options.labels_file)
    label_set = find_label_set(gateway, label_options.label_set, labels)
    all_labels = choose_labels(labels, label_set)
    if hide and all_labels is not None and (unknown := set(hide) - set(all_labels)):
        raise CommandError(f"--hide names labels that are not looked for: {', '.join(sorted(unknown))}; add -l")
    redaction: dict[str, Any] = {"mode": mode, "labels": hide or None, "character": character, "length": length}
    options = drop_unset(
        label_set=label_set and label_set.reference,
        threshold=read_threshold(label_options.threshold, all_labels),
        model=label_options.model,
        explain=explain or None,
        redact={name: value for name, value in redaction.items() if value is not None}
        | ({"numbered": True} if numbered else {}),
    )
    target = output.make_target(TEXTS, label_options.labels_file)
    run_files(gateway, files, reading.make_reading(id_column), Query(labels, options), target)
