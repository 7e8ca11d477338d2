"""`gleaner extract`: its options become those of jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.scripted_http import Answer, ReceivedRequest, problem
from tests.support.processes.echo_gateway import EchoGateway
from tests.unit.gleaner.cli.conftest import RunCommand, ScriptedGateway


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Return a file with a text."""
    (tmp_path / "a.txt").write_text("Ada")
    return tmp_path / "a.txt"


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], {}),
        (["--nested"], {"flat": False}),
        (["--multi-label", "--no-merge-adjacent"], {"multi_label": True, "merge_adjacent": False}),
        (["--threshold", "0.3", "--model", "m"], {"threshold": 0.3}),
        (["--threshold", "x=0.3"], {"threshold": {"x": 0.3}}),
        (["--long-text", "reject", "--offset-unit", "byte"], {"long_text": "reject", "offset_unit": "byte"}),
        (["--return-text", "--merge-adjacent"], {"return_text": True, "merge_adjacent": True}),
    ],
)
def test_only_options_that_were_named_are_sent(
    echo: EchoGateway, run_command: RunCommand, text: Path, words: list[str], options: dict[str, Any]
) -> None:
    """The service has its own defaults for the others."""
    result = run_command("extract", text, "-l", "x", *words)
    assert (result.exit_code, echo.options) == (0, [options]), result.stderr


def test_the_model_that_was_named_is_asked(
    gateway: ScriptedGateway, echo: EchoGateway, run_command: RunCommand, text: Path
) -> None:
    """In the request itself, next to the labels."""
    run_command("extract", text, "-l", "x", "--model", "m")
    assert gateway.requests[0].json()["model"] == "m"


def test_results_are_printed_and_the_summary_is_not_among_them(
    echo: EchoGateway, run_command: RunCommand, text: Path
) -> None:
    """Pipes get results alone, whatever the format."""
    result = run_command("extract", text, "-l", "x")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [str(text)]
    assert result.stderr.splitlines()[-1] == "1 documents, 1 entities, 0 failed"
    csv = run_command("extract", text, "-l", "x", "--output-format", "csv", "--json")
    assert csv.stdout.splitlines()[1].endswith("succeeded,0,3,Ada,x,0.9,")
    assert json.loads(csv.stderr)["documents"] == 1


def test_offsets_are_in_the_unit_that_was_asked_for(echo: EchoGateway, run_command: RunCommand, text: Path) -> None:
    """A byte order mark counts in bytes only."""
    text.write_text("\ufeffé Ada")
    starts = {}
    for unit in ("codepoint", "byte"):
        line = run_command("extract", text, "-l", "x", "--offset-unit", unit).stdout
        starts[unit] = json.loads(line)["entities"][0]["start"]
    assert starts == {"codepoint": 2, "byte": 6}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-l", "a,b"], "would be one label"),
        (["-l", "x", "--threshold", "y=0.5"], "--threshold names labels"),
        (["-l", "x", "--bom"], "--bom are for CSV and TSV"),
        (["-l", "x", "--delimiter", ";;"], "--delimiter"),
        (["-l", "x", "--output-format", "parquet"], "Parquet cannot be printed"),
    ],
)
def test_a_mistake_is_found_before_anything_is_sent(
    gateway: ScriptedGateway, run_command: RunCommand, text: Path, words: list[str], message: str
) -> None:
    """With exit code 2 and a sentence."""
    result = run_command("extract", text, *words)
    assert (result.exit_code, gateway.requests) == (2, [])
    assert message in result.stderr


ENTITY = {"start": 0, "end": 3, "text": "Ada", "label": "person", "score": 0.9}


def answer_with_tasks(request: ReceivedRequest) -> Answer:
    """Return the answer of a gateway whose every document has a relation and a class."""
    if not request.path.endswith("/results"):
        return Answer(202, {"id": "job_1", "status": "succeeded", "counts": {"total": 1, "succeeded": 1}})
    result = {
        "index": 0,
        "id": "0",
        "status": "succeeded",
        "entities": [ENTITY],
        "relations": [{"label": "admires", "head": 0, "tail": 0, "score": 0.8}],
        "classifications": {"topic": [{"label": "sport", "score": 1.0}]},
    }
    return Answer(body={"data": [result], "next_cursor": None, "complete": True})


def test_relations_and_classes_are_asked_for_and_written(
    gateway: ScriptedGateway, run_command: RunCommand, text: Path
) -> None:
    """JSON lines, text for people, and a table of one kind."""
    gateway.behaviour = answer_with_tasks
    command = ("extract", text, "-l", "person", "--relation", "admires", "--classify", "topic=sport,war")

    line = json.loads(run_command(*command).stdout)
    assert line["relations"] == [{"label": "admires", "head": 0, "tail": 0, "score": 0.8}]
    assert line["classifications"] == {"topic": [{"label": "sport", "score": 1.0}]}
    body = gateway.requests[0].json()
    assert (body["relations"], body["classifications"]) == (["admires"], {"topic": ["sport", "war"]})

    shown = run_command(*command, "--output-format", "text").stdout.splitlines()
    assert shown[1:] == ["  Ada (person) 0.90", "  Ada -> admires -> Ada 0.80", "  topic: sport 1.00"]
    table = run_command(*command, "--output-format", "csv", "--table", "relations").stdout.splitlines()
    assert table[1].endswith("succeeded,admires,0.8,0,0,3,Ada,person,0,0,3,Ada,person,")


def test_a_text_is_classified_without_labels(gateway: ScriptedGateway, run_command: RunCommand, text: Path) -> None:
    """The request then has no labels."""
    gateway.behaviour = answer_with_tasks
    assert run_command("extract", text, "--classify-multi", "topic=sport").exit_code == 0
    assert "labels" not in gateway.requests[0].json()


@pytest.mark.parametrize(
    ("code", "pointer", "detail"),
    [
        ("unsupported_task", "/relations", "the model 'm' cannot do relations"),
        ("validation_failed", "/relations", "is not a field of a job"),  # a gateway of an earlier version
    ],
)
def test_a_service_that_lacks_a_task_says_so(
    gateway: ScriptedGateway, run_command: RunCommand, text: Path, code: str, pointer: str, detail: str
) -> None:
    """With the field that it refuses."""
    errors = [{"pointer": pointer, "detail": detail}]
    gateway.behaviour = lambda _request: problem(422, code, errors=errors)
    result = run_command("extract", text, "-l", "person", "--relation", "met")
    assert (result.exit_code, pointer in result.stderr, detail in result.stderr) == (3, True, True)


def test_a_run_with_other_tasks_is_another_run(
    gateway: ScriptedGateway, run_command: RunCommand, text: Path, tmp_path: Path
) -> None:
    """The same command resumes; another relation, class or table does not."""
    gateway.behaviour = answer_with_tasks
    command = ("extract", text, "-l", "person", "--relation", "met", "-o", tmp_path / "out.csv")
    assert run_command(*command).exit_code == 0
    assert "already complete" in run_command(*command).stderr
    for more in (("--relation", "wed"), ("--classify", "topic=sport"), ("--table", "relations")):
        assert "was started with other files, labels or options" in run_command(*command, *more).stderr


def test_a_line_may_have_its_own_tasks(gateway: ScriptedGateway, run_command: RunCommand, tmp_path: Path) -> None:
    """A column of a table with such a name is text of the user's, and a wrong field is refused with its line."""
    gateway.behaviour = answer_with_tasks
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text('{"text": "Ada", "labels": ["x"], "relations": ["met"]}\n')
    table.write_text("text,relations\nAda,many\n")
    assert run_command("extract", lines).exit_code == 0
    assert gateway.requests[0].json()["documents"] == [{"text": "Ada", "labels": ["x"], "relations": ["met"]}]
    assert run_command("extract", table, "-l", "x").exit_code == 0

    lines.write_text('{"text": "Ada", "relations": [{"label": "met"}]}\n')
    refused = run_command("extract", lines, "-l", "x")
    assert (refused.exit_code, "--ignore-columns relations" in refused.stderr) == (2, True)
    assert run_command("extract", lines, "-l", "x", "--ignore-columns", "relations").exit_code == 0
