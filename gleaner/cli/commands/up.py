"""`gleaner up`: run the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

import threading
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory
from gleaner.cli.printing import print_json
from gleaner.cli.stack_console import Narrator, stopped_by_signals
from gleaner.localstack import Interrupted, LocalStack, StackOptions


def run_stack(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the gateway; 0 for a free one.")] = 8000,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
    redis_url: Annotated[
        str | None,
        typer.Option(
            help="The ledger's database on an existing Redis or Valkey, as redis://HOST:6379/1; the broker uses "
            "another database of it. [default: an embedded server]"
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of worker processes.")] = 1,
    no_flower: Annotated[
        bool, typer.Option("--no-flower", help="Do not start Flower, which shows the queues.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print stack.json in one line once everything is ready, the rest to stderr."),
    ] = False,
) -> None:
    """Run gateway, workers, courier, Flower and an embedded server until Ctrl-C or SIGTERM.

    All its files are in --data-dir: the admin key, the keys file, stack.json, data and logs.
    """
    console = Console(stderr=as_json)
    narrator = Narrator(console)
    stop_requested = threading.Event()
    options = StackOptions(data_dir=data_dir, port=port, redis_url=redis_url, workers=workers, flower=not no_flower)
    stack = LocalStack(options, on_event=narrator.show_event, stop_requested=stop_requested)
    with stopped_by_signals(stack, stop_requested, console):
        try:
            with narrator.show_spinner("starting"):
                stack.start()
            if as_json:
                print_json(stack.facts)
            console.print(_format_table(stack), soft_wrap=True)
            console.print("Ctrl-C stops everything in order.")
            stack.watch_children()
        except Interrupted:
            return
        finally:
            with narrator.show_spinner("stopping: finishing running work (Ctrl-C again to stop without)"):
                stack.stop()
    console.print("stopped")


def _format_table(stack: LocalStack) -> Text:
    """Return two columns without line wraps, so that every line can be copied."""
    url = stack.facts["gateway_url"]
    rows = [("console", f"{url}/ (sign in with the admin key)"), ("API", url), ("API reference", f"{url}/docs")]
    if stack.facts["flower_url"]:
        where = f"user and password are in {stack.directory.stack_file}"
        rows.append(("Flower", f"{stack.facts['flower_url']} ({where})"))
    rows += [("admin key", str(stack.directory.admin_key)), ("logs", str(stack.directory.logs))]
    return Text("\n").join(Text.assemble((f"{name:<15}", "bold"), value) for name, value in rows)
