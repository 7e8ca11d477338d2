"""`gleaner evaluate` and `suggest-thresholds` against a gateway that finds every `Ada`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.scripted_http import Answer, ReceivedRequest
from tests.support.processes.echo_gateway import EchoGateway
from tests.unit.gleaner.cli.conftest import RunCommand, ScriptedGateway

ADA = {"start": 0, "end": 3, "label": "x"}


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    """Return a file of gold data, in which one of two entities is one that the gateway finds."""
    rows = [
        {"text": "Ada", "entities": [ADA]},
        {"text": "Bob", "entities": [ADA]},
        {"text": "Ada", "entities": [], "labels": ["x", "y"]},
    ]
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "gold.jsonl"


@pytest.fixture
def models(gateway: ScriptedGateway, echo: EchoGateway) -> list[dict[str, Any]]:
    """Return the gateway's models, to be filled."""
    served: list[dict[str, Any]] = []

    def answer(request: ReceivedRequest) -> Answer:
        return Answer(200, {"data": served}) if request.path == "/v1/models" else echo(request)

    gateway.behaviour = answer
    return served


def test_a_model_is_compared_with_gold(echo: EchoGateway, run_command: RunCommand, gold: Path) -> None:
    """Scores of all thresholds come from one run; a text's own labels are sent with it."""
    result = run_command("evaluate", gold, "--threshold", "0.5", "--nested", "--json")
    report = json.loads(result.stdout)
    strict = report["overall"]["all"]["strict"]
    assert result.exit_code == 0, result.stderr
    assert (strict["gold"], strict["found"], strict["precision"], strict["recall"]) == (2, 2, 0.5, 0.5)
    assert (report["documents"], report["threshold"]) == (3, 0.5)
    assert echo.options[0] == {"threshold": 0.05, "flat": False}
    assert [document.get("labels") for document in echo.submitted] == [None, None, ["x", "y"]]


@pytest.mark.parametrize(
    ("served", "words", "threshold"),
    [
        ([], [], 0.5),
        ([{"name": "a", "default_threshold": 0.3}], [], 0.3),
        ([{"name": "a", "default_threshold": 0.3}, {"name": "b", "default_threshold": 0.7}], ["--model", "b"], 0.7),
        ([{"name": "a"}], [], 0.5),
    ],
)
def test_the_services_default_threshold_is_evaluated(
    models: list[dict[str, Any]],
    run_command: RunCommand,
    gold: Path,
    served: list[dict[str, Any]],
    words: list[str],
    threshold: float,
) -> None:
    """Of the model that was named, else of the first."""
    models += [{"available": True, "workers": 1, **model} for model in served]
    result = run_command("evaluate", gold, "--json", *words)
    assert json.loads(result.stdout)["threshold"] == threshold, result.stderr


def test_failed_documents_fail_the_command(echo: EchoGateway, run_command: RunCommand, tmp_path: Path) -> None:
    """After the report, which counts them by code."""
    rows = [{"text": "Ada", "entities": [ADA]}, {"text": " ", "entities": []}]
    (tmp_path / "gold.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = run_command("evaluate", tmp_path / "gold.jsonl", "--threshold", "0.5")
    assert result.exit_code == 1
    assert "2 documents, 1 failed (1 x empty_text); at threshold 0.5" in result.stdout


def test_files_that_would_replace_the_gold_are_refused(
    gateway: ScriptedGateway, run_command: RunCommand, gold: Path
) -> None:
    """And so is a calibration curve of too few entities, which is written last."""
    before = gold.read_text()
    assert run_command("evaluate", gold, "--plot", gold).exit_code == 2
    assert (gold.read_text(), gateway.requests) == (before, [])


def test_too_few_entities_give_no_calibration_curve(
    echo: EchoGateway, run_command: RunCommand, gold: Path, tmp_path: Path
) -> None:
    """A curve of a handful would mislead."""
    result = run_command("evaluate", gold, "--threshold", "0.5", "--calibration", tmp_path / "curve.json")
    assert (result.exit_code, (tmp_path / "curve.json").exists()) == (2, False)
    assert "cannot fit a calibration curve" in result.stderr


def test_without_the_library_its_extra_is_named(
    run_command: RunCommand, gold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is submitted."""
    monkeypatch.setitem(sys.modules, "nervaluate", None)
    result = run_command("evaluate", gold)
    assert (result.exit_code, "gleaner-ner[eval]" in result.stderr) == (2, True)


def test_thresholds_are_suggested_from_gold(echo: EchoGateway, run_command: RunCommand, gold: Path) -> None:
    """Ready to paste."""
    result = run_command("suggest-thresholds", gold, "--gold")
    assert result.exit_code == 0, result.stderr
    assert "flags:   --threshold x=" in result.stdout


def test_without_gold_entities_above_each_threshold_are_counted(
    echo: EchoGateway, run_command: RunCommand, tmp_path: Path
) -> None:
    """Rows that are no documents fail, and lines that were skipped are counted."""
    (tmp_path / "a.jsonl").write_text('{"text": "Ada"}\n{"text": 5}\n{"text": " "}\n{"text": "Ada Ada"}\nbroken\n')
    words = [tmp_path / "a.jsonl", "-l", "x", "--on-bad-line", "skip", "--json"]
    result = run_command("suggest-thresholds", *words)
    report = json.loads(result.stdout)
    assert result.exit_code == 1, result.stderr
    assert (report["documents"], report["errors"]) == (4, {"invalid_document": 1, "empty_text": 1})
    assert report["skipped"] == 1
    assert {row["threshold"]: row["entities"] for row in report["kept"]["x"]}[0.5] == 3
    assert "line 5: not a JSON document" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"), [([], "no labels"), (["-l", "x", "--precision", "0.9"], "--precision requires gold data")]
)
def test_what_needs_gold_or_labels_says_so(
    run_command: RunCommand, gold: Path, words: list[str], message: str
) -> None:
    """With exit code 2."""
    result = run_command("suggest-thresholds", gold, *words)
    assert (result.exit_code, message in result.stderr) == (2, True)
