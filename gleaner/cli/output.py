"""Print values as tables for people, or as JSON with one object per line; parse durations.

Text from files and from the service is escaped: it is never interpreted as Rich markup or terminal control.
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

from gleaner.cli.escaping import dump_json, escape_text
from gleaner.cli.exit_codes import CommandError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line, instead of text.")]


def print_json(value: Any, *, to_stderr: bool = False) -> None:
    """Print a value, which may be a dataclass, as one line of JSON; times in ISO 8601."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    typer.echo(dump_json(plain, _to_json_value), err=to_stderr)


def print_line(text: str, *, to_stderr: bool = False) -> None:
    """Print a text with line breaks and without control characters."""
    typer.echo(escape_text(text, keep="\n"), err=to_stderr)


def print_to(console: Console, text: str) -> None:
    """Print a text on a console, without markup, highlighting, wrapping and control characters."""
    console.print(Text(escape_text(text, keep="\n")), soft_wrap=True)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print rows below the names of their columns."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text(escape_text(cell)) for cell in row))
    Console().print(table)


def format_time(moment: datetime | None) -> str:
    """Return the moment in local time, or an empty string for None."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_seconds(value: float | None) -> str:
    """Return a duration with its unit, or an empty string for None."""
    return "" if value is None else f"{value:.0f} s"


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as 90d, 12h, 30m or 45s.

    Raises:
        CommandError: the text is not a duration.
    """
    match = re.fullmatch(r"(\d+)([dhms])", text)
    if match is None:
        raise CommandError(f"{text!r} is not a duration; write 90d, 12h, 30m or 45s")
    unit = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def _to_json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
