"""The `gleaner` command: every subcommand, global options, and what becomes of exceptions."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from gleaner.cli import exit_codes
from gleaner.cli.commands import (
    demo,
    doctor,
    evaluate,
    extract,
    jobs,
    keys,
    model,
    redact,
    service,
    top,
    up,
    webhooks,
)
from gleaner.cli.connection import Globals, Key, Url
from gleaner.cli.escaping import plain
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.journal import JournalError
from gleaner.cli.files.rows import InputError
from gleaner.errors import GleanerError
from gleaner.localstack.errors import StackError


class _Commands(TyperGroup):
    """Ends a command that raised with a sentence and a code instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except GleanerError as failure:
            raise _ended(exit_codes.explain(failure), exit_codes.GATEWAY) from failure
        except (CommandError, InputError, JournalError) as failure:
            raise _ended(str(failure), exit_codes.USAGE) from failure
        except StackError as failure:
            raise _ended(str(failure), exit_codes.STACK_FAILED) from failure
        except OSError as failure:
            if failure.errno == errno.EPIPE:  # whoever read our output has enough; typer ends quietly
                raise
            where = "" if failure.filename is None else f"{os.fsdecode(failure.filename)}: "
            raise _ended(f"{where}{failure.strerror or failure}", exit_codes.USAGE) from failure
        except KeyboardInterrupt:
            raise typer.Exit(exit_codes.INTERRUPTED) from None


def prepare_streams() -> None:
    """Have standard output and error take every text: what their encoding lacks is printed as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _ended(sentence: str, code: int) -> typer.Exit:
    # As Text, escaped: a path or an answer may hold what looks like markup, or steers a terminal.
    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), plain(sentence, keep="\n")), soft_wrap=True)
    return typer.Exit(code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def gleaner(context: typer.Context, url: Url = None, key: Key = None) -> None:
    """GLiNER entity extraction as an asynchronous batch service.

    Exit codes: 0 all is well, 1 documents or the stack failed, 2 usage, 3 no gateway or refused, 130 interrupted.
    """
    context.obj = Globals(url, key)


app.command()(up.up)
app.command()(demo.demo)
app.command()(extract.extract)
app.command()(redact.redact)
app.command()(evaluate.evaluate)
app.command()(evaluate.suggest_thresholds)
app.command()(jobs.jobs)
app.command()(jobs.watch)
app.command()(jobs.results)
app.command()(jobs.cancel)
app.command()(jobs.retry)
app.command()(jobs.purge)
app.command()(service.models)
app.command()(service.limits)
app.command()(top.top)
app.command()(doctor.doctor)
app.add_typer(keys.app, name="keys")
app.add_typer(model.app, name="model")
app.add_typer(webhooks.app, name="webhooks")
