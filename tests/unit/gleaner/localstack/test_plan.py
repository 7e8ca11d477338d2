"""The plan of a stack: programs, settings of the children, stack.json."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gleaner.localstack import server
from gleaner.localstack.datadir import DataDir
from gleaner.localstack.plan import StackOptions, StackPlan, make_plan


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    """Return a data directory."""
    directory = DataDir(tmp_path)
    directory.create_folders()
    return directory


def make(directory: DataDir, inherited: dict[str, str] | None = None, **options: object) -> StackPlan:
    """Make a plan with these options."""
    return make_plan(StackOptions(**options), directory, inherited or {})  # type: ignore[arg-type]


def test_a_stack_with_its_own_server(directory: DataDir) -> None:
    """The server is first; its configuration is a private file, since it may have a password."""
    stack = make(directory, workers=2)
    configuration = directory.run / "valkey.conf"

    assert stack.has_embedded_server
    assert [program.name for program in stack.programs] == [
        *("server", "courier", "worker-1", "worker-2", "gateway", "flower"),
    ]
    assert configuration.stat().st_mode & 0o777 == 0o600
    assert str(directory.data) in configuration.read_text()
    ports = [program.metrics_url for program in stack.programs if program.metrics_url]
    assert len(set(ports)) == 4
    assert stack.facts["metrics"] == {"courier": [ports[0]], "worker": ports[1:3], "gateway": [ports[3]]}


def test_a_stack_on_an_existing_server(directory: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must respond; the broker's URL of the environment is used."""
    checked: list[server.RedisUrls] = []
    monkeypatch.setattr(server, "require_reachable", checked.append)
    stack = make(directory, {"GLEANER_BROKER_URL": "redis://b/3"}, redis_url="redis://a/2", port=8123, flower=False)

    assert checked == [stack.urls]
    assert (stack.urls.ledger_url, stack.urls.broker_url) == ("redis://a/2", "redis://b/3")
    assert not stack.has_embedded_server
    assert stack.facts["gateway_url"] == "http://127.0.0.1:8123"
    assert [stack.facts[name] for name in ("flower_url", "flower_user", "flower_password")] == [None] * 3


def test_settings_of_the_user_win(directory: DataDir) -> None:
    """But not over addresses, which the stack chooses."""
    inherited = {
        "GLEANER_WEBHOOK_ALLOW": "10.0.0.0/8",
        "GLEANER_REDACT_KEY": "mine",
        "GLEANER_CPUS": "3",
        "GLEANER_REDIS_URL": "redis://other/1",
        "PYTHONPATH": "/mine",
    }
    environment = make(directory, inherited, workers=2).environment

    assert [environment[name] for name in list(inherited)[:3]] == ["10.0.0.0/8", "mine", "3"]
    assert environment["GLEANER_REDIS_URL"].startswith("unix://")
    root, mine = environment["PYTHONPATH"].split(os.pathsep)
    assert (Path(root) / "gleaner" / "localstack").is_dir()
    assert mine == "/mine"


def test_tokens_stay_the_same_from_run_to_run(directory: DataDir) -> None:
    """The secret for redacted texts is created once; receivers on this machine are allowed."""
    first, second = make(directory).environment, make(directory).environment

    assert first["GLEANER_REDACT_KEY"] == second["GLEANER_REDACT_KEY"]
    assert first["GLEANER_WEBHOOK_ALLOW"] == "127.0.0.0/8,::1/128"
    assert "GLEANER_CPUS" not in first


@pytest.mark.parametrize(("cpus", "workers", "share"), [(8, 2, "4"), (2, 3, "1"), (None, 2, "1")])
def test_several_workers_share_the_cores(
    directory: DataDir, monkeypatch: pytest.MonkeyPatch, cpus: int | None, workers: int, share: str
) -> None:
    """Each gets at least one."""
    monkeypatch.setattr("gleaner.localstack.plan.os.cpu_count", lambda: cpus)

    assert make(directory, workers=workers).environment["GLEANER_CPUS"] == share
