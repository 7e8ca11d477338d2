"""Alerts and dashboards -> the text of every generated file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from alerts import boards, causes, model, slo
from alerts.model import Alert, Case, Group

MARK = "# Written by `make alerts` from alerts/*.py; edit the code.\n"


def groups() -> dict[str, Group]:
    """Rule file (and the group in it, less its prefix) to the group."""
    listed = [*map(slo.group, slo.SLOS), *causes.GROUPS]
    return {group.name.removeprefix("gleaner-"): group for group in listed}


def alerts() -> Iterator[Alert]:
    """Every alert there is."""
    for group in groups().values():
        yield from group.alerts


def rules(listed: Iterable[Group], after: str | None = None) -> str:
    """A rule file.

    Args:
        listed: its groups.
        after: how long every condition must hold instead of what the alert says; for a game day.
    """
    written: list[dict[str, Any]] = [{"name": group.name, "rules": group.rules()} for group in listed]
    if after is not None:
        for rule in (rule for group in written for rule in group["rules"]):
            if rule.get("labels", {}).get("level") in ("L1", "L2"):  # higher levels are nothing but waiting
                rule["for"] = after
    return MARK + _yaml({"groups": written})


def unit_tests(name: str, group: Group) -> dict[str, str]:
    """Promtool's test files for a rule file: for each alert cases that fire and cases that do not."""
    steps: dict[int, list[dict[str, Any]]] = {}
    for alert in group.alerts:
        for case, fires in alert.cases:
            steps.setdefault(case.step, []).append(_case(alert, case, fires=fires))
    return {
        f"tests/{name}.yml" if step == 1 else f"tests/{name}-every-{step}m.yml": MARK
        + _yaml({"rule_files": [f"../rules/{name}.yml"], "evaluation_interval": f"{step}m", "tests": cases})
        for step, cases in steps.items()
    }


def files(runbooks: str | None = None, grafana: str | None = None) -> dict[str, str]:
    """Path below alerts/ to content."""
    written = {}
    for name, group in groups().items():
        written[f"rules/{name}.yml"] = rules([group])
        written |= unit_tests(name, group)
    for name, board in boards.BOARDS.items():
        written[f"dashboards/{name}.json"] = json.dumps(board, indent=2, sort_keys=True) + "\n"
    for default, given in ((model.RUNBOOKS, runbooks), (model.GRAFANA, grafana)):
        if given is not None:
            written = {name: text.replace(default, given.rstrip("/")) for name, text in written.items()}
    return written


def _case(alert: Alert, case: Case, *, fires: bool) -> dict[str, Any]:
    expected = {"exp_labels": {**alert.labels(), **case.labels}, "exp_annotations": alert.told(case)}
    return {
        "name": f"{alert.name} {'fires' if fires else 'is quiet'}",
        "interval": f"{case.step}m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": alert.name, "exp_alerts": [expected] if fires else []}
        ],
    }


def _yaml(document: Any) -> str:
    return str(yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True))
