"""Foreign text is shown as text on a terminal: no markup, no escape sequence, no link, no formula."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from gleaner import Client
from tests.support.fakes.scripted_http import Answer, ReceivedRequest, ScriptedServer
from tests.support.processes.echo_gateway import EchoGateway
from tests.support.processes.local_stack import COMMAND, RunningStack, command_environment, gleaner

pytestmark = pytest.mark.timeout(120)
STEERING = "\x1b]0;owned\x07 \x9b2J \x1b]8;;http://evil.example\x07here \u202e \u2066 \x7f"
MARKUP = "see [/x] [link=http://evil.example]here[/link] [bold]"
HARMFUL = set("\x1b\x07\x9b\x7f\u202e\u2066")


def on_a_terminal(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run the command with output and errors on a terminal; return the exit code and all output."""
    main, side = pty.openpty()
    environment = command_environment({"TERM": "xterm-256color", "COLUMNS": "400"})
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=side, stderr=side, env=environment
    )
    os.close(side)
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    shown = b""
    try:
        while piece := os.read(main, 1 << 16):
            shown += piece
    except OSError:  # the other side is closed
        pass
    os.close(main)
    return process.wait(), shown.decode()


def test_an_endpoints_description_is_text(stack: RunningStack, client: Client) -> None:
    """Any submitter may write it: for the others of the tenant the list still works, and holds no link."""
    endpoint = client.webhooks.create("http://127.0.0.1:9999/a", description=MARKUP)
    try:
        listed = gleaner("webhooks", "endpoints", "list", "--data-dir", str(stack.directory))
        _, shown = on_a_terminal("webhooks", "endpoints", "list", "--data-dir", str(stack.directory))
    finally:
        client.webhooks.delete(endpoint.id)
    assert listed.returncode == 0, listed.stderr
    assert "]8;" not in shown
    assert "[link=http://evil.example]here[/link]" in shown.replace("\r\n", "")


def _hostile(request: ReceivedRequest) -> Answer:
    """Answer as a service that steers whoever reads it."""
    text = MARKUP + STEERING
    job = {"id": f"job_{text}", "status": f"running {text}", "counts": {"total": 1}, "error_summary": []}
    endpoint = {
        "id": f"ep_{text}",
        "url": f"https://{text}",
        "events": [text],
        "status": text,
        "disabled_reason": text,
        "description": text,
        "all_jobs": True,
    }
    attempt = {"at": "2026-01-01T00:00:00Z", "status": None, "error": text, "latency_ms": 1}
    delivery = {
        "id": text,
        "event": text,
        "job_id": text,
        "endpoint_id": "e",
        "status": text,
        "attempts": [attempt],
        "created_at": attempt["at"],
    }
    tested = {"delivered": True, "status": 200, "error": None, "latency_ms": 1, "body": f"fine\n{text}"}
    if request.path.endswith("/test"):
        return Answer(body=tested)
    if request.path.endswith("/deliveries"):
        return Answer(body={"data": [delivery], "next_cursor": None})
    if request.path == "/v1/webhook-endpoints":
        return Answer(body={"data": [endpoint], "next_cursor": None})
    if request.path == "/v1/models":
        return Answer(body={"data": [{"name": text, "workers": 1, "available": False, "reason": text}]})
    if request.path == "/v1/jobs":
        return Answer(body={"data": [job], "next_cursor": None})
    if request.path == "/v1/jobs/missing":
        problem = {"code": "job_not_found", "detail": text, "errors": [{"pointer": text, "detail": text}]}
        return Answer(404, problem)
    return Answer(body=job | {"status": "failed", "error_summary": [{"code": text, "count": 1}]})


@pytest.mark.parametrize(
    "command",
    [
        ["webhooks", "endpoints", "list"],
        ["webhooks", "endpoints", "test", "ep_1"],
        ["webhooks", "deliveries", "ep_1"],
        ["models"],
        ["jobs"],
        ["jobs", "job_1"],
        ["jobs", "missing"],
        ["watch", "job_1"],
        ["watch", "job_1", "--json"],
        ["jobs", "--json"],
    ],
    ids=" ".join,
)
def test_an_answer_steers_no_terminal(command: list[str]) -> None:
    """Text from the service is escaped in tables, sentences, errors and progress."""
    with ScriptedServer(behaviour=_hostile).running() as server:
        code, shown = on_a_terminal(*command, "--url", server.url)
    assert "Traceback" not in shown, shown
    assert code in (0, 1, 3), shown
    for harm in ("\x1b]", "\x9b", "\x07", "\u202e", "\u2066", "\x7f"):
        assert harm not in shown
    assert "\\x1b]0;owned" in shown or "\\u001b]0;owned" in shown


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv"])
def test_results_steer_no_terminal_and_are_whole_in_a_pipe(form: str) -> None:
    """Texts of strangers on a terminal are shown escaped; redirected CSV and TSV have every byte."""
    text = f"Ada {STEERING}"
    with EchoGateway().running() as gateway:
        command = ["redact", "-", "--format", "lines", "-l", "x", "--output-format", form, "--url", gateway.url]
        _, shown = on_a_terminal(*command, stdin=text.encode())
        piped = subprocess.run(
            [*COMMAND, *command], input=text.encode(), capture_output=True, check=True, env=command_environment()
        ).stdout.decode()
    assert not HARMFUL & set(shown), shown
    assert ("[X] \x1b]0;owned" in piped) == (form != "jsonl")
    assert len(piped.splitlines()) == (1 if form == "jsonl" else 2)


def test_errors_about_files_steer_no_terminal(tmp_path: Path) -> None:
    """Their names and lines are strangers' too."""
    file = tmp_path / "a\x1b]0;owned.jsonl"
    file.write_text('{"\\u001b]0;owned": "[link=http://evil.example]x[/link]"}\n')
    code, shown = on_a_terminal("extract", str(file), "-l", "x", "--url", "http://127.0.0.1:9")
    assert (code, "\x1b]" in shown, "owned" in shown) == (2, False, True), shown
