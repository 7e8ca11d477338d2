"""`gleaner demo`, with a stack that starts nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gleaner.cli.app import app
from gleaner.cli.commands import demo
from gleaner.localstack import StackOptions


class FakeStack:
    """Records where its files are, and its calls."""

    def __init__(self, options: StackOptions, **_more: Any) -> None:
        self.options, self.calls = options, list[str]()
        self.facts, self.key = {"gateway_url": "http://127.0.0.1:8000"}, "key"

    def start(self) -> None:
        """Start."""
        assert self.options.data_dir.is_dir()
        self.calls.append("start")

    def stop(self) -> None:
        """Stop."""
        self.calls.append("stop")


@pytest.fixture
def run_demo(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[FakeStack, int]]:
    """Return a function that runs the command with samples that do something."""
    stacks: list[FakeStack] = []

    def run(samples: Callable[[], bool], *options: str) -> tuple[FakeStack, int]:
        def make_stack(*arguments: Any, **more: Any) -> FakeStack:
            stacks.append(FakeStack(*arguments, **more))
            return stacks[-1]

        monkeypatch.setattr(demo, "LocalStack", make_stack)
        monkeypatch.setattr("gleaner.demo.run_samples", lambda _client, _console: samples())
        result = CliRunner().invoke(app, ["demo", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return stacks[-1], result.exit_code

    return run


@pytest.mark.parametrize(("succeeded", "code"), [(True, 0), (False, 1)])
def test_samples_that_fail_fail_the_command(
    run_demo: Callable[..., tuple[FakeStack, int]], succeeded: bool, code: int
) -> None:
    """The stack is stopped and its folder is gone either way."""
    stack, exit_code = run_demo(lambda: succeeded)
    assert (stack.calls, exit_code) == (["start", "stop"], code)
    assert not stack.options.data_dir.exists()


def test_a_folder_that_was_named_is_kept(run_demo: Callable[..., tuple[FakeStack, int]], tmp_path: Path) -> None:
    """With keys, data and logs."""
    stack, _ = run_demo(lambda: True, "--data-dir", str(tmp_path))
    assert stack.options.data_dir == tmp_path
    assert tmp_path.is_dir()


def test_termination_stops_the_stack_like_an_interrupt(run_demo: Callable[..., tuple[FakeStack, int]]) -> None:
    """The handler of before is there again afterwards."""
    before = signal.getsignal(signal.SIGTERM)

    def terminate() -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    stack, exit_code = run_demo(terminate)
    assert (stack.calls, exit_code) == (["start", "stop"], 130)
    assert signal.getsignal(signal.SIGTERM) == before
