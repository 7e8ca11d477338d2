"""`gleaner demo`: start the service, run the samples, stop it."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gleaner import demo as show
from gleaner.cli.exit_codes import DOCUMENTS_FAILED
from gleaner.cli.stack_console import Narrator
from gleaner.client import Client
from gleaner.localstack import LocalStack, StackOptions


def run_demo(
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of keys, data and logs. [default: a temporary folder]")
    ] = None,
) -> None:
    """Run the whole service on sample documents: takes about half a minute, and stops everything at the end."""
    console = Console()
    narrator = Narrator(console)
    with contextlib.ExitStack() as stack:
        # SIGTERM ends the demo like Ctrl-C, so that the stack is stopped either way.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        directory = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gleaner-demo-")))
        local = LocalStack(StackOptions(data_dir=directory, port=0), on_event=narrator.show_event)
        with narrator.show_spinner("starting server, gateway, worker, courier and Flower"):
            local.start()
        try:
            console.print(f"the service is ready at {local.facts['gateway_url']}", highlight=False)
            with Client(local.facts["gateway_url"], local.key) as client:
                succeeded = show.run_samples(client, console)
        finally:
            with narrator.show_spinner("stopping"):
                local.stop()
    if not succeeded:
        raise typer.Exit(DOCUMENTS_FAILED)
    console.print("stopped; `gleaner up` keeps it running, with a console in the browser", highlight=False)
