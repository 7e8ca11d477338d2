"""Reports of `gleaner evaluate` and `suggest-thresholds`: as JSON, as tables and as a plot."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from gleaner.cli.escaping import dump_json
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.printing import print_line, print_table
from gleaner.client.calls import Labels
from gleaner.evaluation import STEPS, Choice, Judged, best, kept, sweep

FLOOR: Final = STEPS[0]
"""Threshold of the single run; higher thresholds are evaluated by counting."""
TABLE: Final = tuple(step for step in STEPS if round(step * 100) % 5 == 0)
SCHEMES: Final = ("strict", "exact", "partial", "ent_type")
Report = Mapping[str, Any]
_MAX_PLOTTED = 10
"""More lines could not be distinguished; the labels with the most gold entities are drawn."""


def count_documents(total: int, failed: Counter[str]) -> dict[str, Any]:
    """Return the number of documents and of failures by error code, with which every report begins."""
    return {"documents": total, "failed": failed.total(), "errors": dict(failed)}


def compute_schemes(
    evaluator: Any, documents: Sequence[Judged], threshold: float | Mapping[str, float], labels: Sequence[str]
) -> dict[str, Any]:
    """Return each scheme's precision, recall and F1, overall and per label."""
    true, predicted = [], []
    for document in documents:
        # Exact matches first: nervaluate assigns each entity to the first that overlaps it.
        ranked = sorted(kept(document, threshold), key=lambda span: (span not in document.gold, span))
        true.append([_inclusive_span(span) for span in sorted(document.gold)])
        predicted.append([_inclusive_span(span) for span in ranked])
    results = evaluator(true, predicted, tags=list(labels), loader="dict").evaluate()
    return {
        "all": {scheme: _scheme_numbers(results["overall"][scheme]) for scheme in SCHEMES},
        "labels": {
            label: {scheme: _scheme_numbers(results["entities"][label][scheme]) for scheme in SCHEMES}
            for label in labels
            if label in results["entities"]
        },
    }


def _inclusive_span(span: Any) -> dict[str, Any]:
    return {"label": span.label, "start": span.start, "end": span.end - 1}


def _scheme_numbers(result: Any) -> dict[str, Any]:
    return {
        "gold": result.possible,
        "found": result.actual,
        **{name: round(getattr(result, name), 4) for name in ("precision", "recall", "f1")},
    }


def choice_row(choice: Choice) -> dict[str, Any]:
    """Return a threshold and its quality as JSON."""
    return {"threshold": choice.threshold, **choice.quality.to_json()}


def suggest_thresholds(documents: Sequence[Judged], labels: Labels, precision: float | None) -> dict[str, Any]:
    """Return the best threshold of each label, and all of them as options and flags to paste."""
    choices = {label: best(sweep(documents, STEPS, label), precision) for label in labels}
    chosen = {label: choice.threshold for label, choice in choices.items() if choice is not None}
    return {
        "best": {label: None if choice is None else choice_row(choice) for label, choice in choices.items()},
        "options": {"threshold": chosen},
        "flags": " ".join(f"--threshold {shlex.quote(f'{label}={value:g}')}" for label, value in chosen.items()),
    }


def shares_kept(scores: Mapping[str, Sequence[float]], labels: Labels) -> dict[str, list[dict[str, Any]]]:
    """Return, per label and threshold, the number of entities above it and their share of those above the floor."""

    def count_above(step: float, label_scores: Sequence[float]) -> dict[str, Any]:
        count = sum(score > step for score in label_scores)
        share = round(count / len(label_scores), 4) if label_scores else 0.0
        return {"threshold": step, "entities": count, "share": share}

    return {label: [count_above(step, scores.get(label, ())) for step in TABLE] for label in labels}


def print_report(report: Report) -> None:
    """Print the report of an evaluation."""
    overall = report["overall"]
    print_line(f"{_describe_counts(report)}; at threshold {_format_threshold(report['threshold'])}:\n")
    print_table(
        ("", "gold", "found", "precision", "recall", "F1"),
        ((scheme, *_format_cells(overall["all"][scheme])) for scheme in SCHEMES),
    )
    print_line("")
    print_table(
        ("label", "gold", "found", "precision", "recall", "F1", "F1 partial"),
        (
            (label, *_format_cells(schemes["strict"]), f"{schemes['partial']['f1']:.3f}")
            for label, schemes in overall["labels"].items()
        ),
    )
    print_line("")
    print_table(
        ("threshold", "gold", "found", "precision", "recall", "F1", ""),
        ((f"{row['threshold']:.2f}", *_format_cells(row), "█" * round(row["f1"] * 30)) for row in report["sweep"]),
    )
    print_line("")
    print_suggestions(report)


def print_suggestions(report: Report) -> None:
    """Print each label's threshold, and all of them as options and flags to paste."""
    if report["failed"]:
        print_line(f"{_describe_counts(report)}\n")
    print_table(
        ("label", "threshold", "gold", "found", "precision", "recall", "F1"),
        (
            (label, f"{row['threshold']:.2f}", *_format_cells(row)) if row else (label, "none")
            for label, row in report["best"].items()
        ),
    )
    if report["flags"]:
        print_line(f"\noptions: {dump_json(report['options'])}\nflags:   {report['flags']}")


def print_shares(report: Report) -> None:
    """Print the share of entities above each threshold."""
    print_line(f"{_describe_counts(report)}; share of entities above each threshold, of those above {FLOOR}:\n")
    shown = [step for step in TABLE if round(step * 100) % 10 == 0]
    print_table(
        ("label", f"above {FLOOR}", *(f"{step:.1f}" for step in shown)),
        (
            (label, str(rows[0]["entities"]), *(f"{r['share']:.0%}" for r in rows if r["threshold"] in shown))
            for label, rows in report["kept"].items()
        ),
    )
    print_line("\nThis does not show which entities are correct: annotate some texts, and use --gold.")


def plot_sweep(path: Path, documents: Sequence[Judged], labels: Sequence[str]) -> None:
    """Draw precision, recall and F1 by threshold, and each label's F1.

    Raises:
        CommandError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CommandError("--plot requires matplotlib: pip install 'gleaner-ner[eval]'") from None
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    overall, by_label = figure.subplots(1, 2, sharey=True)
    choices = sweep(documents, STEPS)
    for name in ("precision", "recall", "f1"):
        overall.plot(STEPS, [getattr(choice.quality, name) for choice in choices], label=name)
    drawn = [(sweep(documents, STEPS, label), label) for label in labels]
    for label_choices, label in sorted(drawn, key=lambda item: -item[0][0].quality.gold)[:_MAX_PLOTTED]:
        by_label.plot(STEPS, [choice.quality.f1 for choice in label_choices], label=label)
    for axes, title in ((overall, "all labels"), (by_label, "F1 by label")):
        axes.set(title=title, xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend()
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as failure:
        raise CommandError(f"{path}: {failure.strerror or failure}") from None


def _describe_counts(report: Report) -> str:
    """Return the number of documents, and of those that failed, by error code, or were skipped."""
    why = ", ".join(f"{count} x {code}" for code, count in report["errors"].items())
    failed = f", {report['failed']} failed ({why})" if report["failed"] else ""
    skipped = f", {report['skipped']} skipped" if report.get("skipped") else ""
    return f"{report['documents']} documents{failed}{skipped}"


def _format_cells(row: Mapping[str, Any]) -> Iterator[str]:
    shares = (f"{row[name]:.3f}" for name in ("precision", "recall", "f1"))
    return chain((str(row["gold"]), str(row["found"])), shares)


def _format_threshold(threshold: float | Mapping[str, float]) -> str:
    if isinstance(threshold, Mapping):
        return ", ".join(f"{label}={value:g}" for label, value in threshold.items())
    return f"{threshold:g}"
