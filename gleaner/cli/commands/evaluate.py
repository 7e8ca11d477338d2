"""`gleaner evaluate` and `gleaner suggest-thresholds`: what a model is worth on your texts, and where to cut."""

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
from gleaner.cli.files.inputs import OnBadLine, look_at
from gleaner.cli.files.outputs import Outputs
from gleaner.cli.files.readers import expand
from gleaner.cli.files.reading_options import (
    BadLine,
    Delimiter,
    Encoding,
    Ignored,
    Kind,
    QuotesOption,
    Reads,
    Split,
    TextField,
)
from gleaner.cli.files.rows import Row
from gleaner.cli.gold_data import all_labels, judge, read_gold
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
from gleaner.cli.output import print_json, say
from gleaner.client import Client
from gleaner.client.calls import Labels, SubmitOptions
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
    written = tuple(path for path in (plot, calibration_file) if path is not None)
    also = () if labels_file is None else (labels_file,)
    files = [file for path in files for file in expand(path) or (path,)]
    Outputs(written, overwrite=True, read=(*files, *also)).check()
    gold = read_gold(files)
    labels = read_labels(label, labels_file) or all_labels(gold)
    at = read_threshold(threshold, labels)
    with gateway.client(retries=6) as client:
        chosen = _default_threshold(client, model) if at is None else at
        documents, failed = judge(client, gold, labels, _options(model, nested, multi_label, chosen))
    report = {
        "documents": len(documents),
        "failed": failed.total(),
        "errors": dict(failed),
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
    kind: Kind = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quotes: QuotesOption = None,
    ignore_columns: Ignored = None,
    split: Split = False,
    on_bad_line: BadLine = OnBadLine.reject,
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
                "failed": failed.total(),
                "errors": dict(failed),
                **reports.suggestions(documents, labels, precision),
            }
        else:
            if labels is None:
                raise CommandError("which labels? Name them by -l or --labels-file")
            if precision is not None:
                raise CommandError("precision can only be told from texts whose entities are known: --gold")
            reads = Reads.of(
                kind,
                text_column,
                delimiter=delimiter,
                encoding=encoding,
                quotes=quotes,
                ignored=ignore_columns,
                split=split,
                on_bad_line=on_bad_line,
            )
            report = _count_kept(client, files, reads, labels, options)
    if as_json:
        print_json(report)
    elif gold:
        reports.print_suggestions(report)
    else:
        reports.print_kept(report)
    if report["failed"] or report.get("skipped"):
        raise typer.Exit(DOCUMENTS_FAILED)


def _count_kept(
    client: Client, files: list[Path], reads: Reads, labels: Labels, options: SubmitOptions
) -> dict[str, Any]:
    """Return what thresholds keep of the entities in the files' texts, and how many documents failed and why.

    Raises:
        InputError: a file or a line of it is no document.
    """
    console = Console(stderr=True)
    with look_at(files, reads.kind, reads.reading, reads.on_bad_line, Outputs()) as inputs:
        for note in (*inputs.notes, *inputs.faults.lines()):
            say(console, note)
        faulty: Counter[str] = Counter()
        scores, total, failed = _scores(client.map(_documents(inputs.rows(), faulty), labels, **options))
        failed += faulty
        return {
            "documents": total + faulty.total(),
            "failed": failed.total(),
            "errors": dict(failed),
            **({"skipped": inputs.skipped} if inputs.skipped else {}),
            "kept": reports.shares_kept(scores, labels),
        }


def _default_threshold(client: Client, model: str | None) -> float:
    """Return the threshold that the service would use for this model, or the first one."""
    for served in client.models():
        if model in (None, served.name):
            return 0.5 if served.default_threshold is None else served.default_threshold
    return 0.5


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


def _documents(rows: Iterable[Row], faulty: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows that can be submitted; the others are counted."""
    for row in rows:
        if row.fault is None:
            yield row.document()
        else:
            faulty["invalid_document"] += 1


def _scores(results: Iterable[Any]) -> tuple[dict[str, list[float]], int, Counter[str]]:
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
