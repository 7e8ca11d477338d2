from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from alerts import generate
from alerts.model import Alert
from tests.conftest import ROOT, Tool
from tests.operations.conftest import MARKER, Watched
from tests.support.processes.harness import wait_for

CONFIG = ROOT / "alerts" / "alertmanager.yml"
TICKETS = {"ml": "tickets-ml", "integration": "tickets-integration", "platform": "tickets"}


def accepted(*command: str | Path) -> None:
    """Run a program that must have no objection."""
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_amtool_accepts_the_configuration(tool: Tool) -> None:
    """Every receiver kind, route and time is one that Alertmanager knows."""
    accepted(tool("amtool"), "check-config", CONFIG)
    for kind in ("slack", "email", "pagerduty", "opsgenie", "webhook"):
        assert f"{kind}_configs" in CONFIG.read_text()


def test_amlint_has_no_objection() -> None:
    """No route that nobody reaches, no inhibition that reaches too far, none that our rules cannot meet."""
    rules = f"--rules={ROOT / 'alerts' / 'rules' / '*.yml'}"
    accepted(Path(sys.executable).parent / "amlint", "check", "--strict", rules, CONFIG)


@pytest.mark.timeout(180)
def test_a_cause_silences_its_consequences_and_nobody_elses(watched: Watched) -> None:
    """A model without workers explains its own backlog only; a dead Redis, the alerts that depend on it."""
    alerts = [
        {"alertname": "GleanerNoWorker", "severity": "page", "model": "a", "depends": "store"},
        {"alertname": "GleanerBacklogGrowing", "severity": "page", "model": "a", "depends": "store"},
        {"alertname": "GleanerBacklogGrowing", "severity": "page", "model": "b", "depends": "store"},
        {"alertname": "GleanerGpuHot", "severity": "page", "gpu": "0"},
    ]
    dead = {"alertname": "GleanerRedisDown", "severity": "page", "cluster": "elsewhere"}
    with httpx.Client(base_url=watched.monitoring.alertmanager, timeout=10, trust_env=False) as client:

        def post(*labels: dict[str, str], ends: float = 600) -> None:
            until = (datetime.now(UTC) + timedelta(seconds=ends)).isoformat()
            client.post(
                "/api/v2/alerts",
                json=[{"labels": {**alert_labels, "made": "up"}, "endsAt": until} for alert_labels in labels],
            ).raise_for_status()

        def inhibited() -> set[tuple[str, str]]:
            active = client.get("/api/v2/alerts").json()
            return {
                (alert["labels"]["alertname"], alert["labels"].get("model", ""))
                for alert in active
                if alert["status"]["inhibitedBy"] and alert["labels"].get("made") == "up"
            }

        try:
            post(*alerts, dead)
            wait_for(lambda: inhibited() == {("GleanerBacklogGrowing", "a")}, 20, "one backlog is explained")
            post({**dead, "cluster": ""})
            depends = {("GleanerNoWorker", "a"), ("GleanerBacklogGrowing", "a"), ("GleanerBacklogGrowing", "b")}
            wait_for(lambda: inhibited() == depends, 20, "all that depends on Redis is explained")
        finally:
            post(*alerts, dead, {**dead, "cluster": ""}, ends=-1)


@pytest.mark.parametrize("alert", list(generate.all_alerts()), ids=lambda alert: alert.name)
def test_an_alert_reaches_those_it_is_for(tool: Tool, alert: Alert) -> None:
    """Pages go to the person on call, tickets to the team's receiver."""
    labels = {"alertname": alert.name, **alert.labels()}
    expected = TICKETS[labels["team"]] if alert.severity == "ticket" else "oncall"
    matchers = (f"{name}={value}" for name, value in labels.items())
    verify = (f"--config.file={CONFIG}", f"--verify.receivers={expected}")
    accepted(tool("amtool"), "config", "routes", "test", *verify, *matchers)


@pytest.mark.timeout(180)
def test_a_killed_worker_is_told_and_its_return_too(watched: Watched) -> None:
    """Prometheus fires, Alertmanager posts to the person on call, again when its successor has done the work."""
    harness, receiver = watched.harness, watched.receiver

    def posts(status: str) -> list[str]:
        bodies = [json.loads(request.body) for request in receiver.at("/oncall")]
        ours = [body["commonLabels"] for body in bodies if body["status"] == status]
        return [labels["alertname"] for labels in ours if labels.get("model") == "gleaner-small"]

    for child in harness.of("worker"):
        child.drain()
    job = watched.submit([f"{MARKER} waits for a worker"])
    wait_for(lambda: "GleanerNoWorker" in posts("firing"), 60, "the page")
    pages = watched.monitoring.pages() - {
        "GleanerDocumentSuccessBurnFast"
    }  # for the bad texts of this service's work
    harness.worker().wait_ready()
    watched.monitoring.watch(harness)
    assert watched.ended(job) == "succeeded"
    wait_for(lambda: "GleanerNoWorker" in posts("resolved"), 60, "the end of the page")
    assert pages == {"GleanerNoWorker"}
