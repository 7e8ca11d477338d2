"""Alerts as values: their labels, annotations and rules, and expressions that are rewritten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts.model import Alert, Case, Group, add_matchers, count_as_absent, in_cells, join_lines, move_namespace

ALERT = Alert(
    name="GleanerSlow",
    expr="gleaner_seconds\n  > 5",
    after="5m",
    severity="page",
    team="ml",
    summary="Slow.",
    description="{{ $labels.model }} takes {{ $value | humanizeDuration }}{{ $labels.other }}.",
    board="model",
    fires=Case({"gleaner_seconds": "9x5"}, "3m", {"model": "small"}, value="9s"),
    quiet=Case({"gleaner_seconds": "1x5"}, "3m"),
)


@pytest.mark.parametrize(("severity", "level"), [("page", "L2"), ("ticket", "L1")])
def test_labels_route_an_alert(severity: str, level: str) -> None:
    """The level follows the severity; own labels stay, and a consequence of a Redis outage says so."""
    alert = replace(ALERT, severity=severity, more={"slo": "documents"})

    assert alert.labels() == {"severity": severity, "level": level, "slo": "documents", "team": "ml"}
    assert replace(alert, of_store=True).labels() == {**alert.labels(), "depends": "store"}


def test_expected_annotations_have_the_cases_values() -> None:
    """Labels and value are filled in; a label that the case does not have is empty."""
    annotations = ALERT.expected_annotations(ALERT.fires)

    assert annotations["description"] == "small takes 9s."
    assert annotations["runbook_url"].endswith("/GleanerSlow.md")
    assert annotations["dashboard_url"].endswith("/gleaner-model")


def test_a_group_lists_recordings_before_the_alerts_that_read_them() -> None:
    """Prometheus evaluates the rules of a group in order."""
    record, alert = Group("gleaner-x", (ALERT,), {"gleaner:x": "sum(\n  gleaner_x)"}).to_rules()

    assert record == {"record": "gleaner:x", "expr": "sum( gleaner_x)"}
    assert alert["expr"] == "gleaner_seconds > 5"
    assert alert["for"] == "5m"


def test_an_alert_is_tried_in_all_of_its_cases() -> None:
    """Further cases follow the two that every alert has."""
    more = Case({"gleaner_seconds": "6x5"}, "4m")

    assert replace(ALERT, also=[(more, False)]).cases == ((ALERT.fires, True), (ALERT.quiet, False), (more, False))


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("gleaner_up", 'gleaner_up{a="b"}'),
        ('gleaner_up{x="y"} > 1', 'gleaner_up{a="b",x="y"} > 1'),
        ("rate(gleaner:slo:ratio_5m[5m])", 'rate(gleaner:slo:ratio_5m{a="b"}[5m])'),
        ("process_cpu_seconds_total", 'process_cpu_seconds_total{a="b"}'),
        ("kube_pod_info", "kube_pod_info"),
        ("sum by (namespace) (gleaner_up)", 'sum by (namespace) (gleaner_up{a="b"})'),
    ],
)
def test_matchers_enter_the_selectors_of_our_metrics(expr: str, expected: str) -> None:
    """Matchers come before those that are there; another exporter's metrics stay."""
    assert add_matchers(expr, 'a="b"') == expected


def test_expressions_are_wrapped() -> None:
    """Each wrapper has the expression unchanged in it."""
    assert move_namespace("kube_x").startswith("label_replace(kube_x, ")
    assert in_cells("kube_x > 1").startswith("(kube_x > 1) and on (cluster, namespace) ")
    assert count_as_absent("gleaner_x").endswith(" or absent_over_time(gleaner_x[1d])")
    assert join_lines("  a\n\t+  b ") == "a + b"
