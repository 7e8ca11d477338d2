"""The commands that follow and manage jobs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.scripted_http import Answer, ReceivedRequest
from tests.unit.gleaner.cli.conftest import RunCommand, ScriptedGateway


def make_job(status: str = "succeeded", **more: Any) -> dict[str, Any]:
    """Return a job as the gateway shows it."""
    counts = {"total": 3, "succeeded": 2, "failed": 1}
    return {"id": "job_1", "status": status, "counts": counts, **more}


def test_jobs_are_listed_as_a_table_or_as_json(gateway: ScriptedGateway, run_command: RunCommand) -> None:
    """A duration that is not known is an empty cell; JSON has one job per line."""
    jobs = [make_job("running", eta_s=61.4), make_job()]
    gateway.answers["GET /v1/jobs"] = {"data": jobs, "next_cursor": None}
    shown = run_command("jobs", "--status", "running", "--limit", 2).stdout.splitlines()
    assert shown[1].split() == ["job_1", "running", "3/3", "1", "61", "s"]
    assert shown[2].split() == ["job_1", "succeeded", "3/3", "1"]
    assert gateway.requests[0].query["status"] == "running"
    lines = run_command("jobs", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["running", "succeeded"]


def test_a_job_that_is_named_is_shown_alone(gateway: ScriptedGateway, run_command: RunCommand) -> None:
    """And nothing else is asked for."""
    gateway.answers["GET /v1/jobs/job_1"] = make_job(created_at="2026-01-02T03:04:05Z")
    assert "2026-01-0" in run_command("jobs", "job_1").stdout
    assert gateway.list_calls() == ["GET /v1/jobs/job_1"]


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("partially_succeeded", 1), ("cancelled", 1)])
def test_watching_ends_with_the_jobs_outcome(
    gateway: ScriptedGateway, run_command: RunCommand, status: str, code: int
) -> None:
    """Each change is one line, and the reasons of failures are in the last."""
    infos = iter([make_job("running", eta_s=9), make_job("running", eta_s=9), make_job(status)])
    summary = {"error_summary": [{"code": "empty_text", "count": 1}]}
    gateway.behaviour = lambda _request: Answer(200, {**next(infos), **summary})
    result = run_command("watch", "job_1")
    assert result.exit_code == code, result.stderr
    assert result.stdout.splitlines() == [
        "job_1 is running: 3/3 finished, 1 failed, 1 x empty_text, eta 9 s",
        f"job_1 is {status}: 3/3 finished, 1 failed, 1 x empty_text",
        f"job_1 is {status}: 3/3 finished, 1 failed, 1 x empty_text",
    ]


def test_watching_as_json_prints_each_change_once(gateway: ScriptedGateway, run_command: RunCommand) -> None:
    """The last line is the job's end."""
    infos = iter([make_job("running"), make_job("running"), make_job()])
    gateway.behaviour = lambda _request: Answer(200, next(infos))
    lines = run_command("watch", "job_1", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["running", "succeeded"]


@pytest.fixture
def finished_job(gateway: ScriptedGateway) -> ScriptedGateway:
    """Return a gateway with a job of two results."""
    entity = {"start": 0, "end": 3, "text": "Ada", "label": "person", "score": 0.9}
    results = [
        {"index": 0, "id": "a", "status": "succeeded", "entities": [entity]},
        {
            "index": 1,
            "id": "=b",
            "status": "failed",
            "entities": [],
            "error": {"code": "empty_text", "detail": "no"},
        },
    ]

    def answer(request: ReceivedRequest) -> Answer:
        if request.path.endswith("/results"):
            return Answer(200, {"data": results, "next_cursor": None, "complete": True})
        return Answer(200, make_job())

    gateway.behaviour = answer
    return gateway


def test_results_are_printed_or_written_in_any_format(
    finished_job: ScriptedGateway, run_command: RunCommand, tmp_path: Path
) -> None:
    """JSON lines are the default; a file's name says its format, and cells are guarded unless asked otherwise."""
    printed = run_command("results", "job_1").stdout.splitlines()
    assert [json.loads(line)["id"] for line in printed] == ["a", "=b"]
    assert run_command("results", "job_1", "--format", "csv").stdout.splitlines()[2].startswith("1,'=b,failed")
    run_command("results", "job_1", "-o", tmp_path / "out.tsv", "--csv", "raw")
    with (tmp_path / "out.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["id"], row["text"], row["error"]) for row in rows] == [("a", "Ada", ""), ("=b", "", "empty_text")]


def test_an_output_of_a_run_that_can_be_resumed_is_not_replaced(
    finished_job: ScriptedGateway, run_command: RunCommand, tmp_path: Path
) -> None:
    """Before the gateway is asked for anything."""
    (tmp_path / "out.gleaner-state").write_text("{}")
    result = run_command("results", "job_1", "-o", tmp_path / "out")
    assert (result.exit_code, finished_job.requests) == (2, [])
    assert "belongs to a run" in result.stderr


@pytest.mark.parametrize(
    ("command", "call", "answer", "text", "value"),
    [
        ("cancel", "POST /v1/jobs/job_1/cancel", make_job("cancelled"), "job_1 is cancelled", ("id", "job_1")),
        (
            "retry",
            "POST /v1/jobs/job_1/retry",
            {**make_job("queued"), "id": "job_2"},
            "job_2 retries 3 documents of job_1",
            ("id", "job_2"),
        ),
        ("purge", "DELETE /v1/jobs/job_1", Answer(204), "job_1 is purged", ("purged", True)),
    ],
)
def test_a_job_is_changed(
    gateway: ScriptedGateway,
    run_command: RunCommand,
    command: str,
    call: str,
    answer: Any,
    text: str,
    value: tuple[str, object],
) -> None:
    """A sentence for people, the object for programs."""
    gateway.answers |= {"GET /v1/jobs/job_1": make_job(), call: answer}
    assert run_command(command, "job_1").stdout == f"{text}\n"
    assert call in gateway.list_calls()
    assert json.loads(run_command(command, "job_1", "--json").stdout)[value[0]] == value[1]
