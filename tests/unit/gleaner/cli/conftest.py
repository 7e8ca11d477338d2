"""Fixtures for commands: the real client and command, with a scripted gateway instead of a socket."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from gleaner.cli import connection
from gleaner.cli.app import app
from gleaner.client import Client
from tests.support.fakes.scripted_http import Answer, Behaviour, ReceivedRequest, problem
from tests.support.processes.echo_gateway import EchoGateway

RunCommand = Callable[..., Result]


@dataclass
class ScriptedGateway:
    """Answers by method and path, without a socket.

    Attributes:
        answers: bodies by "METHOD /path"; others are not found.
        behaviour: answers instead, if set.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    behaviour: Behaviour | None = None
    requests: list[ReceivedRequest] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = ReceivedRequest(
            request.method, request.url.path, dict(request.url.params), headers, request.read()
        )
        self.requests.append(received)
        answer = self.behaviour(received) if self.behaviour else self._find_answer(received)
        return httpx.Response(answer.status, headers=answer.headers, json=answer.body)

    def _find_answer(self, request: ReceivedRequest) -> Answer:
        body = self.answers.get(f"{request.method} {request.path}", problem(404, "not_found"))
        return body if isinstance(body, Answer) else Answer(200, body)

    def list_calls(self) -> list[str]:
        """Return the requests so far, as "METHOD /path"."""
        return [f"{request.method} {request.path}" for request in self.requests]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> ScriptedGateway:
    """Return a gateway to which commands talk without a socket."""
    scripted = ScriptedGateway()
    client = functools.partial(Client, transport=httpx.MockTransport(scripted))
    monkeypatch.setattr(connection, "Client", client)
    return scripted


@pytest.fixture
def echo(gateway: ScriptedGateway) -> EchoGateway:
    """Return a gateway that finds every `Ada`."""
    gateway.behaviour = EchoGateway()
    return gateway.behaviour


@pytest.fixture
def run_command(gateway: ScriptedGateway) -> RunCommand:
    """Return a function that runs a command against the gateway; a traceback fails the test."""

    def run(*arguments: object, stdin: str | None = None) -> Result:
        words = [*map(str, arguments), "--url", "http://gateway"]
        result = CliRunner().invoke(app, words, input=stdin, env={"COLUMNS": "200", "NO_COLOR": "1"})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run
