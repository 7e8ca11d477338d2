"""Panels -> Grafana dashboards (schema of Grafana 11)."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef

from alerts import panels
from alerts.panels import Board, Panel

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


def _build_panel(panel: Panel) -> Any:
    kind: Any = stat.Panel() if panel.single else timeseries.Panel()
    builder = (
        kind.title(panel.title).description(panel.help).unit(panel.unit).datasource(_SOURCE).span(12).height(8)
    )
    for letter, (expr, legend) in zip(_LETTERS, panel.queries.items(), strict=False):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(letter).datasource(_SOURCE)
        builder = builder.with_target(query)
    return builder


BOARDS = {board.name: build_dashboard(board) for board in panels.BOARDS}
