"""Numbers of an evaluation -> what `gleaner evaluate` and `suggest-thresholds` print, as JSON and as tables."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from gleaner.cli.escaping import dump_json
from gleaner.cli.output import print_line, print_table
from gleaner.client.calls import Labels
from gleaner.evaluation import STEPS, Choice, Judged, best, kept, sweep

FLOOR: Final = STEPS[0]
"""Texts are read once at this threshold; everything above it is a matter of counting."""
TABLE: Final = tuple(step for step in STEPS if round(step * 100) % 5 == 0)
SCHEMES: Final = ("strict", "exact", "partial", "ent_type")
Report = Mapping[str, Any]


def schemes(
    evaluator: Any, documents: Sequence[Judged], threshold: float | Mapping[str, float], labels: Sequence[str]
) -> dict[str, Any]:
    """Each scheme's precision, recall and F1, over all and label by label."""
    true, found = [], []
    for document in documents:
        # Exact ones first: it gives each entity to the first that overlaps it.
        ranked = sorted(kept(document, threshold), key=lambda span: (span not in document.gold, span))
        true.append([_inclusive(span) for span in sorted(document.gold)])
        found.append([_inclusive(span) for span in ranked])
    results = evaluator(true, found, tags=list(labels), loader="dict").evaluate()
    return {
        "all": {scheme: _numbers(results["overall"][scheme]) for scheme in SCHEMES},
        "labels": {
            label: {scheme: _numbers(results["entities"][label][scheme]) for scheme in SCHEMES}
            for label in labels
            if label in results["entities"]
        },
    }


def _inclusive(span: Any) -> dict[str, Any]:
    return {"label": span.label, "start": span.start, "end": span.end - 1}


def _numbers(result: Any) -> dict[str, Any]:
    return {
        "gold": result.possible,
        "found": result.actual,
        **{name: round(getattr(result, name), 4) for name in ("precision", "recall", "f1")},
    }


def row(choice: Choice) -> dict[str, Any]:
    """A threshold and what it gives."""
    return {"threshold": choice.threshold, **choice.quality.to_json()}


def suggestions(documents: Sequence[Judged], labels: Labels, precision: float | None) -> dict[str, Any]:
    """The best threshold of each label, and all of them ready to paste."""
    found = {label: best(sweep(documents, STEPS, label), precision) for label in labels}
    chosen = {label: one.threshold for label, one in found.items() if one is not None}
    return {
        "best": {label: None if one is None else row(one) for label, one in found.items()},
        "options": {"threshold": chosen},
        "flags": " ".join(f"--threshold {shlex.quote(f'{label}={value:g}')}" for label, value in chosen.items()),
    }


def shares_kept(scores: Mapping[str, Sequence[float]], labels: Labels) -> dict[str, list[dict[str, Any]]]:
    """How many entities, and what share of those above the floor, each threshold keeps, label by label."""
    return {
        label: [
            {
                "threshold": step,
                "entities": (count := sum(score > step for score in own)),
                "share": _share(count, own),
            }
            for step in TABLE
        ]
        for label in labels
        for own in (scores.get(label, ()),)
    }


def _share(count: int, scores: Sequence[float]) -> float:
    return round(count / len(scores), 4) if scores else 0.0


def print_report(report: Report) -> None:
    """Print all of an evaluation."""
    overall = report["overall"]
    print_line(f"{_counted(report)}; at threshold {_said(report['threshold'])}:\n")
    print_table(
        ("", "gold", "found", "precision", "recall", "F1"),
        ((scheme, *_cells(overall["all"][scheme])) for scheme in SCHEMES),
    )
    print_line("")
    print_table(
        ("label", "gold", "found", "precision", "recall", "F1", "F1 partial"),
        (
            (label, *_cells(schemes["strict"]), f"{schemes['partial']['f1']:.3f}")
            for label, schemes in overall["labels"].items()
        ),
    )
    print_line("")
    print_table(
        ("threshold", "gold", "found", "precision", "recall", "F1", ""),
        ((f"{row['threshold']:.2f}", *_cells(row), "█" * round(row["f1"] * 30)) for row in report["sweep"]),
    )
    print_line("")
    print_suggestions(report)


def print_suggestions(report: Report) -> None:
    """Print each label's threshold, and all of them ready to paste."""
    if report["failed"]:
        print_line(f"{_counted(report)}\n")
    print_table(
        ("label", "threshold", "gold", "found", "precision", "recall", "F1"),
        (
            (label, f"{row['threshold']:.2f}", *_cells(row)) if row else (label, "none")
            for label, row in report["best"].items()
        ),
    )
    if report["flags"]:
        print_line(f"\noptions: {dump_json(report['options'])}\nflags:   {report['flags']}")


def print_kept(report: Report) -> None:
    """Print what thresholds keep."""
    print_line(f"{_counted(report)}; entities that a threshold keeps, of those above {FLOOR}:\n")
    shown = [step for step in TABLE if round(step * 100) % 10 == 0]
    print_table(
        ("label", f"above {FLOOR}", *(f"{step:.1f}" for step in shown)),
        (
            (label, str(rows[0]["entities"]), *(f"{r['share']:.0%}" for r in rows if r["threshold"] in shown))
            for label, rows in report["kept"].items()
        ),
    )
    print_line("\nWhich of them are right only somebody who reads the texts can say: mark some, and use --gold.")


def _counted(report: Report) -> str:
    """Return the number of documents, and how many of them failed or were skipped, and why."""
    why = ", ".join(f"{count} x {code}" for code, count in report["errors"].items())
    failed = f", {report['failed']} failed ({why})" if report["failed"] else ""
    skipped = f", {report['skipped']} skipped" if report.get("skipped") else ""
    return f"{report['documents']} documents{failed}{skipped}"


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    shares = (f"{row[name]:.3f}" for name in ("precision", "recall", "f1"))
    return chain((str(row["gold"]), str(row["found"])), shares)


def _said(threshold: float | Mapping[str, float]) -> str:
    if isinstance(threshold, Mapping):
        return ", ".join(f"{label}={value:g}" for label, value in threshold.items())
    return f"{threshold:g}"
