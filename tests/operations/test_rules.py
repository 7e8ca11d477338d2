from __future__ import annotations

import re
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

from alerts import generate, panels
from jobs.observability.metrics import GatewayMetrics, UpkeepMetrics, WebhookMetrics, WorkerMetrics
from tests.conftest import ROOT, Tool

ALERTS = {alert.name: alert for alert in generate.all_alerts()}
RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ("## Meaning", "## Impact", "## Diagnosis", "## Mitigation")
OTHERS = re.compile(r"kube_|kubelet_|keda_|certmanager_|probe_ssl_|process_|gleaner_gpu_|gleaner_store_|python_")


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end."""
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, timeout=110)


def test_what_is_committed_is_what_the_code_says() -> None:
    """Rules, their tests and dashboards follow the code; `make alerts` writes them."""
    written = generate.render_files()
    there = {
        str(path.relative_to(ROOT / "alerts"))
        for folder in ("rules", "tests", "dashboards")
        for path in (ROOT / "alerts" / folder).iterdir()
    }
    assert there == set(written)
    for name, content in written.items():
        assert (ROOT / "alerts" / name).read_text() == content, name


def test_promtool_accepts_every_rule(tool: Tool, rules: list[Path]) -> None:
    """No expression is broken."""
    checked = run(tool("promtool"), "check", "rules", *map(str, rules))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_fires_when_it_should_and_only_then(tool: Tool) -> None:
    """Promtool runs cases that fire and cases that do not for each alert, labels and words compared."""
    files = sorted((ROOT / "alerts" / "tests").glob("*.yml"))
    tested = run(tool("promtool"), "test", "rules", *map(str, files))
    assert tested.returncode == 0, tested.stdout + tested.stderr
    cases = [case["name"] for path in files for case in yaml.safe_load(path.read_text())["tests"]]
    assert set(cases) == {f"{name} {what}" for name in ALERTS for what in ("fires", "is quiet")}


def test_every_alert_says_what_a_person_needs() -> None:
    """Severity, summary, description, runbook and dashboard; the dashboard exists."""
    boards = {board.name for board in panels.BOARDS}
    for alert in ALERTS.values():
        assert alert.summary.endswith(".")
        assert len(alert.description) > 30
        assert alert.board in boards
        assert {"severity", "level"} <= set(alert.labels())
        assert alert.annotations()["runbook_url"].endswith(f"/{alert.name}.md")


def test_every_alert_has_its_runbook_and_no_runbook_is_left_over() -> None:
    """`docs/runbooks/<AlertName>.md`, each with the same four sections."""
    assert {path.stem for path in RUNBOOKS.glob("Gleaner*.md")} == set(ALERTS)
    for name in ALERTS:
        text = (RUNBOOKS / f"{name}.md").read_text()
        assert text.startswith(f"# {name}\n")
        places = [text.find(section) for section in SECTIONS]
        assert places == sorted(places), name
        assert -1 not in places, name


def metric_names(expr: str) -> set[str]:
    """Every metric that an expression reads."""
    expr = re.sub(r"\$__\w+", "5m", expr)
    promql_parser.parse(expr)
    exporters = "gleaner|process|kube|kubelet|keda|certmanager|probe|python"
    return set(re.findall(rf"\b((?:{exporters})[_:][a-z0-9_:]*)\b", expr))


def known_names() -> set[str]:
    """Every name that our processes show or our rules record."""
    from prometheus_client import CollectorRegistry

    shown = set()
    for cls in (GatewayMetrics, WorkerMetrics, WebhookMetrics, UpkeepMetrics):
        registry = CollectorRegistry()
        cls(registry)
        for family in registry.collect():
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            shown |= {family.name + suffix for suffix in suffixes}
    source = "".join(path.read_text() for path in (ROOT / "jobs" / "observability" / "metrics").glob("*.py"))
    shown |= set(re.findall(r'"(gleaner_[a-z_]+)"', source))
    for group in generate.rule_groups().values():
        shown |= set(group.recordings)
    return shown


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_reads_metrics_that_exist(name: str) -> None:
    """A renamed metric cannot silence an alert."""
    exported = known_names()
    for metric in metric_names(ALERTS[name].expr):
        assert metric in exported or OTHERS.match(metric), metric


def test_the_rules_of_a_release_can_point_elsewhere() -> None:
    """Runbook and dashboard addresses are one option each."""
    written = generate.replace_links(generate.render_files(), "https://wiki.corp/rb", "https://g.corp/d")
    assert "https://wiki.corp/rb/GleanerRedisDown.md" in written["rules/store.yml"]
    assert "gleaner.example" not in "".join(written.values())
