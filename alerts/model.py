"""What an alert is: its rule, what the person who gets it needs to know, and a case that fires and one that does not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

RUNBOOKS = "https://gleaner.example/docs/runbooks"
GRAFANA = "https://grafana.example/d"
"""Where a deployment serves them; the generator takes others (`python -m alerts --runbooks URL --grafana URL`)."""

Severity = Literal["page", "ticket"]


@dataclass(frozen=True, slots=True)
class Case:
    """A promtool case.

    Attributes:
        series: input series to values in promtool's notation, one value a step.
        at: when the rule is looked at.
        labels: labels of the alert that fires, beside those of the rule.
        value: how `{{ $value | humanize... }}` reads then.
        step: minutes between two values and two evaluations; more than one keeps tests of long spans fast.
    """

    series: Mapping[str, str]
    at: str
    labels: Mapping[str, str] = field(default_factory=dict)
    value: str = ""
    step: int = 1


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    Attributes:
        after: how long the condition must hold.
        team: who is asked: platform, ml or integration.
        board: the dashboard (without its prefix) that shows it.
        of_store: a consequence of a dead store, silenced while GleanerRedisDown fires.
        more: labels beyond severity, team and level.
        also: further cases, and whether it fires in them.
    """

    name: str
    expr: str
    after: str
    severity: Severity
    team: str
    summary: str
    description: str
    board: str
    fires: Case
    quiet: Case
    of_store: bool = False
    level: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    also: Sequence[tuple[Case, bool]] = ()

    @property
    def cases(self) -> Sequence[tuple[Case, bool]]:
        """What promtool tries, and whether it fires."""
        return ((self.fires, True), (self.quiet, False), *self.also)

    def labels(self) -> dict[str, str]:
        """What Alertmanager routes and inhibits by."""
        level = self.level or ("L2" if self.severity == "page" else "L1")
        labels = {"severity": self.severity, "level": level, **self.more}
        if self.team:
            labels["team"] = self.team
        return {**labels, "depends": "store"} if self.of_store else labels

    def annotations(self) -> dict[str, str]:
        """What a person reads."""
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{RUNBOOKS}/{self.name}.md",
            "dashboard_url": f"{GRAFANA}/gleaner-{self.board}",
        }

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": one_line(self.expr),
            "for": self.after,
            "labels": self.labels(),
            "annotations": self.annotations(),
        }

    def told(self, case: Case) -> dict[str, str]:
        """The annotations with the case's labels and value filled in, as promtool expects them."""

        def fill(text: str) -> str:
            text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: case.labels.get(m[1], ""), text)
            return re.sub(r"\{\{ \$value[^}]*\}\}", case.value, text)

        return {name: fill(text) for name, text in self.annotations().items()}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together: recordings (name to expression) first, then alerts."""

    name: str
    alerts: Sequence[Alert]
    recordings: Mapping[str, str] = field(default_factory=dict)

    def rules(self) -> list[dict[str, Any]]:
        """As Prometheus reads them."""
        recorded = [{"record": name, "expr": one_line(expr)} for name, expr in self.recordings.items()]
        return [*recorded, *(alert.rule() for alert in self.alerts)]


def one_line(expr: str) -> str:
    """An expression without the line breaks it is written with here."""
    return re.sub(r"\s+", " ", expr).strip()
