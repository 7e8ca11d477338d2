"""Print values as tables and findings for people, or as JSON with one object per line; parse durations.

Text from files and from the service is escaped: it is never interpreted as Rich markup or terminal control.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gleaner.cli.escaping import dump_json, escape_text
from gleaner.cli.exit_codes import CommandError

_SIGNS = {
    "good": ("ok  ", "green"),
    "needed": ("need", "cyan"),
    "warning": ("warn", "yellow"),
    "bad": ("BAD ", "bold red"),
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line, instead of text.")]


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check; `remedy` says how to fix it, if it is a problem."""

    grade: Literal["good", "needed", "warning", "bad"]
    what: str
    remedy: str = ""


def print_json(value: Any, *, to_stderr: bool = False) -> None:
    """Print a value, which may be a dataclass, as one line of JSON; times in ISO 8601."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    typer.echo(dump_json(plain, _to_json_value), err=to_stderr)


def print_result(value: Any, text: str, as_json: bool) -> None:
    """Print a value as JSON, or a text about it."""
    if as_json:
        print_json(value)
    else:
        print_line(text)


def print_items(items: Iterable[Any], columns: Mapping[str, Callable[[Any], object]], as_json: bool) -> None:
    """Print items as JSON, or as a table with a function for each column; None is an empty cell."""
    if as_json:
        for item in items:
            print_json(item)
    else:
        print_table(columns, ([read_cell(item) for read_cell in columns.values()] for item in items))


def print_line(text: str, *, to_stderr: bool = False) -> None:
    """Print a text with line breaks and without control characters."""
    typer.echo(escape_text(text, keep="\n"), err=to_stderr)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print rows below the names of their columns; None is an empty cell."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text("" if cell is None else escape_text(cell)) for cell in row))
    Console().print(table)


def print_findings(findings: Iterable[Finding], as_json: bool) -> bool:
    """Print each finding as it comes; return True if one is bad."""
    console, bad = Console(), False
    for finding in findings:
        bad = bad or finding.grade == "bad"
        if as_json:
            print_json(finding)
            continue
        sign, style = _SIGNS[finding.grade]
        console.print(Text.assemble((sign, style), " ", escape_text(finding.what)), soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"     -> {escape_text(finding.remedy)}"), soft_wrap=True)
    return bad


def format_time(moment: datetime | None) -> str | None:
    """Return the moment in local time, or None for None."""
    return None if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


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
