"""`gleaner redact`: its options become those of jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes.echo_gateway import EchoGateway
from tests.unit.gleaner.cli.conftest import RunCommand, ScriptedGateway


@pytest.mark.parametrize(
    ("words", "redact"),
    [
        ([], {"mode": "label"}),
        (["--numbered"], {"mode": "label", "numbered": True}),
        (["--mode", "mask", "--character", "#", "--length", "3"], {"mode": "mask", "character": "#", "length": 3}),
        (["--mode", "hash", "--hide", "x"], {"mode": "hash", "labels": ["x"]}),
    ],
)
def test_only_options_that_were_named_are_sent(
    echo: EchoGateway, run_command: RunCommand, tmp_path: Path, words: list[str], redact: dict[str, Any]
) -> None:
    """The service has its own defaults for the others."""
    (tmp_path / "a.txt").write_text("Ada met Ada")
    result = run_command("redact", tmp_path / "a.txt", "-l", "x", *words)
    assert (result.exit_code, echo.options) == (0, [{"redact": redact}]), result.stderr
    assert json.loads(result.stdout)["redacted_text"] == "[X] met [X]"


def test_a_table_has_the_redacted_texts(echo: EchoGateway, run_command: RunCommand, tmp_path: Path) -> None:
    """A row per document; the other options go along."""
    (tmp_path / "a.jsonl").write_text('{"text": "Ada", "key": "k"}\n{"text": "", "key": "e"}\n')
    words = ["-o", tmp_path / "out.csv", "--id-column", "key", "--threshold", "0.1", "--explain"]
    result = run_command("redact", tmp_path / "a.jsonl", "-l", "x", *words)
    assert result.exit_code == 1, result.stderr
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "index,id,status,text,error", "0,k,succeeded,[X],", "1,e,failed,,empty_text",
    ]  # fmt: skip
    assert echo.options[0] == {"threshold": 0.1, "explain": True, "redact": {"mode": "label"}}


def test_a_label_to_hide_must_be_looked_for(
    gateway: ScriptedGateway, run_command: RunCommand, tmp_path: Path
) -> None:
    """Else its values would stay in the text."""
    (tmp_path / "a.txt").write_text("Ada")
    result = run_command("redact", tmp_path / "a.txt", "-l", "x", "--hide", "y")
    assert (result.exit_code, gateway.requests) == (2, [])
    assert "--hide names labels that are not looked for: y; add -l" in result.stderr
