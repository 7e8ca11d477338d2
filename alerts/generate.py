"""Generates the text of every rule, test and dashboard file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from alerts import boards, causes, model, slo
from alerts.model import Alert, Case, Group

MARK = "# Written by `make alerts` from alerts/*.py; edit the code.\n"


def rule_groups() -> dict[str, Group]:
    """Return rule file name (the group's, without its prefix) -> group."""
    groups = [*map(slo.build_group, slo.SLOS), *causes.GROUPS]
    return {group.name.removeprefix("gleaner-"): group for group in groups}


def all_alerts() -> Iterator[Alert]:
    """Yield every alert."""
    for group in rule_groups().values():
        yield from group.alerts


def render_rules(groups: Iterable[Group], after: str | None = None) -> str:
    """Return the text of a rule file.

    Args:
        groups: the file's groups.
        after: time for which every condition must hold, instead of the alerts' own; for a game day.
    """
    written: list[dict[str, Any]] = [{"name": group.name, "rules": group.to_rules()} for group in groups]
    if after is not None:
        for rule in (rule for group in written for rule in group["rules"]):
            if "alert" in rule:
                rule["for"] = after
    return MARK + _to_yaml({"groups": written})


def render_unit_tests(name: str, group: Group) -> dict[str, str]:
    """Return promtool's test files for a rule file: for each alert cases that fire and cases that do not."""
    steps: dict[int, list[dict[str, Any]]] = {}
    files = [f"../rules/{other}.yml" for other in (*group.reads, name)]
    for alert in group.alerts:
        for case, fires in alert.cases:
            steps.setdefault(case.step, []).append(_promtool_case(alert, case, fires=fires))
    return {
        f"tests/{name}.yml" if step == 1 else f"tests/{name}-every-{step}m.yml": MARK
        + _to_yaml({"rule_files": files, "evaluation_interval": f"{step}m", "tests": cases})
        for step, cases in steps.items()
    }


def render_files() -> dict[str, str]:
    """Return path below alerts/ -> content."""
    written = {}
    for name, group in rule_groups().items():
        written[f"rules/{name}.yml"] = render_rules([group])
        written |= render_unit_tests(name, group)
    for name, board in boards.BOARDS.items():
        written[f"dashboards/{name}.json"] = json.dumps(board, indent=2, sort_keys=True) + "\n"
    return written


def replace_links(files: dict[str, str], runbooks: str | None, grafana: str | None) -> dict[str, str]:
    """Return the files with other base URLs of runbooks and dashboards; None keeps the default."""
    for default, url in ((model.RUNBOOKS, runbooks), (model.GRAFANA, grafana)):
        if url is not None:
            files = {name: text.replace(default, url.rstrip("/")) for name, text in files.items()}
    return files


def _promtool_case(alert: Alert, case: Case, *, fires: bool) -> dict[str, Any]:
    expected = {
        "exp_labels": {**alert.labels(), **case.labels},
        "exp_annotations": alert.expected_annotations(case),
    }
    return {
        "name": f"{alert.name} {'fires' if fires else 'is quiet'}",
        "interval": f"{case.step}m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": alert.name, "exp_alerts": [expected] if fires else []}
        ],
    }


def _to_yaml(document: Any) -> str:
    return str(yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True))
