"""Panels as Grafana's JSON."""

from __future__ import annotations

from typing import Any

from alerts.boards import build_dashboard
from alerts.widgets import Board, Panel

LINES = Panel("Lines", "s", {"gleaner_a": "a", "max by (model) (gleaner_b)": "{{model}}"}, "help", limit=5)
NUMBER = Panel("Number", "short", {"gleaner_c": "c"}, "help", single=True)


def built_panels() -> list[dict[str, Any]]:
    """Return the panels of a dashboard of two."""
    panels: list[dict[str, Any]] = build_dashboard(Board("x", "X", (LINES, NUMBER)))["panels"]
    return panels


def test_a_dashboard_has_its_name_and_variables() -> None:
    """It is found by uid and tag; model and namespace start with all of their values."""
    board = build_dashboard(Board("x", "X", (LINES,)))

    assert (board["uid"], board["title"], board["tags"]) == ("gleaner-x", "Gleaner / X", ["gleaner"])
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert set(variables) == {"datasource", "namespace", "model"}
    assert variables["model"]["allValue"] == variables["namespace"]["allValue"] == ".*"


def test_queries_are_limited_to_the_chosen_namespace_and_model() -> None:
    """Only a query by model is limited to models: the metrics of other queries have no such label."""
    lines, _ = built_panels()

    assert [target["expr"] for target in lines["targets"]] == [
        'gleaner_a{namespace=~"$namespace"}',
        'max by (model) (gleaner_b{namespace=~"$namespace",model=~"$model"})',
    ]
    assert [target["refId"] for target in lines["targets"]] == ["A", "B"]


def test_a_single_number_and_a_limit() -> None:
    """A panel is a graph or one number; a limit is drawn as a red line."""
    lines, number = built_panels()

    assert (lines["type"], number["type"]) == ("timeseries", "stat")
    steps = lines["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["value"], step["color"]) for step in steps] == [(0, "green"), (5, "red")]
    assert "thresholds" not in number["fieldConfig"]["defaults"]
