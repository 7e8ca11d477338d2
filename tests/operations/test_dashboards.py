from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest

from alerts import panels
from alerts.widgets import Board, Panel
from tests.conftest import ROOT
from tests.operations.conftest import Watched
from tests.operations.test_rules import OTHERS, known_names, metric_names
from tests.support.processes.monitoring import INTERVAL

SCHEMAS = Path(os.environ.get("GLEANER_SCHEMAS", ROOT.parent / "shared" / "crds"))
BOARDS = pytest.mark.parametrize("board", panels.BOARDS, ids=lambda board: board.name)


def document(board: Board) -> dict[str, Any]:
    """Return the dashboard as committed."""
    dashboard: dict[str, Any] = json.loads((ROOT / "alerts" / "dashboards" / f"{board.name}.json").read_text())
    return dashboard


def list_expressions(board: Board, panel: Panel) -> list[str]:
    """Return the expressions of a panel as committed, with the dashboard's variables."""
    [committed] = [shown for shown in document(board)["panels"] if shown["title"] == panel.title]
    return [target["expr"] for target in committed["targets"]]


@BOARDS
def test_a_dashboard_shows_the_chosen_installations(board: Board) -> None:
    """Every selector has the variable of the namespace, and those with a model that of the model."""
    for panel in board.panels:
        for expr in list_expressions(board, panel):
            promql_parser.parse(re.sub(r"\$__\w+", "5m", expr))
            selectors = re.findall(r"\b(?:gleaner[_:]|process_)[a-z0-9_:]+(?:\{[^}]*\})?", expr)
            for selector in selectors:
                assert 'namespace=~"$namespace"' in selector, (panel.title, expr)
                assert ('model=~"$model"' in selector) == ("by (model)" in expr), (panel.title, expr)
    assert [variable["name"] for variable in document(board)["templating"]["list"]] == [
        "datasource",
        "namespace",
        "model",
    ]


@BOARDS
def test_grafana_would_accept_the_dashboard(board: Board) -> None:
    """Grafana's own JSON schema of version 11.6 has no objection."""
    schema = SCHEMAS / "grafana__dashboard-v11.6.jsonschema.json"
    if not schema.exists():
        pytest.skip(f"Grafana's schema is not here: {schema.name} in GLEANER_SCHEMAS")
    jsonschema.Draft7Validator(json.loads(schema.read_text())).validate(document(board))


@BOARDS
def test_every_expression_parses_and_reads_what_exists(board: Board) -> None:
    """A renamed metric cannot empty a panel."""
    exported = known_names()
    for panel in board.panels:
        for expr in panel.queries:
            promql_parser.parse(re.sub(r"\$__\w+", "5m", expr))
            for metric in metric_names(expr):
                assert metric in exported or OTHERS.match(metric), (panel.title, metric)


@BOARDS
@pytest.mark.timeout(180)
def test_no_panel_is_empty_after_a_real_run(board: Board, watched: Watched) -> None:
    """Each expression finds samples in a Prometheus that scraped a service at work."""
    empty = []
    for panel in board.panels:
        for expr in () if panel.elsewhere else list_expressions(board, panel):
            real = re.sub(r"\$(namespace|model)", ".*", expr.replace("$__rate_interval", INTERVAL))
            if not watched.monitoring.query(f"max_over_time(({real})[2m:1s])"):
                empty.append((panel.title, expr))
    assert empty == []
