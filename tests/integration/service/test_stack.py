"""The local stack as a user runs it: `gleaner up`, with the real gateway, worker, courier, Flower and server."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
import redis

from gleaner import Client
from tests.support.processes.local_stack import RunningStack, ended, gleaner, running_stack, until
from tests.support.servers.redis_servers import RedisServer

SECRET = "Ada Lovelace keeps this sentence to herself in London."  # pragma: allowlist secret


@pytest.mark.timeout(180)
def test_stack_json_says_where_everything_is(stack: RunningStack) -> None:
    """Every URL answers, every process id is one of ours, and secrets are the owner's alone."""
    facts = stack.facts
    pids = facts["pids"]
    one_each = [pids["server"], pids["flower"], *pids["gateway"], *pids["worker"], *pids["courier"]]

    assert set(one_each) <= set(stack.descendants())
    for name in ("stack.json", "admin-key", "keys.json"):
        assert (stack.directory / name).stat().st_mode & 0o777 == 0o600
    assert httpx.get(f"{facts['gateway_url']}/readyz").status_code == 200
    assert httpx.get(f"{facts['gateway_url']}/docs").status_code == 200
    for kind in ("gateway", "worker", "courier"):
        (url,) = facts["metrics"][kind]
        assert httpx.get(url).status_code == 200
    with redis.Redis.from_url(facts["redis_url"]) as ledger, redis.Redis.from_url(facts["broker_url"]) as broker:
        assert ledger.ping()
        assert broker.ping()
        assert ledger.config_get("appendonly") == {"appendonly": "yes"}


@pytest.mark.timeout(180)
def test_flower_shows_tasks_by_job_and_shard_alone(stack: RunningStack) -> None:
    """Flower asks for its password, and lists finished tasks with ids and runtimes, but no word of a text."""
    with Client(stack.url, stack.key) as client:
        job = client.submit([SECRET], ["person", "city"]).wait(timeout=60)
    facts = stack.facts
    login = (facts["flower_user"], facts["flower_password"])
    tasks = f"{facts['flower_url']}/api/tasks"
    assert httpx.get(tasks).status_code == 401

    def listed() -> bool:
        return any(
            task["state"] == "SUCCESS" and job.id in task["args"]
            for task in httpx.get(tasks, auth=login).json().values()
        )

    until(listed)
    seen = httpx.get(tasks, auth=login).text
    assert httpx.get(f"{facts['flower_url']}/tasks", auth=login).status_code == 200
    for word in ("Lovelace", "London", "person", "city"):
        assert word not in seen


@pytest.mark.timeout(180)
def test_no_log_holds_a_text_or_a_key(stack: RunningStack) -> None:
    """Logs contain no word of a document, no labels and no keys."""
    with Client(stack.url, stack.key) as client:
        client.extract([SECRET], ["personage"])
    logs = {path.name: path.read_text() for path in (stack.directory / "logs").iterdir()}

    assert {"gateway.log", "worker.log", "courier.log", "flower.log", "server.log"} <= set(logs)
    for content in logs.values():
        assert "Lovelace" not in content
        assert "personage" not in content
        assert stack.key not in content


@pytest.mark.timeout(180)
def test_a_killed_worker_is_replaced(stack: RunningStack) -> None:
    """A worker that dies is started again and said so, stack.json names the new one, and work goes on."""
    (before,) = stack.facts["pids"]["worker"]
    os.kill(before, signal.SIGKILL)
    until(lambda: stack.facts["pids"]["worker"] not in ([before], []))
    assert "restarted as process" in stack.output.read_text()
    with Client(stack.url, stack.key) as client:
        assert client.submit([SECRET], ["person"]).wait(timeout=90).status == "succeeded"


@pytest.mark.timeout(180)
def test_a_second_stack_keeps_out(stack: RunningStack) -> None:
    """The same data directory, and a port in use, are clear errors, and nothing of the first is touched."""
    ran = gleaner("up", "--data-dir", str(stack.directory), "--port", "0")
    assert (ran.returncode, "--data-dir" in ran.stderr) == (1, True)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        elsewhere = stack.directory.with_name("elsewhere")
        ran = gleaner("up", "--data-dir", str(elsewhere), "--port", str(port))

    assert ran.returncode == 1
    assert f"port {port} is in use" in ran.stderr
    assert not (elsewhere / "stack.json").exists()
    assert httpx.get(f"{stack.url}/readyz").status_code == 200


@pytest.mark.timeout(300)
def test_stop_and_start_again(tmp_path: Path) -> None:
    """SIGTERM exits 0 and leaves no process; the next start has the same key and the same jobs.

    The user's folder has packages of the same names as ours, which are left alone.
    """
    home = tmp_path / "home"
    for name in ("jobs", "gateway", "worker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    with running_stack(home, "--no-flower", cwd=tmp_path) as first:
        key = first.key
        assert first.facts["flower_url"] is None
        with Client(first.url, key) as client:
            job = client.submit([SECRET], ["person"]).wait(timeout=60)
        processes = first.descendants()
        assert first.stop() == 0
        assert all(ended(pid) for pid in processes)
        assert not (home / "stack.json").exists()

    with running_stack(home, "--no-flower") as second:
        assert second.key == key
        with Client(second.url, key) as client:
            assert [result.ok for result in client.job(job.id).results()] == [True]
        assert second.stop(signal.SIGINT) == 0


@pytest.mark.timeout(300)
def test_sigkill_leaves_nothing_and_loses_nothing(tmp_path: Path) -> None:
    """After SIGKILL of `gleaner up` every descendant ends by itself, and a new start finishes the jobs."""
    texts = [f"{SECRET} {number}" for number in range(400)]
    with running_stack(tmp_path / "home", "--no-flower") as first:
        with Client(first.url, first.key) as client:
            job = client.submit(texts, ["person"])
        processes = first.descendants()
        first.stop(signal.SIGKILL)
        until(lambda: all(ended(pid) for pid in processes), 60)

    with running_stack(tmp_path / "home", "--no-flower") as second, Client(second.url, second.key) as client:
        assert client.job(job.id).wait(timeout=200).counts.succeeded == len(texts)


@pytest.mark.timeout(180)
def test_a_failed_start_shows_the_culprits_log_and_leaves_nothing(tmp_path: Path) -> None:
    """A model that is not there ends the start with the worker's last words."""
    with (
        pytest.raises(AssertionError) as raised,
        running_stack(
            tmp_path / "home", "--no-flower", environment={"GLEANER_MODEL_SOURCE": str(tmp_path / "nothing")}
        ),
    ):
        pass

    assert "worker exited during start-up" in str(raised.value)
    assert str(tmp_path / "nothing") in str(raised.value)
    assert not (tmp_path / "home" / "stack.json").exists()


@pytest.mark.timeout(180)
def test_a_server_that_is_there(tmp_path: Path, redis_server: RedisServer) -> None:
    """--redis-url starts no server, uses that one, and leaves it running; --json tells where all is, once ready."""
    redis_server.flush()
    with running_stack(tmp_path / "home", "--no-flower", "--json", "--redis-url", redis_server.url(3)) as stack:
        until(lambda: "gateway_url" in stack.output.read_text())
        [ready] = [json.loads(line) for line in stack.output.read_text().splitlines() if line.startswith("{")]
        assert ready.items() <= stack.facts.items()
        assert stack.facts["pids"]["server"] is None
        assert stack.facts["redis_url"] == redis_server.url(3)
        with Client(stack.url, stack.key) as client:
            assert client.extract([SECRET], ["person"])[0].ok
    with redis.Redis.from_url(redis_server.url(3)) as ledger:
        assert ledger.dbsize() > 0
    redis_server.flush()


@pytest.mark.timeout(180)
def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    """A deep data directory works too: the server listens on TCP, with a password."""
    home = tmp_path / ("deep" * 25) / "home"
    home.parent.mkdir()
    torch = {"GLEANER_RUNTIME": "torch"}  # whose workers of one core each have nothing to export and try
    with running_stack(home, "--workers", "2", environment=torch) as stack:
        facts = stack.facts
        assert facts["redis_url"].startswith("redis://:")
        assert len(facts["pids"]["worker"]) == 2
        with Client(stack.url, stack.key) as client:
            assert client.extract([SECRET], ["person"])[0].ok
