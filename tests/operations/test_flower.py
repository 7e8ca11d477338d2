from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.operations.conftest import MARKER
from tests.operations.test_logs import FIELDS
from tests.support.processes.harness import Child, ServiceHarness, free_port, wait_for

LOGIN = ("ops", "a-long-password")  # pragma: allowlist secret
PREFIX = "/flower"
CLIENTS: list[httpx.Client] = []
"""Closed after each test."""


@pytest.fixture
def harness() -> Iterator[ServiceHarness]:
    """Start Redis alone."""
    running = ServiceHarness()
    yield running
    running.close()
    while CLIENTS:
        CLIENTS.pop().close()


def start_flower(harness: ServiceHarness, **more: str) -> tuple[Child, httpx.Client]:
    """Start Flower under a prefix; return it ready, with a client that has its password."""
    port = free_port()
    settings = {
        "GLEANER_FLOWER_PORT": str(port),
        "GLEANER_FLOWER_USER": LOGIN[0],
        "GLEANER_FLOWER_PASSWORD": LOGIN[1],
        "GLEANER_FLOWER_URL_PREFIX": PREFIX.strip("/"),
        **harness.by_socket(),
        **more,
    }
    child = harness.start("flower", "jobs.queue.flower", settings)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}{PREFIX}", auth=LOGIN, timeout=10, trust_env=False)

    def up() -> bool:
        try:
            return client.get("/healthcheck").status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(up, 30, f"Flower answers: {child.tail()}")
    CLIENTS.append(client)
    return child, client


@pytest.mark.timeout(180)
def test_flower_sees_every_shard_once_started_and_succeeded(harness: ServiceHarness, tmp_path: Path) -> None:
    """While a job runs its API and metrics show each shard as one task; queue lengths are the broker's own."""
    flower, client = start_flower(harness, GLEANER_FLOWER_DB=str(tmp_path / "flower"))
    gateway = harness.gateway().wait_ready()
    texts = [f"{MARKER} lives in Paris " + "and so on " * 300] * 300
    body = {"labels": ["person"], "documents": [{"text": text} for text in texts]}
    job = httpx.post(f"{gateway.url}/v1/jobs", json=body, timeout=30, trust_env=False).json()["id"]

    def waiting() -> int:
        queues = client.get("/api/queues/length").json()["active_queues"]
        return sum(queue["messages"] for queue in queues)

    wait_for(lambda: waiting() > 0, 20, "the queue's length")
    lengths = {q["name"]: q["messages"] for q in client.get("/api/queues/length").json()["active_queues"]}
    with harness.server.client(0) as broker:
        assert lengths["gleaner.gleaner-small.standard"] == broker.llen("gleaner:q:gleaner.gleaner-small.standard")
    harness.worker(TEST_PACE_S="1e-6").wait_ready()
    harness.courier().wait_ready()
    with harness.server.client(1) as ledger:
        shards = int(ledger.hget(f"{{gleaner}}:job:{job}", "shards") or 0)
    assert shards > 1

    def tasks() -> list[dict[str, object]]:
        listed = client.get("/api/tasks?limit=1000").json().values()
        return [task for task in listed if job in str(task["args"])]

    wait_for(lambda: sum(task["state"] == "SUCCESS" for task in tasks()) == shards, 60, "every shard is seen")
    seen = tasks()
    assert len({task["uuid"] for task in seen}) == shards
    assert all(task["started"] and float(str(task["runtime"])) > 0 for task in seen)
    metrics = client.get("/metrics").text
    assert 'flower_task_runtime_seconds_count{task="gleaner.extract_shard"' in metrics
    assert MARKER.split()[0] not in client.get("/api/tasks").text + metrics

    assert flower.drain() in (0, -15)
    lines = flower.log.read_text().splitlines()
    assert lines
    assert all(set(json.loads(line)) >= FIELDS for line in lines)


@pytest.mark.timeout(180)
def test_flower_asks_for_its_password_and_changes_nothing(harness: ServiceHarness) -> None:
    """Nothing but the health check and metrics is open, control is refused, and only the prefix is served."""
    _, client = start_flower(harness)
    bare = httpx.Client(base_url=client.base_url, timeout=10, trust_env=False)
    for path in ("/", "/tasks", "/api/tasks", "/api/workers"):
        assert bare.get(path).status_code == 401, path
    for path in ("/api/task/send-task/gleaner.extract_shard", "/api/worker/shutdown/any", "/api/task/revoke/any"):
        assert client.post(path, json={"args": []}).status_code in (403, 405), path
    assert (
        httpx.get(str(client.base_url).replace(f"{PREFIX}/", "/tasks"), auth=LOGIN, trust_env=False).status_code
        == 404
    )
    bare.close()
