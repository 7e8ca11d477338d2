"""`gleaner demo`: start everything, show it at work, stop everything."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from gleaner import demo as show
from gleaner.cli.exit_codes import DOCUMENTS_FAILED
from gleaner.cli.stack_console import Narrator
from gleaner.client import Client
from gleaner.localstack import LocalStack, StackOptions


def demo(
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep keys, data and logs here. [default: a directory that is removed]")
    ] = None,
) -> None:
    """See the whole service at work on sample documents: about half a minute, nothing is left running."""
    console = Console()
    narrator = Narrator(console)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_terminated_like_interrupted())
        directory = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gleaner-demo-")))
        local = LocalStack(StackOptions(data_dir=directory, port=0), on_event=narrator.tell)
        with narrator.spinning("starting server, gateway, worker, courier and Flower"):
            local.start()
        try:
            console.print(f"everything is up at {local.facts['gateway_url']}", highlight=False)
            with Client(local.facts["gateway_url"], local.key) as client:
                succeeded = show.run_samples(client, console)
        finally:
            with narrator.spinning("stopping"):
                local.stop()
    if not succeeded:
        raise typer.Exit(DOCUMENTS_FAILED)
    console.print("stopped; `gleaner up` starts it to stay, with a console in the browser", highlight=False)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C, so that the stack is stopped either way."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
