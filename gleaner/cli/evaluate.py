"""`gleaner evaluate` and `gleaner suggest-thresholds`: what a model is worth on your texts, and where to cut."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from gleaner._calls import SubmitOptions
from gleaner.cli import plots, readers, reports
from gleaner.cli.asking import Label, LabelsFile, Model, MultiLabel, Nested, Threshold, read_labels, read_threshold
from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.failures import DOCUMENTS_FAILED, CommandError
from gleaner.cli.gold import all_labels, judge, read_gold
from gleaner.cli.output import print_json
from gleaner.cli.readers import Columns
from gleaner.cli.runs import TextField
from gleaner.evaluation import Judged, calibration, sweep

AsJson = Annotated[bool, typer.Option("--json", help="All numbers as one JSON object.")]
Precision = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="The best recall with this precision, instead of the best F1."),
]


@with_gateway
def evaluate(
    gateway: Gateway,
    files: Annotated[
        list[Path],
        typer.Argument(
            help='Gold, a JSON object a line: {"text": "Ada lives in Ely.", "entities": [{"start": 0, "end": 3, '
            '"label": "person"}]}; `labels` too where a text was not searched for all of them.'
        ),
    ],
    label: Label = None,
    labels_file: LabelsFile = None,
    threshold: Threshold = None,
    model: Model = None,
    nested: Nested = False,
    multi_label: MultiLabel = False,
    precision: Precision = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the sweep into this PNG.")] = None,
    calibration_file: Annotated[
        Path | None,
        typer.Option("--calibration", help="Write what scores are worth into this file, for the model's folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare what is found with what is right.

    Precision, recall and F1 (strict: places and label; exact: places; partial: half for an overlap; ent_type: label
    and an overlap), label by label, over all thresholds, and the best threshold of each label. Needs the extra
    `eval`.
    """
    evaluator = _evaluator()
    gold = read_gold(files)
    labels = read_labels(label, labels_file) or all_labels(gold)
    at = read_threshold(threshold, labels)
    chosen: float | Mapping[str, float] = 0.5 if at is None else at
    with gateway.client(retries=6) as client:
        documents, failed = judge(client, gold, labels, _options(model, nested, multi_label, chosen))
    report = {
        "documents": len(documents),
        "failed": failed,
        "threshold": chosen,
        "overall": reports.schemes(evaluator, documents, chosen, list(labels)),
        "sweep": [reports.row(one) for one in sweep(documents, reports.TABLE)],
        **reports.suggestions(documents, labels, precision),
    }
    if plot is not None:
        plots.sweep(plot, documents, list(labels))
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
    gold: Annotated[bool, typer.Option("--gold", help="The files say which entities are right.")] = False,
    precision: Precision = None,
    model: Model = None,
    nested: Nested = False,
    multi_label: MultiLabel = False,
    text_column: TextField = "text",
    as_json: AsJson = False,
) -> None:
    """Find a threshold for each label.

    With --gold the one with the best F1, or with the precision you want. Without, nobody can know which entities
    are right: what is shown is how many each threshold would keep.
    """
    labels = read_labels(label, labels_file)
    options = _options(model, nested, multi_label, reports.FLOOR)
    with gateway.client(retries=6) as client:
        if gold:
            rows = read_gold(files)
            labels = labels or all_labels(rows)
            documents, failed = judge(client, rows, labels, options)
            report = {
                "documents": len(documents),
                "failed": failed,
                **reports.suggestions(documents, labels, precision),
            }
        else:
            if labels is None:
                raise CommandError("which labels? Name them by -l or --labels-file")
            if precision is not None:
                raise CommandError("precision can only be told from texts whose entities are known: --gold")
            results = client.map(_texts(files, text_column), labels, **options)
            scores, total, failed = _scores(results)
            report = {"documents": total, "failed": failed, "kept": reports.shares_kept(scores, labels)}
    if as_json:
        print_json(report)
    elif gold:
        reports.print_suggestions(report)
    else:
        reports.print_kept(report)
    if report["failed"]:
        raise typer.Exit(DOCUMENTS_FAILED)


def _options(
    model: str | None, nested: bool, multi_label: bool, threshold: float | Mapping[str, float]
) -> SubmitOptions:
    lowest = threshold if isinstance(threshold, float) else min(threshold.values())
    given: dict[str, Any] = {"threshold": min(reports.FLOOR, lowest)}
    if model is not None:
        given["model"] = model
    if nested:
        given["flat"] = False
    if multi_label:
        given["multi_label"] = True
    return cast("SubmitOptions", given)


def _evaluator() -> Any:
    try:
        from nervaluate import Evaluator
    except ImportError:
        raise CommandError("evaluating needs nervaluate: pip install 'gleaner-ner[eval]'") from None
    return Evaluator


def _write_calibration(path: Path, documents: Sequence[Judged]) -> None:
    try:
        knots = calibration(documents)
    except ValueError as failure:
        raise CommandError(f"no calibration: {failure}") from None
    made_of = {"documents": len(documents), "entities": sum(len(one.found) for one in documents)}
    path.write_text(json.dumps({"version": 1, "knots": knots, "made_of": made_of}) + "\n")


def _texts(files: list[Path], column: str) -> Iterator[str]:
    for path in readers.expand(files):
        for row in readers.read(path, readers.format_of(path, None), Columns(text=column)):
            yield row.text


def _scores(results: Iterable[Any]) -> tuple[dict[str, list[float]], int, int]:
    scores: dict[str, list[float]] = {}
    counts: Counter[bool] = Counter()
    for result in results:
        counts[result.ok] += 1
        for entity in result.entities:
            scores.setdefault(entity.label, []).append(entity.score)
    return scores, counts.total(), counts[False]
