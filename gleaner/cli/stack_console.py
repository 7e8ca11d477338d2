"""A local stack on a terminal: what it tells while it starts, and signals that stop it in order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from rich.console import Console
from rich.text import Text

from gleaner.cli.escaping import plain
from gleaner.localstack import Event, LocalStack

_STYLES = {"ended": "yellow", "given_up": "red", "restarted": "yellow"}


class Narrator:
    """Turns a stack's events into a spinner while it starts, and lines for what matters later."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._waiting_for: list[str] = []
        self._status = console.status("starting")

    @contextlib.contextmanager
    def spinning(self, text: str) -> Iterator[None]:
        """Show the spinner; without a terminal, one line."""
        self._status.update(text)
        if not self._console.is_terminal:
            self._console.print(text)
            yield
            return
        with self._status:
            yield

    def tell(self, event: Event) -> None:
        """Take an event."""
        if event.kind == "stopping":
            return
        if event.kind in ("starting", "ready"):
            if event.kind == "starting":
                self._waiting_for.append(event.name)
            else:
                self._waiting_for.remove(event.name)
            self._status.update(f"starting: {', '.join(self._waiting_for)}")
            return
        line = Text.assemble((event.name, "bold"), " ", plain(event.text))
        line.stylize(_STYLES.get(event.kind, ""))
        self._console.print(line, soft_wrap=True)


@contextlib.contextmanager
def stopped_by_signals(stack: LocalStack, stop_requested: threading.Event, console: Console) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP ask the stack to stop; a second one does not wait for what runs."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if stop_requested.is_set():
            console.print("stopping at once")
            stack.kill()
        stop_requested.set()

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
