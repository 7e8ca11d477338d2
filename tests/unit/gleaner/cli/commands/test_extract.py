"""`gleaner extract`: its options become those of jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
