"""`gleaner up`: the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

import threading
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory
from gleaner.cli.output import print_json
from gleaner.cli.stack_console import Narrator, stopped_by_signals
from gleaner.localstack import Interrupted, LocalStack, StackOptions


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The gateway's port; 0 takes a free one.")] = 8000,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
    redis_url: Annotated[
        str | None,
        typer.Option(
            help="The ledger's database on a Redis or Valkey that is there, as redis://HOST:6379/1; the broker "
            "gets another database of it. [default: an embedded server]"
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="Leave queue inspection out.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print stack.json in one line once all is ready, all else to stderr."),
    ] = False,
) -> None:
    """Run gateway, workers, courier, Flower and an embedded server until Ctrl-C or SIGTERM.

    Everything it keeps is below --data-dir: the admin key, the keys file, stack.json, data and logs.
    """
    console = Console(stderr=as_json)
    narrator = Narrator(console)
    stop_requested = threading.Event()
    options = StackOptions(data_dir=data_dir, port=port, redis_url=redis_url, workers=workers, flower=not no_flower)
    stack = LocalStack(options, on_event=narrator.tell, stop_requested=stop_requested)
    with stopped_by_signals(stack, stop_requested, console):
        try:
            with narrator.spinning("starting"):
                stack.start()
            if as_json:
                print_json(stack.facts)
            console.print(_table(stack), soft_wrap=True)
            console.print("Ctrl-C stops everything in order.")
            stack.watch_children()
        except Interrupted:
            return
        finally:
            with narrator.spinning("stopping: finishing what runs (Ctrl-C again to stop at once)"):
                stack.stop()
    console.print("stopped")


def _table(stack: LocalStack) -> Text:
    """Two columns, never folded, so that every line can be copied."""
    url = stack.facts["gateway_url"]
    rows = [("console", f"{url}/ (sign in with the admin key)"), ("API", url), ("API reference", f"{url}/docs")]
    if stack.facts["flower_url"]:
        where = f"user and password are in {stack.directory.stack_file}"
        rows.append(("Flower", f"{stack.facts['flower_url']} ({where})"))
    rows += [("admin key", str(stack.directory.admin_key)), ("logs", str(stack.directory.logs))]
    return Text("\n").join(Text.assemble((f"{name:<15}", "bold"), value) for name, value in rows)
