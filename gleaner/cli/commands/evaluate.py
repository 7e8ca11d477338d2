"""`gleaner evaluate` and `suggest-thresholds`: quality of a model on your texts, and the best thresholds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from gleaner.cli import plots, reports
from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.exit_codes import DOCUMENTS_FAILED, CommandError
from gleaner.cli.files.inputs import OnBadLine, open_inputs
from gleaner.cli.files.outputs import Outputs
from gleaner.cli.files.readers import expand_pattern
from gleaner.cli.files.reading_options import (
    BadLine,
    Delimiter,
    Encoding,
    Ignored,
    InputOptions,
    Kind,
    QuotesOption,
    Split,
    TextField,
)
from gleaner.cli.files.rows import Columns, Quotes, Reading, Row
from gleaner.cli.gold_data import all_labels, judge_documents, read_gold
from gleaner.cli.label_options import (
    Label,
    LabelsFile,
    Model,
    MultiLabel,
    Nested,
    Threshold,
    read_labels,
    read_threshold,
)
from gleaner.cli.output import print_json, print_to
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
    gateway: Gateway,
    files: Annotated[
        list[Path],
        typer.Argument(
            help='Gold data, one JSON object per line: {"text": "Ada lives in Ely.", "entities": [{"start": 0, '
            '"end": 3, "label": "person"}]}; add `labels` if a text was not annotated with all labels.'
        ),
    ],
    label: Label = None,
    labels_file: LabelsFile = None,
    threshold: Threshold = None,
    model: Model = None,
    nested: Nested = False,
    multi_label: MultiLabel = False,
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
    also = () if labels_file is None else (labels_file,)
    files = [file for path in files for file in expand_pattern(path) or (path,)]
    Outputs(written, overwrite=True, read=(*files, *also)).check_writable()
    gold = read_gold(files)
    labels = read_labels(label, labels_file) or all_labels(gold)
    at = read_threshold(threshold, labels)
    with gateway.open_client(retries=6) as client:
        chosen = _default_threshold(client, model) if at is None else at
        documents, failed = judge_documents(
            client, gold, labels, _build_options(model, nested, multi_label, chosen)
        )
    report = {
        "documents": len(documents),
        "failed": failed.total(),
        "errors": dict(failed),
        "threshold": chosen,
        "overall": reports.compute_schemes(evaluator, documents, chosen, list(labels)),
        "sweep": [reports.choice_row(choice) for choice in sweep(documents, reports.TABLE)],
        **reports.suggest_thresholds(documents, labels, precision),
    }
    if plot is not None:
        plots.plot_sweep(plot, documents, list(labels))
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
    gateway: Gateway,
    files: Annotated[
        list[Path], typer.Argument(help="Texts as `gleaner extract` reads them; with --gold, as `evaluate` does.")
    ],
    label: Label = None,
    labels_file: LabelsFile = None,
    gold: Annotated[bool, typer.Option("--gold", help="The files are gold data.")] = False,
    precision: Precision = None,
    model: Model = None,
    nested: Nested = False,
    multi_label: MultiLabel = False,
    text_column: TextField = "text",
    kind: Kind = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quotes: QuotesOption = None,
    ignore_columns: Ignored = None,
    split: Split = False,
    on_bad_line: BadLine = OnBadLine.REJECT,
    as_json: AsJson = False,
) -> None:
    """Find a threshold for each label.

    With --gold, the threshold with the best F1, or with the precision you want. Without, it is unknown which
    entities are correct: the number of entities above each threshold is shown.
    """
    labels = read_labels(label, labels_file)
    options = _build_options(model, nested, multi_label, reports.FLOOR)
    with gateway.open_client(retries=6) as client:
        if gold:
            rows = read_gold(files)
            labels = labels or all_labels(rows)
            documents, failed = judge_documents(client, rows, labels, options)
            report = {
                "documents": len(documents),
                "failed": failed.total(),
                "errors": dict(failed),
                **reports.suggest_thresholds(documents, labels, precision),
            }
        else:
            if labels is None:
                raise CommandError("no labels; name them with -l or --labels-file")
            if precision is not None:
                raise CommandError("--precision requires gold data; add --gold")
            reading = Reading(
                Columns(text_column),
                delimiter,
                encoding,
                quotes or Quotes.DOUBLED,
                frozenset(ignore_columns or ()),
                split=split,
            )
            reads = InputOptions.parse(kind, reading, on_bad_line)
            report = _count_above_thresholds(client, files, reads, labels, options)
    if as_json:
        print_json(report)
    elif gold:
        reports.print_suggestions(report)
    else:
        reports.print_shares(report)
    if report["failed"] or report.get("skipped"):
        raise typer.Exit(DOCUMENTS_FAILED)


def _count_above_thresholds(
    client: Client, files: list[Path], reads: InputOptions, labels: Labels, options: SubmitOptions
) -> dict[str, Any]:
    """Return the number of entities above each threshold, and the number of failed documents by error code.

    Raises:
        InputError: a file or a line of it is not a document.
    """
    console = Console(stderr=True)
    with open_inputs(files, reads.kind, reads.reading, reads.on_bad_line, Outputs()) as inputs:
        for note in (*inputs.notes, *inputs.faults.describe()):
            print_to(console, note)
        faulty: Counter[str] = Counter()
        scores, total, failed = _collect_scores(
            client.map(_select_documents(inputs.read_rows(), faulty), labels, **options)
        )
        failed += faulty
        return {
            "documents": total + faulty.total(),
            "failed": failed.total(),
            "errors": dict(failed),
            **({"skipped": inputs.skipped} if inputs.skipped else {}),
            "kept": reports.shares_kept(scores, labels),
        }


def _default_threshold(client: Client, model: str | None) -> float:
    """Return the service's default threshold for this model, or for its first one."""
    for served in client.models():
        if model in (None, served.name):
            return 0.5 if served.default_threshold is None else served.default_threshold
    return 0.5


def _build_options(
    model: str | None, nested: bool, multi_label: bool, threshold: float | Mapping[str, float]
) -> SubmitOptions:
    lowest = threshold if isinstance(threshold, float) else min(threshold.values())
    options: dict[str, Any] = {"threshold": min(reports.FLOOR, lowest)}
    if model is not None:
        options["model"] = model
    if nested:
        options["flat"] = False
    if multi_label:
        options["multi_label"] = True
    return cast("SubmitOptions", options)


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


def _select_documents(rows: Iterable[Row], faulty: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows that can be submitted; count the others."""
    for row in rows:
        if row.fault is None:
            yield row.to_document()
        else:
            faulty["invalid_document"] += 1


def _collect_scores(results: Iterable[Any]) -> tuple[dict[str, list[float]], int, Counter[str]]:
    scores: dict[str, list[float]] = {}
    failed: Counter[str] = Counter()
    total = 0
    for result in results:
        total += 1
        if not result.ok:
            failed[result.error.code if result.error else result.status] += 1
        for entity in result.entities:
            scores.setdefault(entity.label, []).append(entity.score)
    return scores, total, failed
