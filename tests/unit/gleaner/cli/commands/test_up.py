"""`gleaner up`, with a stack that starts nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gleaner.cli.app import app
from gleaner.cli.commands import up
from gleaner.localstack import DataDir, Event, Interrupted, PortInUse, StackOptions


class FakeStack:
    """Records its calls; a test says how it starts and watches.

    Attributes:
        start_error: raised by `start`.
    """

    start_error: Exception | None = None

    def __init__(self, options: StackOptions, on_event: Callable[[Event], None], **_more: Any) -> None:
        self.options, self.on_event = options, on_event
        self.directory = DataDir(options.data_dir)
        flower = "http://127.0.0.1:5555" if options.flower else None
        self.facts = {"gateway_url": "http://127.0.0.1:8000", "flower_url": flower}
        self.calls: list[str] = []

    def start(self) -> None:
        """Start, or fail."""
        self.calls.append("start")
        if self.start_error is not None:
            raise self.start_error

    def watch_children(self) -> None:
        """Report an event, and end."""
        self.calls.append("watch")
        self.on_event(Event("restarted", "worker", "ended with 1"))
        raise Interrupted

    def stop(self) -> None:
        """Stop."""
        self.calls.append("stop")


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[FakeStack]:
    """Return the stacks that the command creates."""
    created: list[FakeStack] = []

    def make_stack(*arguments: Any, **options: Any) -> FakeStack:
        created.append(FakeStack(*arguments, **options))
        return created[-1]

    monkeypatch.setattr(up, "LocalStack", make_stack)
    return created


def test_a_stack_runs_until_it_is_interrupted(stacks: list[FakeStack], tmp_path: Path) -> None:
    """Its addresses can be copied line by line, and what happens to its processes is shown."""
    result = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path), "--workers", "2", "--port", "0"])
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert stacks[0].calls == ["start", "watch", "stop"]
    assert (stacks[0].options.workers, stacks[0].options.port) == (2, 0)
    assert "API            http://127.0.0.1:8000" in lines
    assert f"admin key      {tmp_path / 'admin-key'}" in lines
    assert any(line.startswith("Flower         http://127.0.0.1:5555 (user and password") for line in lines)
    assert "worker ended with 1" in lines


def test_its_facts_are_one_line_of_json(stacks: list[FakeStack], tmp_path: Path) -> None:
    """On standard output alone; without Flower there is no line about it."""
    result = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path), "--json", "--no-flower"])
    assert json.loads(result.stdout) == stacks[0].facts
    assert "admin key" in result.stderr
    assert "Flower" not in result.stderr


def test_a_stack_that_does_not_start_is_stopped(
    stacks: list[FakeStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is a sentence, with exit code 1."""
    monkeypatch.setattr(FakeStack, "start_error", PortInUse("port 8000 is in use"))
    result = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path)])
    assert (result.exit_code, stacks[0].calls) == (1, ["start", "stop"])
    assert "port 8000 is in use" in result.stderr
