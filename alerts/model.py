"""An alert: its rule, the information for its recipient, a case in which it fires and one in which it does not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

RUNBOOKS = "https://gleaner.example/docs/runbooks"
GRAFANA = "https://grafana.example/d"
"""Default base URLs; the generator takes others (`python -m alerts --runbooks URL --grafana URL`)."""

CELL = "cluster, namespace"
"""Labels of one installation; those that a Prometheus does not set are empty and do no harm. Every rule is by them, so
that installations in one Prometheus do not hide each other."""

Severity = Literal["page", "ticket"]


@dataclass(frozen=True, slots=True)
class Case:
    """A promtool case.

    Attributes:
        series: input series -> values in promtool's notation, one per step.
        at: time at which the rule is evaluated.
        labels: labels of the firing alert, in addition to those of the rule.
        value: text of `{{ $value | humanize... }}` at that time.
        step: minutes between values and between evaluations; a large step keeps tests of long periods fast.
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
        after: time for which the condition must hold.
        team: the responsible team: platform, ml or integration.
        board: the dashboard (without its prefix) that shows it.
        of_store: a consequence of a Redis outage, silenced while GleanerRedisDown fires.
        more: labels in addition to severity, team and level.
        also: (further case, True if the alert fires in it).
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
    more: Mapping[str, str] = field(default_factory=dict)
    also: Sequence[tuple[Case, bool]] = ()

    @property
    def cases(self) -> Sequence[tuple[Case, bool]]:
        """Cases for promtool, each with True if the alert fires in it."""
        return ((self.fires, True), (self.quiet, False), *self.also)

    def labels(self) -> dict[str, str]:
        """Return the labels by which Alertmanager routes and inhibits."""
        level = "L2" if self.severity == "page" else "L1"
        labels = {"severity": self.severity, "level": level, **self.more, "team": self.team}
        return {**labels, "depends": "store"} if self.of_store else labels

    def annotations(self) -> dict[str, str]:
        """Return the annotations for the recipient."""
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{RUNBOOKS}/{self.name}.md",
            "dashboard_url": f"{GRAFANA}/gleaner-{self.board}",
        }

    def to_rule(self) -> dict[str, Any]:
        """Return the rule in Prometheus' format."""
        return {
            "alert": self.name,
            "expr": join_lines(self.expr),
            "for": self.after,
            "labels": self.labels(),
            "annotations": self.annotations(),
        }

    def expected_annotations(self, case: Case) -> dict[str, str]:
        """Return the annotations with the case's labels and value filled in, as promtool expects them."""

        def fill(text: str) -> str:
            text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: case.labels.get(m[1], ""), text)
            return re.sub(r"\{\{ \$value[^}]*\}\}", case.value, text)

        return {name: fill(text) for name, text in self.annotations().items()}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together: recordings (name -> expression) first, then alerts.

    Attributes:
        reads: groups whose recordings the alerts read, without the prefix `gleaner-`.
    """

    name: str
    alerts: Sequence[Alert]
    recordings: Mapping[str, str] = field(default_factory=dict)
    reads: Sequence[str] = ()

    def to_rules(self) -> list[dict[str, Any]]:
        """Return the rules in Prometheus' format."""
        recorded = [{"record": name, "expr": join_lines(expr)} for name, expr in self.recordings.items()]
        return [*recorded, *(alert.to_rule() for alert in self.alerts)]


def add_matchers(expr: str, matchers: str) -> str:
    """Return an expression with label matchers added to every selector of a metric of Gleaner.

    The chart does the same with the namespace of a release (templates/monitoring/_rules.tpl).
    """
    selector = r"\b((?:gleaner[_:]|process_)[a-z0-9_:]+)(\{?)"
    return re.sub(selector, lambda m: f"{m[1]}{{{matchers}{',' if m[2] else '}'}", expr)


def move_namespace(expr: str) -> str:
    """Return an expression on another exporter's metric with the object's namespace in the label `namespace`.

    Where Prometheus does not honour the labels of an exporter, the object's namespace is in `exported_namespace`.
    """
    return f'label_replace({expr}, "namespace", "$1", "exported_namespace", "(.+)")'


def in_cells(expr: str) -> str:
    """Return an expression on another exporter's metrics, only in namespaces with an installation of Gleaner."""
    return f"({expr}) and on ({CELL}) present_over_time(gleaner_store_up[1h])"


def count_as_absent(metric: str) -> str:
    """Return an expression that is true while no process of an installation shows a metric.

    It finds installations by the metric itself within the last day; longer ago, all that is known is a rule's namespace.
    It uses a metric of ours and not `up`, because every way of scraping names jobs in its own way.
    """
    gone = f"group by ({CELL}) (present_over_time({metric}[1d])) unless group by ({CELL}) ({metric})"
    return f"{gone} or absent_over_time({metric}[1d])"


def join_lines(expr: str) -> str:
    """Return an expression on one line."""
    return re.sub(r"\s+", " ", expr).strip()
