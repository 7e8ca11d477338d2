"""A local stack on a terminal: its events are shown, and signals stop it in order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from rich.console import Console
from rich.text import Text

from gleaner.cli.escaping import escape_text
from gleaner.localstack import Event, LocalStack

_STYLES = {"ended": "yellow", "given_up": "red", "restarted": "yellow"}


class Narrator:
    """Shows a stack's events: as a spinner while it starts, then as lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._waiting_for: list[str] = []
        self._status = console.status("starting")

    @contextlib.contextmanager
    def show_spinner(self, text: str) -> Iterator[None]:
        """Show the spinner while the block runs; without a terminal, print one line."""
        self._status.update(text)
        if not self._console.is_terminal:
            self._console.print(text)
            yield
            return
        with self._status:
            yield

    def show_event(self, event: Event) -> None:
        """Show an event."""
        if event.kind == "stopping":
            return
        if event.kind in ("starting", "ready"):
            if event.kind == "starting":
                self._waiting_for.append(event.name)
            else:
                self._waiting_for.remove(event.name)
            self._status.update(f"starting: {', '.join(self._waiting_for)}")
            return
        line = Text.assemble((event.name, "bold"), " ", escape_text(event.text))
        line.stylize(_STYLES.get(event.kind, ""))
        self._console.print(line, soft_wrap=True)


@contextlib.contextmanager
def stopped_by_signals(stack: LocalStack, stop_requested: threading.Event, console: Console) -> Iterator[None]:
    """Make SIGINT, SIGTERM and SIGHUP request the stack's stop; a second signal kills it."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if stop_requested.is_set():
            console.print("stopping without finishing running work")
            stack.kill()
        stop_requested.set()

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
