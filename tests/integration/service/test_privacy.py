"""A client's data exists only in the ledger, encrypted, and in its owner's responses."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from jobs.queue.celery_queues import KEY_PREFIX, model_queues
from jobs.queue.publisher import QueuePublisher
from tests.support.api import running_api
from tests.support.processes.harness import READY_S, ServiceHarness, free_port, wait_for
from tests.support.servers.receivers import receiving

MARKER = "Zyxwmarker"
"""Part of every text, label, description and metadata value; capitalised, so an entity of the fake engine."""
FLOWER = {"GLEANER_FLOWER_PASSWORD": "pw"}  # pragma: allowlist secret


def fresh_key() -> str:
    """Create an encryption key in the form of the settings."""
    return base64.b64encode(os.urandom(32)).decode()


def job(hook: str | None = None) -> dict[str, Any]:
    """Build a job whose client-chosen words all contain the marker; one document fails, one is long."""
    return {
        "labels": {MARKER: f"{MARKER} as described"},
        "documents": [
            {"text": f"Ada met {MARKER} Smith."},
            {"text": ""},
            {"text": f"{MARKER} " * 800, "labels": [f"{MARKER} too"]},
            {"text": f"{MARKER} FAULTERROR"},
        ],
        "options": {"return_text": True},
        "metadata": {"note": MARKER},
        **({"webhook": {"url": hook}} if hook else {}),
    }


@contextmanager
def whole_harness(**settings: str) -> Iterator[tuple[ServiceHarness, httpx.Client, httpx.Client]]:
    """Gateway, courier and Flower, at the most talkative log level; the worker is still to come."""
    harness = ServiceHarness()
    harness.settings |= {
        "GLEANER_LOG_LEVEL": "DEBUG",
        "GLEANER_WEBHOOK_ALLOW": "127.0.0.0/8",
        "GLEANER_WEBHOOK_ALLOW_HTTP": "true",
        **settings,
    }
    port = free_port()
    try:
        gateway = harness.gateway()
        courier = harness.courier()
        harness.start(
            "flower", "jobs.queue.flower", {**harness.by_tcp(), **FLOWER, "GLEANER_FLOWER_PORT": str(port)}
        )
        for child in (gateway, courier):
            child.wait_ready()
        with (
            httpx.Client(base_url=gateway.url, trust_env=False, timeout=40) as client,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("gleaner", "pw"), trust_env=False) as flower,
        ):
            yield harness, client, flower
    finally:
        harness.close()


def test_a_marker_is_found_nowhere() -> None:
    """Not in the server's files, nor in messages, logs, metrics, Flower or the webhook; its owner reads it."""
    with receiving() as receiver, whole_harness(GLEANER_ENCRYPTION_KEYS=fresh_key()) as (harness, client, flower):
        sent = client.post("/v1/jobs", json=job(receiver.url("/ok")), headers={"Idempotency-Key": MARKER})
        assert sent.status_code == 202, sent.text
        with harness.server.client(0) as broker:
            queues = [KEY_PREFIX + queue for queue in model_queues(["gleaner-small"])]
            messages = [raw for queue in queues for raw in broker.lrange(queue, 0, -1)]
        assert messages
        bodies = [orjson.loads(raw)["body"].encode() for raw in messages]

        worker = harness.worker(GLEANER_RESULT_CACHE_TTL_S="60").wait_ready()
        path = f"/v1/jobs/{sent.json()['id']}"
        assert client.get(path, params={"wait": 30}).json()["status"] == "partially_succeeded"
        results = client.get(f"{path}/results").text
        assert results.count(MARKER) > 10
        again = client.post("/v1/extract", json=job())
        assert again.json()["results"] == client.get(f"{path}/results").json()["data"]
        assert 'gleaner_result_cache_documents_total{outcome="hit"} 2.0' in worker.probe("/metrics")[1]
        refused = client.post("/v1/jobs", json={**job(), MARKER: 1, "documents": [{"text": MARKER, MARKER: 2}]})
        assert refused.status_code == 422
        client.get(f"/v1/jobs/{MARKER}?wait={MARKER}", headers={"X-Request-ID": f"{MARKER} no token"})
        hooks = receiver.wait("/ok", 1)

        webhooks = repr(hooks).replace(
            f'"metadata":{{"note":"{MARKER}"}}', ""
        )  # which the receiver is meant to have
        seen = {"messages": repr(messages + bodies), "webhook": webhooks, **_shown(harness, flower)}
        for name, content in seen.items():
            assert MARKER not in content, f"{name}: {_around(content)}"
        _grep_files(harness)


def _shown(harness: ServiceHarness, flower: httpx.Client) -> dict[str, str]:
    """Return all that an operator of the service can look at."""
    wait_for(lambda: flower.get("/api/tasks").json(), READY_S, "Flower has seen a task")
    pages = ("/api/tasks", "/api/workers", "/api/queues/length", "/tasks", "/workers", "/metrics")
    shown = {f"Flower's {page}": flower.get(page, follow_redirects=True).text for page in pages}
    for child in harness.children:
        if child.role != "flower":
            status, text = child.probe("/metrics")
            assert status == 200
            shown[f"{child.role}'s metrics"] = text
    return shown


def _grep_files(harness: ServiceHarness) -> None:
    """Search logs, append-only file and dump; a control string is found, so the search works."""
    with harness.server.client() as store:
        store.set("canary", "Canaryword")
        store.save()
        store.config_set("appendfsync", "always")
        store.set("canary", "Canaryword")
    files = {path: path.read_bytes() for path in harness.directory.rglob("*") if path.is_file()}
    assert len([path for path in files if path.suffix == ".log"]) >= 5
    with_canary = {path.suffix for path, content in files.items() if b"Canaryword" in content}
    assert {".aof", ".rdb"} <= with_canary
    for path, content in files.items():
        for hidden in (MARKER.encode(), base64.b64encode(MARKER.encode()), MARKER.encode("utf-16-le")):
            assert hidden not in content, path


def _around(content: str) -> str:
    at = content.index(MARKER)
    return content[max(0, at - 300) : at + 100]


@pytest.mark.anyio
async def test_a_key_is_changed_without_a_pause(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """The three steps of docs/reference/security-redis.md: each step reads data written before and after it."""
    old, new = fresh_key(), fresh_key()
    jobs: list[str] = []
    for number, keys in enumerate([(old,), (old, new), (new, old)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with running_api(ledger_url, broker_url, folder, encryption_keys=keys) as api:
            await api.worker.run_shards()  # the messages that the step before left in the queue
            jobs += [await api.submit("Ada", metadata={"step": str(number)}) for _ in range(2)]
            messages = await api.worker.take_messages()
            assert await api.worker.claim_shard(messages[0]) == "run"
            await api.worker.finish_shard(messages[0])
            await QueuePublisher(api.broker).push(messages[1:])  # for the next step's worker
            for job_id in jobs:
                assert (await api.get_job(job_id))["metadata"]["step"] in "012"
                assert (await api.client.get(f"/v1/jobs/{job_id}/results")).status_code == 200

    (tmp_path / "3").mkdir()
    async with running_api(ledger_url, broker_url, tmp_path / "3", encryption_keys=(new,)) as api:
        await api.worker.run_shards()
        assert (await api.get_job(jobs[-1]))["status"] == "succeeded"
        rows = (await api.client.get(f"/v1/jobs/{jobs[-1]}/results")).json()["data"]
        assert rows[0]["entities"][0]["text"] == "Ada"
        lost = await api.client.get(f"/v1/jobs/{jobs[0]}/results")
        assert (lost.status_code, lost.json()["code"]) == (500, "internal_error")
        assert "Ada" not in lost.text
