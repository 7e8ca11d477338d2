"""A local stack on a terminal."""

from __future__ import annotations

import io
import os
import signal
import threading
from typing import cast

import pytest
from rich.console import Console

from gleaner.cli.stack_console import Narrator, stopped_by_signals
from gleaner.localstack import Event, LocalStack


def make_console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    """Return a console and what is printed on it."""
    output = io.StringIO()
    return Console(file=output, force_terminal=terminal, width=100), output


def test_events_are_lines_and_starting_is_a_spinner() -> None:
    """The spinner shows all that happens while the stack starts."""
    console, output = make_console()
    narrator = Narrator(console)
    with narrator.show_spinner("starting all"):
        for kind, name in (("starting", "worker"), ("starting", "gateway"), ("ready", "worker"), ("stopping", "x")):
            narrator.show_event(Event(kind, name, "unseen"))  # type: ignore[arg-type]
    narrator.show_event(Event("restarted", "worker", "died\x1b"))
    assert output.getvalue().splitlines() == ["starting all", "worker died\\x1b"]


def test_the_spinner_names_those_that_are_not_ready() -> None:
    """On a terminal, so that one sees what takes long."""
    console, output = make_console(terminal=True)
    narrator = Narrator(console)
    narrator.show_event(Event("starting", "gateway", ""))
    narrator.show_event(Event("starting", "worker", ""))
    narrator.show_event(Event("ready", "gateway", ""))
    assert narrator._status.status == "starting: worker"
    with narrator.show_spinner("stopping"):
        assert narrator._status.status == "stopping"
    assert "stopping" in output.getvalue()


class FakeStack:
    """Counts how often it is killed."""

    killed = 0

    def kill(self) -> None:
        """Count."""
        self.killed += 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_and_the_second_kills(number: signal.Signals) -> None:
    """The handlers of before are there again afterwards."""
    before = signal.getsignal(number)
    stack, stop_requested, (console, output) = FakeStack(), threading.Event(), make_console()
    with stopped_by_signals(cast("LocalStack", stack), stop_requested, console):
        os.kill(os.getpid(), number)
        assert (stop_requested.is_set(), stack.killed) == (True, 0)
        os.kill(os.getpid(), number)
        assert stack.killed == 1
    assert "without finishing running work" in output.getvalue()
    assert signal.getsignal(number) == before
