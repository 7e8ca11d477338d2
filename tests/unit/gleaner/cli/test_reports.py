"""Reports of evaluations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from nervaluate import Evaluator

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.reports import (
    TABLE,
    choice_row,
    compute_schemes,
    count_documents,
    plot_sweep,
    print_report,
    print_shares,
    shares_kept,
    suggest_thresholds,
)
from gleaner.evaluation import Span, kept, sweep
from tests.support.judged import DOCUMENTS, judged


def test_the_usual_schemes_are_the_librarys() -> None:
    """An overlap counts half where places may be partly right; label by label nothing of another label counts."""
    overall = compute_schemes(Evaluator, DOCUMENTS, 0.3, ["person", "city"])
    assert overall["all"]["strict"] == {"gold": 4, "found": 5, "precision": 0.6, "recall": 0.75, "f1": 0.6667}
    assert overall["all"]["partial"]["recall"] == (3 + 0.5) / 4
    assert overall["all"]["ent_type"]["recall"] == 1.0
    assert overall["labels"]["city"]["strict"] == {
        "gold": 1,
        "found": 2,
        "precision": 0.5,
        "recall": 1,
        "f1": 0.6667,
    }


def test_neighbours_do_not_overlap() -> None:
    """The library counts ends as inside; ours are not."""
    only = [judged([Span(0, 3, "person")], {Span(3, 6, "person"): 0.9})]
    assert compute_schemes(Evaluator, only, 0.5, ["person"])["all"]["partial"]["recall"] == 0


def test_suggestions_are_ready_to_paste() -> None:
    """They are options of a request, and flags quoted for a shell; a label without a right entity has none."""
    rows = [judged([Span(0, 3, "phone number")], {Span(0, 3, "phone number"): 0.7})]
    report = suggest_thresholds(rows, ["phone number", "city"], None)
    assert report["best"]["city"] is None
    value = report["options"]["threshold"]["phone number"]
    assert report["flags"] == f"--threshold 'phone number={value:g}'"
    assert kept(rows[0], report["options"]["threshold"]) == {Span(0, 3, "phone number")}


def test_shares_say_how_much_a_threshold_keeps() -> None:
    """And nothing about entities that are right."""
    report = shares_kept({"person": [0.2, 0.6, 0.9, 0.95]}, ["person", "city"])
    at = {row["threshold"]: (row["entities"], row["share"]) for row in report["person"]}
    assert (at[0.5], at[0.9], at[0.95]) == ((3, 0.75), (1, 0.25), (0, 0.0))
    assert report["city"][0] == {"threshold": 0.05, "entities": 0, "share": 0.0}


def test_a_report_can_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Numbers by scheme, label and threshold, the best thresholds, and a picture."""
    labels = ["person", "city"]
    report = {
        "documents": 2,
        "failed": 1,
        "errors": {"empty_text": 1},
        "threshold": {"person": 0.5},
        "overall": compute_schemes(Evaluator, DOCUMENTS, 0.5, labels),
        "sweep": [],
        **suggest_thresholds(DOCUMENTS, labels, None),
    }
    print_report(report)
    shown = capsys.readouterr().out
    assert "2 documents, 1 failed (1 x empty_text); at threshold person=0.5" in shown
    assert "flags:   --threshold person=" in shown
    plot_sweep(tmp_path / "sweep.png", DOCUMENTS, labels)
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CommandError, match="No such file"):
        plot_sweep(tmp_path / "none" / "sweep.png", DOCUMENTS, labels)


def test_a_report_shows_skipped_lines_and_every_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    """Bars show F1; a label that no threshold suits has none."""
    report = {
        **count_documents(2, Counter()),
        "skipped": 3,
        "threshold": 0.25,
        "overall": compute_schemes(Evaluator, DOCUMENTS, 0.25, ["person"]),
        "sweep": [choice_row(choice) for choice in sweep(DOCUMENTS, TABLE)],
        **suggest_thresholds(DOCUMENTS, ["person", "city", "animal"], None),
    }
    print_report(report)
    shown = capsys.readouterr().out
    assert shown.startswith("2 documents, 3 skipped; at threshold 0.25:")
    assert shown.count("█") > 10
    assert "none" in next(line for line in shown.splitlines() if "animal" in line)


def test_shares_are_printed_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """They say nothing about right and wrong."""
    labels = ["person", "city"]
    print_shares({**count_documents(4, Counter()), "kept": shares_kept({"person": [0.2, 0.9]}, labels)})
    shown = capsys.readouterr().out
    rows = [line.split()[:3] for line in shown.splitlines()]
    assert ["person", "2", "100%"] in rows
    assert ["city", "0", "0%"] in rows
    assert "use --gold" in shown
