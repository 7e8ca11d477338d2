"""Panels -> Grafana dashboards (schema of Grafana 11)."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

from alerts import panels
from alerts.model import add_matchers
from alerts.widgets import Board, Panel

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_LETTERS = "ABCDEFGH"


def build_dashboard(board: Board) -> dict[str, Any]:
    """Return a dashboard in Grafana's import format."""
    builder = (
        dashboard.Dashboard(f"Gleaner / {board.title}")
        .uid(f"gleaner-{board.name}")
        .tags(["gleaner"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_build_variable("namespace", "label_values(gleaner_store_down, namespace)"))
        .with_variable(
            _build_variable("model", 'label_values(gleaner_open_shards{namespace=~"$namespace"}, model)')
        )
        .link(
            dashboard.DashboardLink("Gleaner")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["gleaner"])
            .as_dropdown(True)
        )
    )
    for panel in board.panels:
        builder = builder.with_panel(_build_panel(panel))
    document: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(builder.build()))
    return document


def _build_variable(name: str, query: str) -> Any:
    """Return a variable with the values of a label; all of them, and series without the label, by default."""
    return (
        dashboard.QueryVariable(name)
        .query(query)
        .datasource(_SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _select(expr: str) -> str:
    """Return an expression with the dashboard's variables in every selector."""
    matchers = 'namespace=~"$namespace"'
    if "by (model)" in expr:
        matchers += ',model=~"$model"'
    return add_matchers(expr, matchers)


def _build_panel(panel: Panel) -> Any:
    kind: Any = stat.Panel() if panel.single else timeseries.Panel().min(0)
    if panel.limit is not None:
        steps = [Threshold(value=0, color="green"), Threshold(value=panel.limit, color="red")]
        kind = kind.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        kind = kind.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.LINE))
    builder = (
        kind.title(panel.title).description(panel.help).unit(panel.unit).datasource(_SOURCE).span(12).height(8)
    )
    for letter, (expr, legend) in zip(_LETTERS, panel.queries.items(), strict=False):
        query = prometheus.Dataquery().expr(_select(expr)).legend_format(legend).ref_id(letter).datasource(_SOURCE)
        builder = builder.with_target(query)
    return builder


BOARDS = {board.name: build_dashboard(board) for board in panels.BOARDS}
