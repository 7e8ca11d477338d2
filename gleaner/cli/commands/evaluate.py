"""`gleaner evaluate` and `suggest-thresholds`: quality of a model on your texts, and the best thresholds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gleaner.cli import reports
from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.exit_codes import DOCUMENTS_FAILED, CommandError
from gleaner.cli.files.inputs import open_inputs
from gleaner.cli.files.outputs import Outputs
from gleaner.cli.files.readers import expand_pattern
from gleaner.cli.files.reading_options import ReadingOptions
from gleaner.cli.files.rows import Reading, Row
from gleaner.cli.gold_data import all_labels, judge_documents, read_gold
from gleaner.cli.label_options import (
    LabelOptions,
    OverlapOptions,
    ThresholdOptions,
    drop_unset,
    read_labels,
    read_threshold,
)
from gleaner.cli.printing import print_json, print_line
from gleaner.client import Client
from gleaner.client.calls import Labels, SubmitOptions
from gleaner.evaluation import Judged, calibration, sweep

AsJson = Annotated[bool, typer.Option("--json", help="Print all numbers as one JSON object.")]
Precision = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Choose the best recall with this precision, instead of the best F1."),
]


@with_gateway
def evaluate_model(
    *,
    gateway: Gateway,
    files: Annotated[
        list[Path],
        typer.Argument(
            help='Gold data, one JSON object per line: {"text": "Ada lives in Ely.", "entities": [{"start": 0, '
            '"end": 3, "label": "person"}]}; add `labels` if a text was not annotated with all labels.'
        ),
    ],
    label_options: ThresholdOptions,
    overlap: OverlapOptions,
    precision: Precision = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot over all thresholds to this PNG file.")] = None,
    calibration_file: Annotated[
        Path | None,
        typer.Option("--calibration", help="Write the calibration curve to this file, for the model's folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare predicted entities with gold data.

    Precision, recall and F1 (strict: offsets and label; exact: offsets; partial: half for an overlap; ent_type:
    label and an overlap), overall and per label, over all thresholds, and the best threshold of each label.
    Requires the extra `eval`.
    """
    evaluator = _import_evaluator()
    written = tuple(path for path in (plot, calibration_file) if path is not None)
    also = () if label_options.labels_file is None else (label_options.labels_file,)
    files = [file for path in files for file in expand_pattern(path) or (path,)]
    Outputs(written, overwrite=True, read=(*files, *also)).check_writable()
    gold = read_gold(files)
    labels = read_labels(label_options.label, label_options.labels_file) or all_labels(gold)
    at = read_threshold(label_options.threshold, labels)
    with gateway.open_client(retries=6) as client:
        chosen = _default_threshold(client, label_options.model) if at is None else at
        documents, failed = judge_documents(
            client, gold, labels, _build_options(label_options.model, overlap, chosen)
        )
    report = {
        **reports.count_documents(len(documents), failed),
        "threshold": chosen,
        "overall": reports.compute_schemes(evaluator, documents, chosen, list(labels)),
        "sweep": [reports.choice_row(choice) for choice in sweep(documents, reports.TABLE)],
        **reports.suggest_thresholds(documents, labels, precision),
    }
    if plot is not None:
        reports.plot_sweep(plot, documents, list(labels))
    if calibration_file is not None:
        _write_calibration(calibration_file, documents)
    if as_json:
        print_json(report)
    else:
        reports.print_report(report)
    if failed:
        raise typer.Exit(DOCUMENTS_FAILED)


@with_gateway
def suggest_thresholds(
    *,
    gateway: Gateway,
    files: Annotated[
        list[Path], typer.Argument(help="Texts as `gleaner extract` reads them; with --gold, as `evaluate` does.")
    ],
    label_options: LabelOptions,
    gold: Annotated[bool, typer.Option("--gold", help="The files are gold data.")] = False,
    precision: Precision = None,
    overlap: OverlapOptions,
    reading: ReadingOptions,
    as_json: AsJson = False,
) -> None:
    """Find a threshold for each label.

    With --gold, the threshold with the best F1, or with the precision you want. Without, it is unknown which
    entities are correct: the number of entities above each threshold is shown.
    """
    labels = read_labels(label_options.label, label_options.labels_file)
    options = _build_options(label_options.model, overlap, reports.FLOOR)
    with gateway.open_client(retries=6) as client:
        if gold:
            rows = read_gold(files)
            labels = labels or all_labels(rows)
            documents, failed = judge_documents(client, rows, labels, options)
            report = reports.count_documents(len(documents), failed)
            report |= reports.suggest_thresholds(documents, labels, precision)
        else:
            if labels is None:
                raise CommandError("no labels; name them with -l or --labels-file")
            if precision is not None:
                raise CommandError("--precision requires gold data; add --gold")
            report = _count_above_thresholds(client, files, reading.make_reading(), labels, options)
    if as_json:
        print_json(report)
    elif gold:
        reports.print_suggestions(report)
    else:
        reports.print_shares(report)
    if report["failed"] or report.get("skipped"):
        raise typer.Exit(DOCUMENTS_FAILED)


def _count_above_thresholds(
    client: Client, files: list[Path], reading: Reading, labels: Labels, options: SubmitOptions
) -> dict[str, Any]:
    """Return the number of entities above each threshold, and the number of failed documents by error code.

    Raises:
        InputError: a file or a line of it is not a document.
    """
    failed: Counter[str] = Counter()
    scores: dict[str, list[float]] = defaultdict(list)

    def list_documents(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        for row in rows:
            if row.fault is None:
                yield row.to_document()
            else:
                failed["invalid_document"] += 1

    with open_inputs(files, reading, Outputs()) as inputs:
        for note in (*inputs.notes, *inputs.faults.describe()):
            print_line(note, to_stderr=True)
        for result in client.map(list_documents(inputs.read_rows()), labels, **options):
            if not result.ok:
                failed[result.error.code if result.error else result.status] += 1
            for entity in result.entities:
                scores[entity.label].append(entity.score)
    return {
        **reports.count_documents(inputs.total, failed),
        **({"skipped": inputs.skipped} if inputs.skipped else {}),
        "kept": reports.shares_kept(scores, labels),
    }


def _default_threshold(client: Client, model: str | None) -> float:
    """Return the service's default threshold for this model, or for its first one."""
    served = next((served for served in client.models() if model in (None, served.name)), None)
    return 0.5 if served is None or served.default_threshold is None else served.default_threshold


def _build_options(
    model: str | None, overlap: OverlapOptions, threshold: float | Mapping[str, float]
) -> SubmitOptions:
    lowest = threshold if isinstance(threshold, float) else min(threshold.values())
    return drop_unset(
        threshold=min(reports.FLOOR, lowest),
        model=model,
        flat=False if overlap.nested else None,
        multi_label=overlap.multi_label or None,
    )


def _import_evaluator() -> Any:
    try:
        from nervaluate import Evaluator
    except ImportError:
        raise CommandError("evaluation requires nervaluate: pip install 'gleaner-ner[eval]'") from None
    return Evaluator


def _write_calibration(path: Path, documents: Sequence[Judged]) -> None:
    try:
        curve = calibration(documents)
    except ValueError as failure:
        raise CommandError(f"cannot fit a calibration curve: {failure}") from None
    sizes = {"documents": len(documents), "entities": sum(len(document.found) for document in documents)}
    path.write_text(json.dumps({"version": 1, "knots": curve, "made_of": sizes}) + "\n")
