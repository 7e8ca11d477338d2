"""The commands for webhook endpoints and deliveries."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.support.fakes.scripted_http import Answer
from tests.unit.gleaner.cli.conftest import RunCommand, ScriptedGateway

ATTEMPT = {"at": "2026-01-02T03:04:05Z", "status": None, "latency_ms": 3, "error": "timeout"}


def make_endpoint(**more: Any) -> dict[str, Any]:
    """Return an endpoint as the gateway shows it."""
    return {"id": "ep_1", "url": "https://r.example/hook", "status": "active", **more}


def make_delivery(**more: Any) -> dict[str, Any]:
    """Return a delivery as the gateway shows it."""
    delivery = {"id": "msg_1", "endpoint_id": "ep_1", "event": "job.succeeded", "type": "job.succeeded"}
    moments = {"created_at": "2026-01-02T03:04:05Z", "next_attempt_at": None}
    return {**delivery, "job_id": "job_1", "status": "failed", "attempts": [], **moments, **more}


def test_endpoints_are_listed_without_their_secrets(gateway: ScriptedGateway, run_command: RunCommand) -> None:
    """A disabled one with the reason; in JSON every other field is there."""
    disabled = make_endpoint(id="ep_2", status="disabled", disabled_reason="gone", events=["job.failed"])
    gateway.answers["GET /v1/webhook-endpoints"] = {"data": [make_endpoint(), disabled], "next_cursor": None}
    rows = [line.split() for line in run_command("webhooks", "endpoints", "list").stdout.splitlines()]
    assert rows[1] == ["ep_1", "https://r.example/hook", "all", "active", "0"]
    assert rows[2] == ["ep_2", "https://r.example/hook", "job.failed", "disabled:", "gone", "0"]
    lines = run_command("webhooks", "endpoints", "list", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["ep_1", "ep_2"]
    assert "secret" not in json.loads(lines[0])


@pytest.mark.parametrize(("events", "text"), [(None, "all events"), (["job.failed"], "job.failed")])
def test_a_new_endpoints_secret_is_shown_once(
    gateway: ScriptedGateway, run_command: RunCommand, events: list[str] | None, text: str
) -> None:
    """With the events that it receives."""
    secret = "whsec_x"  # pragma: allowlist secret
    gateway.answers["POST /v1/webhook-endpoints"] = make_endpoint(events=events, secret=secret)
    options = [word for event in events or () for word in ("--event", event)]
    shown = run_command("webhooks", "endpoints", "create", "https://r.example/hook", *options).stdout
    assert shown.splitlines() == [f"ep_1 receives {text}", "secret, shown only now: whsec_x"]
    assert gateway.requests[0].json().get("events") == events


@pytest.mark.parametrize(
    ("words", "call", "answer", "text"),
    [
        (["enable"], "PATCH /v1/webhook-endpoints/ep_1", make_endpoint(), "ep_1 is active"),
        (
            ["disable"],
            "PATCH /v1/webhook-endpoints/ep_1",
            make_endpoint(status="disabled", disabled_reason="by request"),
            "ep_1 is disabled: by request",
        ),
        (["delete"], "DELETE /v1/webhook-endpoints/ep_1", Answer(204), "ep_1 is deleted"),
        # pragma: allowlist nextline secret
        (["rotate"], "POST /v1/webhook-endpoints/ep_1/rotate-secret", {"secret": "new"}, "new"),
    ],
)  # fmt: skip
def test_an_endpoint_is_changed(
    gateway: ScriptedGateway, run_command: RunCommand, words: list[str], call: str, answer: Any, text: str
) -> None:
    """A sentence for people says so."""
    gateway.answers[call] = answer
    result = run_command("webhooks", "endpoints", *words, "ep_1")
    assert result.stdout == f"{text}\n", (result.stderr, gateway.list_calls())


@pytest.mark.parametrize(
    ("answer", "lines", "code"),
    [
        ({"delivered": True, "status": 204, "error": None, "body": ""}, ["delivered: status 204 after 7 ms"], 0),
        (
            {"delivered": False, "status": None, "error": "timeout", "body": None},
            ["failed: no response (timeout) after 7 ms"],
            1,
        ),
        (
            {"delivered": False, "status": 500, "error": None, "body": "a\nb\x1b"},
            ["failed: status 500 after 7 ms", "  a", "  b\\x1b"],
            1,
        ),
    ],
)
def test_a_test_event_shows_the_receivers_response(
    gateway: ScriptedGateway, run_command: RunCommand, answer: dict[str, Any], lines: list[str], code: int
) -> None:
    """The exit code says whether it was delivered; control characters of the receiver are escaped."""
    gateway.answers["POST /v1/webhook-endpoints/ep_1/test"] = {**answer, "latency_ms": 7}
    result = run_command("webhooks", "endpoints", "test", "ep_1")
    assert (result.stdout.splitlines(), result.exit_code) == (lines, code)


def test_deliveries_are_listed_with_their_last_answer(gateway: ScriptedGateway, run_command: RunCommand) -> None:
    """A status, an error, or nothing before the first attempt."""
    tried = make_delivery(attempts=[{**ATTEMPT, "status": 500, "error": None}, ATTEMPT])
    refused = make_delivery(id="msg_2", attempts=[{**ATTEMPT, "status": 410}])
    page = {"data": [tried, refused, make_delivery(id="msg_3", status="pending")], "next_cursor": None}
    gateway.answers["GET /v1/webhook-endpoints/ep_1/deliveries"] = page
    result = run_command("webhooks", "deliveries", "ep_1", "--status", "failed")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[4:] for row in rows[1:]] == [["2", "timeout"], ["1", "410"], ["0"]], result.stderr
    assert gateway.requests[0].query["status"] == "failed"


def test_failed_deliveries_are_sent_again(gateway: ScriptedGateway, run_command: RunCommand) -> None:
    """All since a moment, or a single one."""
    gateway.answers |= {
        "POST /v1/webhook-endpoints/ep_1/recover": {"recovered": 3},
        "POST /v1/deliveries/msg_1/redeliver": make_delivery(status="pending"),
    }
    assert run_command("webhooks", "recover", "ep_1", "--since", "2d").stdout == "sending 3 events again\n"
    again = run_command("webhooks", "redeliver", "msg_1")
    assert again.stdout == "msg_1 (job.succeeded of job_1) is pending\n", (again.stderr, gateway.list_calls())
    assert run_command("webhooks", "recover", "ep_1", "--since", "soon").exit_code == 2


def test_a_port_that_is_taken_is_named(run_command: RunCommand, gateway: ScriptedGateway) -> None:
    """Before an endpoint is registered."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run_command("webhooks", "listen", "--port", taken.getsockname()[1])
    assert (result.exit_code, gateway.requests) == (2, [])
    assert "cannot be used" in result.stderr
