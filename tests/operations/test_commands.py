from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gleaner.cli.commands.doctor import Deployment, run_checks
from jobs import api_keys
from tests.conftest import ROOT
from tests.operations.conftest import MARKER, Watched
from tests.support.processes.harness import Server, ServiceHarness


def gleaner(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "gleaner", *arguments],
        cwd=ROOT,
        env={"COLUMNS": "200", "PATH": "/usr/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.timeout(180)
def test_top_shows_the_queue_workers_rates_and_errors(watched: Watched) -> None:
    """A screen of a used service shows its model's row, its rates and its failures."""
    watched.ended(watched.submit([f"{MARKER} FAULTERROR"]))
    options = [
        f"--metrics=http://127.0.0.1:{child.probe_port}/metrics"
        for child in watched.harness.children
        if child.alive()
    ]
    shown = gleaner("top", "--once", *options)
    assert shown.returncode == 0, shown.stderr
    assert "gleaner-small" in shown.stdout
    assert "document inference_failed" in shown.stdout
    assert "webhook attempts" in shown.stdout
    seen = json.loads(gleaner("top", "--json", *options).stdout)
    assert (seen["queues"][0]["model"], seen["store"], seen["silent"]) == ("gleaner-small", "up", [])
    assert seen["errors"]["document inference_failed"] >= 1


def test_top_without_a_stack_says_what_to_name(tmp_path: Path) -> None:
    """Usage, not a traceback."""
    refused = gleaner("top", "--once", "--data-dir", str(tmp_path))
    assert refused.returncode == 2
    assert "--metrics" in refused.stderr


@pytest.mark.timeout(180)
def test_doctor_finds_a_good_deployment_good(watched: Watched, tmp_path: Path) -> None:
    """Nothing is bad, and the command ends with 0."""
    path = tmp_path / "keys.json"
    api_keys.create_key(path, tenant="t", role="viewer")
    server = watched.harness.server
    checked = gleaner(
        *("doctor", "--redis-url", server.url(1), "--broker-url", server.url(0), "--url", watched.url),
        *("--keys-file", str(path), "--webhook", watched.receiver.url("/hook")),
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for word in (
        "Redis responds",
        "clocks agree",
        "noeviction",
        "append-only file is on",
        "upkeep ran",
        "keys file",
    ):
        assert word in checked.stdout, checked.stdout
    assert "BAD" not in checked.stdout
    said = gleaner("doctor", "--json", "--redis-url", server.url(1), "--broker-url", server.url(0))
    assert {json.loads(line)["grade"] for line in said.stdout.splitlines()} <= {"good", "warning"}


@pytest.mark.timeout(180)
def test_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    """A server that may drop keys and keeps no file, no upkeep, no keys, no gateway, a closed receiver."""
    harness = ServiceHarness(
        options=("--appendonly", "no", "--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
    )
    try:
        server: Server = harness.server
        nowhere = "http://127.0.0.1:9"
        findings = list(
            run_checks(Deployment(server.url(1), server.url(0), ("m",), tmp_path / "none.json", nowhere, nowhere))
        )
    finally:
        harness.close()
    bad = "\n".join(f"{finding.what}; {finding.remedy}" for finding in findings if finding.grade == "bad")
    for word in (
        "allkeys-lru",
        "append-only file is off",
        "no courier runs upkeep",
        "keys file",
        "gateway",
        nowhere,
    ):
        assert word in bad, bad
    assert all(finding.remedy for finding in findings if finding.grade != "good")


def test_doctor_says_when_the_store_is_away() -> None:
    """A check that cannot be made is a finding, and the others are made all the same."""
    url = "redis://127.0.0.1:9/0"
    findings = list(run_checks(Deployment(url, url, ("m",), None, None, None)))
    assert [finding.grade for finding in findings] == ["bad", "bad"]


@pytest.mark.timeout(120)
def test_doctor_holds_the_queue_against_the_ledger() -> None:
    """An emptied broker, or one that is not the gateway's, shows before upkeep has mended it."""
    harness = ServiceHarness()
    try:
        gateway = harness.gateway().wait_ready()
        body = {"labels": ["l"], "documents": [{"text": "t"}]}
        for _ in range(20):
            httpx.post(f"{gateway.url}/v1/jobs", json=body, timeout=30, trust_env=False).raise_for_status()
        deployment = Deployment(harness.server.url(1), harness.server.url(0), ("gleaner-small",), None, None, None)
        before = [finding.what for finding in run_checks(deployment)]
        harness.server.client(0).flushdb()
        after = [finding.what for finding in run_checks(deployment)]
    finally:
        harness.close()
    assert set(after) - set(before) >= {"gleaner-small: 2 shards wait in the ledger, 0 messages in the broker"}
    assert any("20 open shards, 2 messages, 0 workers" in what for what in before)
