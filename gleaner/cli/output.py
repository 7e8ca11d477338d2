"""Values -> what commands print: a table for people, with --json one object per line; and text -> durations.

What files and the service say is text: never markup of Rich, never bytes that steer a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gleaner.cli.escaping import dump_json, plain
from gleaner.cli.exit_codes import CommandError

AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object per line, instead of text.")]


def print_json(found: Any, *, to_stderr: bool = False) -> None:
    """Print a value, a dataclass perhaps, as one line of JSON; moments in ISO 8601."""
    value = asdict(found) if is_dataclass(found) and not isinstance(found, type) else found
    typer.echo(dump_json(value, _plain), err=to_stderr)


def print_line(text: str, *, to_stderr: bool = False) -> None:
    """Print a text, its line breaks as such, with nothing in it that steers the terminal."""
    typer.echo(plain(text, keep="\n"), err=to_stderr)


def say(console: Console, text: str) -> None:
    """Print a text on a console: without markup, highlighting and wrapping, and with nothing that steers it."""
    console.print(Text(plain(text, keep="\n")), soft_wrap=True)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print rows below the names of their columns."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console().print(table)


def local(moment: datetime | None) -> str:
    """Return a moment on this machine's clock; nothing where there is none."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def seconds(value: float | None) -> str:
    """Return a duration in words; nothing where it is not known."""
    return "" if value is None else f"{value:.0f} s"


def duration(text: str) -> timedelta:
    """Return the duration that 90d, 12h, 30m or 45s stands for.

    Raises:
        CommandError: it is none of these.
    """
    match = re.fullmatch(r"(\d+)([dhms])", text)
    if match is None:
        raise CommandError(f"{text!r} is no duration; write it as 90d, 12h, 30m or 45s")
    unit = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
