"""The commands for label sets, and --label-set of other commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.scripted_http import Answer, ReceivedRequest
from tests.support.processes.echo_gateway import EchoGateway
from tests.unit.gleaner.cli.conftest import RunCommand, ScriptedGateway

SUMMARY = {
    "name": "drugs", "version": 3, "versions": [2, 3], "size": 2, "created_at": "2026-01-02T03:04:05Z",
}  # fmt: skip
LABELS = {"drug": "a medicine", "dose": None}


def test_labels_are_stored_from_options_and_files(
    gateway: ScriptedGateway, run_command: RunCommand, tmp_path: Path
) -> None:
    """In the forms that `gleaner extract` reads."""
    gateway.answers["PUT /v1/label-sets/drugs"] = SUMMARY
    (tmp_path / "labels.txt").write_text("drug: a medicine\n")
    stored = run_command("label-sets", "put", "drugs", "-l", "dose", "--labels-file", tmp_path / "labels.txt")
    assert stored.stdout == "drugs@3 has 2 labels\n"
    assert gateway.requests[0].json() == {"labels": {"dose": None, "drug": "a medicine"}}
    without = run_command("label-sets", "put", "drugs")
    assert (without.exit_code, len(gateway.requests)) == (2, 1)
    assert "-l or --labels-file" in without.stderr


def test_the_labels_of_a_version_are_printed_as_they_are_read(
    gateway: ScriptedGateway, run_command: RunCommand
) -> None:
    """The output is a labels file; --json adds the rest."""
    gateway.answers["GET /v1/label-sets/drugs"] = {**SUMMARY, "labels": LABELS}
    assert json.loads(run_command("label-sets", "get", "drugs@3").stdout) == LABELS
    assert gateway.requests[0].query == {"version": "3"}
    body = json.loads(run_command("label-sets", "get", "drugs", "--json").stdout)
    assert (body["versions"], body["labels"]) == ([2, 3], LABELS)
    assert gateway.requests[1].query == {}
    assert "write NAME or NAME@VERSION" in run_command("label-sets", "get", "drugs@latest").stderr


def test_label_sets_are_listed_and_deleted(gateway: ScriptedGateway, run_command: RunCommand) -> None:
    """A table shows the versions that are stored."""
    gateway.answers["GET /v1/label-sets"] = {"data": [SUMMARY], "next_cursor": None}
    gateway.answers["DELETE /v1/label-sets/drugs"] = Answer(204)
    [_, row] = run_command("label-sets", "list").stdout.splitlines()
    assert row.split()[:4] == ["drugs", "3", "2", "2"]
    assert run_command("label-sets", "delete", "drugs").stdout == "drugs is deleted\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Return a file with a text."""
    (tmp_path / "a.txt").write_text("Ada")
    return tmp_path / "a.txt"


@pytest.mark.parametrize("command", [["extract"], ["redact", "--hide", "drug"]])
def test_every_job_of_a_run_names_the_same_version(
    gateway: ScriptedGateway, run_command: RunCommand, text: Path, command: list[str]
) -> None:
    """The latest one when the run began; thresholds may name its labels."""
    echo = EchoGateway()

    def behave(request: ReceivedRequest) -> Answer:
        if request.path == "/v1/label-sets/drugs":
            return Answer(200, {**SUMMARY, "labels": LABELS})
        return echo(request)

    gateway.behaviour = behave
    result = run_command(*command, text, "--label-set", "drugs", "--threshold", "0.3", "--threshold", "dose=0.4")
    assert result.exit_code == 0, result.stderr
    [job] = [request.json() for request in gateway.requests if request.method == "POST"]
    assert (job["label_set"], "labels" in job) == ("drugs@3", False)
    assert job["options"]["threshold"] == {"drug": 0.3, "dose": 0.4}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-l", "x"], "--label-set replaces -l"),
        (["--threshold", "city=0.3"], "names labels that are not looked for: city"),
    ],
)
def test_a_label_set_and_labels_exclude_each_other(
    gateway: ScriptedGateway, run_command: RunCommand, text: Path, words: list[Any], said: str
) -> None:
    """Before a job is submitted."""
    gateway.answers["GET /v1/label-sets/drugs"] = {**SUMMARY, "labels": LABELS}
    result = run_command("extract", text, "--label-set", "drugs", *words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not any(request.method == "POST" for request in gateway.requests)
