"""Findings of a check, printed for people or as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

from gleaner.cli.escaping import escape_text
from gleaner.cli.output import print_json

_SIGNS = {
    "good": ("ok  ", "green"),
    "needed": ("need", "cyan"),
    "warning": ("warn", "yellow"),
    "bad": ("BAD ", "bold red"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check; `remedy` says how to fix it, if it is a problem."""

    grade: Literal["good", "needed", "warning", "bad"]
    what: str
    remedy: str = ""


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
