"""The `gleaner` command: subcommands, global options, and messages and exit codes for exceptions."""

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
    label_sets,
    model,
    preflight,
    redact,
    service,
    top,
    up,
    webhooks,
)
from gleaner.cli.connection import Gateway, Key, Url
from gleaner.cli.escaping import escape_text
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.journal import JournalError
from gleaner.cli.files.rows import InputError
from gleaner.errors import ApiError, AuthenticationError, GleanerError, PermissionDenied, TransportError
from gleaner.localstack.errors import StackError


class _Commands(TyperGroup):
    """Converts an exception of a command to a sentence and an exit code instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except GleanerError as failure:
            raise _make_exit(_explain_error(failure), exit_codes.GATEWAY) from failure
        except (CommandError, InputError, JournalError) as failure:
            raise _make_exit(str(failure), exit_codes.USAGE) from failure
        except StackError as failure:
            raise _make_exit(str(failure), exit_codes.STACK_FAILED) from failure
        except OSError as failure:
            if failure.errno == errno.EPIPE:  # the reader of the output closed it; typer ends quietly
                raise
            where = "" if failure.filename is None else f"{os.fsdecode(failure.filename)}: "
            raise _make_exit(f"{where}{failure.strerror or failure}", exit_codes.USAGE) from failure
        except KeyboardInterrupt:
            raise typer.Exit(exit_codes.INTERRUPTED) from None


def prepare_streams() -> None:
    """Make standard output and error accept every text: characters outside their encoding become escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _explain_error(failure: GleanerError) -> str:
    """Return a sentence about a failed request and, if known, how to fix it."""
    if isinstance(failure, AuthenticationError):
        return f"the gateway rejected the key; check --key or GLEANER_API_KEY ({failure.code})"
    if isinstance(failure, PermissionDenied):
        return f"the key's role does not allow this; use another key: {failure.detail}"
    if isinstance(failure, TransportError):
        return f"the gateway cannot be reached: {failure} (is it running? check --url)"
    if isinstance(failure, ApiError) and failure.retry_after is not None:
        return f"{failure}\n  try again in {failure.retry_after:.0f} s"
    return str(failure)


def _make_exit(sentence: str, code: int) -> typer.Exit:
    # As Text, escaped: a path or a response may contain markup of Rich or control characters of the terminal.
    Console(stderr=True).print(
        Text.assemble(("error: ", "bold red"), escape_text(sentence, keep="\n")), soft_wrap=True
    )
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

    Exit codes: 0 success, 1 documents or the stack failed, 2 usage, 3 gateway unreachable or refused, 130
    interrupted.
    """
    context.obj = Gateway(url, key)


app.command("up")(up.run_stack)
app.command("demo")(demo.run_demo)
app.command("extract")(extract.extract_files)
app.command("redact")(redact.redact_files)
app.command("evaluate")(evaluate.evaluate_model)
app.command("suggest-thresholds")(evaluate.suggest_thresholds)
app.command("jobs")(jobs.list_jobs)
app.command("watch")(jobs.watch_job)
app.command("results")(jobs.print_results)
app.command("cancel")(jobs.cancel_job)
app.command("retry")(jobs.retry_job)
app.command("purge")(jobs.purge_job)
app.command("models")(service.list_models)
app.command("limits")(service.show_limits)
app.command("top")(top.show_metrics)
app.command("doctor")(doctor.run_doctor)
app.command("preflight")(preflight.check_cluster)
app.add_typer(keys.app, name="keys")
app.add_typer(model.app, name="model")
app.add_typer(label_sets.app, name="label-sets")
app.add_typer(webhooks.app, name="webhooks")
