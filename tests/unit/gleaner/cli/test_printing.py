"""Tables and findings for people, JSON for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.printing import (
    Finding,
    format_time,
    parse_duration,
    print_findings,
    print_items,
    print_json,
    print_line,
    print_result,
    print_table,
)

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Item:
    """Something to print."""

    name: str
    at: datetime | None = None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Item("a", NOON), {"name": "a", "at": "2026-01-02T12:00:00+00:00"}),
        ({"a": {1: timedelta(seconds=3)}}, {"a": {"1": "0:00:03"}}),
        (None, None),
    ],
)
def test_any_value_is_one_line_of_json(capsys: pytest.CaptureFixture[str], value: Any, expected: Any) -> None:
    """Dataclasses as objects, times in ISO 8601, other values as text."""
    print_json(value)
    assert json.loads(capsys.readouterr().out) == expected
    print_json(value, to_stderr=True)
    assert json.loads(capsys.readouterr().err) == expected


@pytest.mark.parametrize("as_json", [True, False])
def test_a_result_is_a_sentence_or_json(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """Never both."""
    print_result({"id": 1}, "it is done", as_json)
    assert capsys.readouterr().out == ('{"id": 1}\n' if as_json else "it is done\n")


def test_items_are_rows_with_empty_cells_for_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Zero is a value; markup and control characters of others are text."""
    items = [Item("[red]a\x1b", NOON), Item("b")]
    print_items(items, {"name": lambda item: item.name, "at": lambda item: item.at and 0}, as_json=False)
    header, first, second = capsys.readouterr().out.splitlines()
    assert (header.split(), first.split(), second.split()) == (["name", "at"], ["[red]a\\x1b", "0"], ["b"])
    print_items(items, {}, as_json=True)
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == ["[red]a\x1b", "b"]


def test_a_table_without_rows_has_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """So that an empty list is seen to be one."""
    print_table(("job", "status"), ())
    assert capsys.readouterr().out.split() == ["job", "status"]


def test_lines_keep_their_breaks_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """A text of the service moves no cursor."""
    print_line("a\nb\x1b[2J\r", to_stderr=True)
    assert capsys.readouterr().err == "a\nb\\x1b[2J\\r\n"


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("grades", "bad"), [(["good", "warning", "needed"], False), (["bad", "good"], True), ([], False)]
)
def test_a_bad_finding_is_reported(
    capsys: pytest.CaptureFixture[str], grades: list[Any], bad: bool, as_json: bool
) -> None:
    """All findings are printed, with the remedies of those that have one."""
    findings = [Finding(grade, f"it is {grade}", "do it" if grade == "bad" else "") for grade in grades]
    assert print_findings(iter(findings), as_json) is bad
    lines = capsys.readouterr().out.splitlines()
    if as_json:
        assert [Finding(**json.loads(line)) for line in lines] == findings
    else:
        assert [line[5:] for line in lines if "->" not in line] == [finding.what for finding in findings]
        assert lines.count("     -> do it") == bad


def test_a_moment_is_shown_in_local_time() -> None:
    """None stays None."""
    shown = format_time(NOON)
    assert shown is not None
    assert datetime.strptime(shown, "%Y-%m-%d %H:%M:%S").astimezone() == NOON
    assert format_time(None) is None


@given(st.integers(0, 10_000), st.sampled_from("dhms"))
def test_durations(number: int, unit: str) -> None:
    """A whole number and a unit."""
    seconds = {"d": 86_400, "h": 3600, "m": 60, "s": 1}[unit]
    assert parse_duration(f"{number}{unit}") == timedelta(seconds=number * seconds)


@pytest.mark.parametrize("text", ["", "5", "d", "1.5h", "-1d", "1d2h", "1 d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With examples."""
    with pytest.raises(CommandError, match="write 90d, 12h, 30m or 45s"):
        parse_duration(text)
