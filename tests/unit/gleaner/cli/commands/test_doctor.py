"""`gleaner doctor`: findings about the parts of a deployment."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from gleaner.cli.app import app
from gleaner.cli.commands import doctor
from gleaner.cli.commands.doctor import Deployment, judge_redis, run_checks
from jobs.api_keys import create_key

HEALTHY = {
    "redis_version": "7.2.4",
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "used_memory": 10,
    "maxmemory": 100,
}
NOWHERE = Deployment("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/1", ("m",), None, None, None)


def test_a_healthy_server_has_good_findings_alone() -> None:
    """Valkey is called by its own version."""
    findings = list(judge_redis({**HEALTHY, "valkey_version": "8.1.0"}, 0.1))
    assert {finding.grade for finding in findings} == {"good"}
    assert "Redis responds (version 8.1.0)" in [finding.what for finding in findings]


@pytest.mark.parametrize(
    ("change", "skew", "grade", "what"),
    [
        ({"redis_version": "6.2.14"}, 0.0, "bad", "Redis has version 6.2.14"),
        ({}, 2.5, "bad", "this machine's clock differs from Redis's by 2 s"),
        ({"maxmemory_policy": "allkeys-lru"}, 0.0, "bad", "maxmemory-policy is allkeys-lru: Redis may evict jobs"),
        ({"aof_enabled": 0}, 0.0, "bad", "the append-only file is off: a crash loses jobs"),
        ({"aof_last_write_status": "err"}, 0.0, "bad", "the append-only file could not be written"),
        ({"aof_last_bgrewrite_status": "err"}, 0.0, "bad", "the append-only file could not be written"),
        ({"used_memory": 71}, 0.0, "bad", "Redis uses 71% of its memory"),
        ({"maxmemory": 0}, 0.0, "warning", "Redis has no memory limit"),
    ],
)
def test_each_fault_of_a_server_is_found(change: dict[str, Any], skew: float, grade: str, what: str) -> None:
    """Only that finding is bad, and it has a remedy."""
    [finding] = [item for item in judge_redis({**HEALTHY, **change}, skew) if item.grade != "good"]
    assert (finding.grade, finding.what) == (grade, what)
    assert finding.remedy


def test_a_check_that_fails_does_not_stop_the_others() -> None:
    """The webhook is still checked when Redis does not answer."""
    findings = list(run_checks(Deployment(**{**vars_of(NOWHERE), "webhook": "http://127.0.0.1:1/"})))
    assert [finding.what for finding in findings] == [
        "redis: the check failed (ConnectionError)",
        "queue: the check failed (LedgerUnavailableError)",
        "http://127.0.0.1:1/: ConnectError",
    ]


def vars_of(deployment: Deployment) -> dict[str, Any]:
    """Return the fields of a deployment."""
    return {name: getattr(deployment, name) for name in deployment.__slots__}


def test_the_keys_file_is_checked_with_its_mode(tmp_path: Path) -> None:
    """Valid and private, readable by others, or broken."""
    keys = tmp_path / "keys.json"

    def find_grades() -> list[str]:
        deployment = Deployment(**{**vars_of(NOWHERE), "keys_file": keys})
        return [finding.grade for finding in doctor._check_keys(deployment)]

    create_key(keys, tenant="t", role="admin")
    assert find_grades() == ["good"]
    keys.chmod(0o644)
    assert find_grades() == ["warning"]
    keys.write_text("{")
    assert find_grades() == ["bad"]


@pytest.mark.parametrize(
    ("status", "version", "grades"),
    [
        ("ok", None, ["good", "good"]),
        ("degraded", None, ["bad", "good"]),
        ("", None, ["bad", "good"]),
        ("ok", "0.0.1", ["good", "warning"]),
    ],
)
def test_the_gateway_is_asked_for_readiness_and_version(
    monkeypatch: pytest.MonkeyPatch, status: str, version: str | None, grades: list[str]
) -> None:
    """Another version than the command's is a warning."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/readyz":
            return httpx.Response(200 if status else 503, json={"status": status})
        return httpx.Response(200, json={"info": {"version": version or metadata.version("gleaner-ner")}})

    class Client(httpx.Client):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, transport=httpx.MockTransport(answer))

    monkeypatch.setattr("gleaner.cli.commands.doctor.httpx.Client", Client)
    deployment = Deployment(**{**vars_of(NOWHERE), "gateway_url": "http://gateway"})
    assert [finding.grade for finding in doctor._check_gateway(deployment)] == grades


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "nothing to check"), (["--redis-url", "redis://127.0.0.1:1/0", "--models", "a=b,,"], "GLEANER_MODELS")],
)
def test_what_cannot_be_checked_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    """With exit code 2, before anything is connected to."""
    result = CliRunner().invoke(app, ["doctor", "--data-dir", str(tmp_path), *words])
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_a_bad_finding_fails_the_command(tmp_path: Path) -> None:
    """With exit code 1, and every finding as JSON."""
    words = ["doctor", "--data-dir", str(tmp_path), "--redis-url", "redis://127.0.0.1:1/0", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert result.stdout.count('"grade": "bad"') == 2
