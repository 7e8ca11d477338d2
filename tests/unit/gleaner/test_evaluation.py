from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nervaluate import Evaluator

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.rows import InputError
from gleaner.cli.gold_data import GoldText, all_labels, read_gold
from gleaner.cli.reports import compute_schemes, plot_sweep, print_report, shares_kept, suggest_thresholds
from gleaner.evaluation import STEPS, Choice, Judged, Quality, Span, best, calibration, kept, quality, sweep
from worker.text.explanations import check_calibration

ADA, BOB, ELY = Span(0, 3, "person"), Span(8, 11, "person"), Span(15, 18, "city")
WRONG, LONGER = Span(20, 24, "city"), Span(8, 14, "person")


def judged(gold: list[Span], predicted: dict[Span, float]) -> Judged:
    """Return a document."""
    return Judged(frozenset(gold), predicted)


DOCUMENTS = [
    judged([ADA, BOB, ELY], {ADA: 0.9, LONGER: 0.6, ELY: 0.8, WRONG: 0.4}),
    judged([ADA], {ADA: 0.5}),
]
"""By hand: above 0.3 three of five are right, of four that should be found."""


def test_precision_recall_and_f1_are_counted_by_hand() -> None:
    """An entity is right if it agrees in start, end and label."""
    assert quality(DOCUMENTS, 0.3) == Quality(gold=4, found=5, right=3)
    assert quality(DOCUMENTS, 0.3).precision == 3 / 5
    assert quality(DOCUMENTS, 0.3).recall == 3 / 4
    assert quality(DOCUMENTS, 0.3).f1 == pytest.approx(6 / 9)
    assert quality(DOCUMENTS, 0.5) == Quality(4, 3, 2)  # the score must be above the threshold
    assert quality(DOCUMENTS, {"city": 0.85}) == Quality(4, 2, 1)  # labels that are not named have 0.5
    assert (Quality(0, 0, 0).f1, Quality(2, 0, 0).precision, Quality(0, 2, 0).recall) == (1, 1, 1)


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


flat = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 3), st.sampled_from(["a", "b"]), st.integers(1, 99)), max_size=6
)


def documents(draws: list[tuple[int, int, str, int]]) -> dict[Span, float]:
    """Entities that do not overlap, with scores in hundredths."""
    predicted: dict[Span, float] = {}
    taken: set[int] = set()
    for start, length, label, score in draws:
        places = set(range(start, start + length))
        if not places & taken:
            taken |= places
            predicted[Span(start, start + length, label)] = score / 100
    return predicted


@given(st.lists(st.tuples(flat, flat), min_size=1, max_size=4))
def test_counting_agrees_with_counting_anew_and_with_the_library(draws: list[Any]) -> None:
    """At every threshold, of all labels and of one."""
    rows = [judged(list(documents(gold)), documents(predicted)) for gold, predicted in draws]
    for choice in sweep(rows, STEPS[::12]):
        assert choice.quality == quality(rows, choice.threshold)
        strict = compute_schemes(Evaluator, rows, choice.threshold, ["a", "b"])["all"]["strict"]
        assert (strict["gold"], strict["found"]) == (choice.quality.gold, choice.quality.found)
        if choice.quality.found and choice.quality.gold:
            assert strict["f1"] == round(choice.quality.f1, 4)
    for choice in sweep(rows, STEPS[::12], "a"):
        assert choice.quality == quality(rows, {"a": choice.threshold, "b": 1.0}) or any(
            span.label == "b" for row in rows for span in row.gold
        )


def test_the_best_threshold_is_the_middle_of_the_best() -> None:
    """Any of them is as good on these texts; the middle is the safest on others."""
    choices = sweep(DOCUMENTS, STEPS, "city")
    choice = best(choices)
    assert choice is not None
    assert choice.quality == Quality(1, 1, 1)
    assert 0.58 <= choice.threshold <= 0.61  # from 0.4, the wrong one's score, to 0.8, the right one's
    assert best(sweep([judged([ADA], {})], STEPS)) is None


def test_a_wanted_precision_is_kept_at_the_best_recall() -> None:
    """Or said to be out of reach."""
    wanted = best(sweep(DOCUMENTS, STEPS, "person"), precision=1.0)
    assert wanted is not None
    assert wanted.quality == Quality(3, 1, 1)
    assert wanted.threshold >= 0.6
    never = [Choice(0.5, Quality(3, 2, 1))]
    assert best(never, precision=0.9) is None


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


def test_a_calibration_rises_from_score_to_share() -> None:
    """Here seven of ten of the lower scores are right, and all of the higher ones."""
    predicted = {Span(n, n + 1, "x"): 0.3 + n / 10_000 for n in range(300)} | {
        Span(n, n + 1, "x"): 0.8 + n / 10_000 for n in range(300, 600)
    }
    right = [span for span in predicted if span.start >= 300 or span.start % 10 < 7]
    knots = calibration([judged(right, predicted)])
    assert all(low < high and below <= above for (low, below), (high, above) in pairwise(knots))
    assert knots[0][1] == pytest.approx(0.7, abs=0.02)
    assert knots[-1] == (pytest.approx(0.84, abs=0.02), 1.0)
    with pytest.raises(ValueError, match="too few"):
        calibration(DOCUMENTS)


def test_a_calibration_of_equal_scores_can_be_read_by_a_worker() -> None:
    """A model that gives most entities 1.0 has one knot there, whatever shares the bins behind it have."""
    predicted = {Span(n, n + 1, "x"): 0.5 + n / 1000 if n < 40 else 1.0 for n in range(400)}
    right = [span for span in predicted if span.start % 4]
    knots = calibration([judged(right, predicted)])
    assert [score for score, _ in knots].count(1.0) == 1
    assert check_calibration(knots) == tuple(knots)


def gold_file(tmp_path: Path, *lines: Any) -> Path:
    """Write these lines to a file."""
    path = tmp_path / "gold.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def entity(start: Any, end: Any, label: Any = "person") -> dict[str, Any]:
    """Return an entity of a gold file."""
    return {"start": start, "end": end, "label": label}


def test_gold_is_read_with_what_results_have_besides(tmp_path: Path) -> None:
    """So that corrected results, with their texts, are gold."""
    file = gold_file(
        tmp_path,
        {
            "id": "7",
            "text": "Ada met Bob",
            "entities": [{**entity(0, 3), "score": 0.9, "text": "Ada"}],
            "labels": ["person"],
        },
        "",
        {"text": "Ely", "entities": [entity(0, 3, "city")]},
    )
    gold = read_gold([file])
    assert gold[0] == GoldText("Ada met Bob", frozenset([ADA]), ("person",))
    assert all_labels(gold) == ["person", "city"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", "line 1: not gold"),
        ("{", "line 1: not gold"),
        ({"text": "Ada"}, "not gold"),
        ({"text": "Ada", "entities": [{"start": 0}]}, "not gold"),
        ({"text": 7, "entities": [entity(0, 1)]}, "must be strings"),
        ({"text": "Ada", "entities": [entity(0, 4)]}, "from 0 to 4 is not within"),
        ({"text": "Ada", "entities": [entity(2, 2)]}, "not within"),
        ({"text": "Ada", "entities": [entity("0", 2)]}, "not within"),
        ({"text": "Ada", "entities": [entity(0, 3)], "labels": ["city"]}, "not in its `labels`"),
        ({"text": "Ada", "entities": []}, "no entity"),
    ],
)
def test_a_line_that_is_not_gold_is_told(tmp_path: Path, line: Any, said: str) -> None:
    """With its number and the reason."""
    with pytest.raises(InputError, match=said):
        read_gold([gold_file(tmp_path, line)])
    with pytest.raises(InputError, match="No such file"):
        read_gold([tmp_path / "none.jsonl"])


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
