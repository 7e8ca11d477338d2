"""Entities, relations and classifications from a request to its results: gateway, ledger, worker, result cache."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.codec import Codec
from jobs.ledger import Ledger
from jobs.observability.metrics import WorkerMetrics
from tests.support.api import Api, running_api
from tests.support.engine import ALL_TASKS, FakeEngine
from tests.support.intake import InProcessWorker, running_worker
from worker.shards.result_cache import ResultCache

pytestmark = pytest.mark.anyio

ASKED: dict[str, Any] = {
    "labels": ["person", "place"],
    "relations": {"knows": {"threshold": 0.1}, "lives in": {"head": ["person"], "tail": ["place"]}},
    "classifications": {
        "topic": ["sport", "politics", "science"],
        "tone": {"labels": {"calm": None, "exaggerated": "loud"}, "multi_label": True, "threshold": 0.8},
    },
}
LONG = "Ada Lovelace met Bob in Rome and wrote to Eve . " * 60


@dataclass
class Service:
    """A gateway and a worker on the same ledger."""

    api: Api
    worker: InProcessWorker

    async def submit(self, documents: list[dict[str, Any]], **fields: Any) -> str:
        """Submit a job that asks everything; return its URL."""
        response = await self.api.client.post("/v1/jobs", json={**ASKED, "documents": documents, **fields})
        assert response.status_code == 202, response.text
        url: str = response.json()["urls"]["self"]
        return url

    async def run_shards(self) -> None:
        """Run all queued shards."""
        while messages := await self.api.worker.take_messages():
            for message in messages:
                outcome = await asyncio.to_thread(self.worker.runner.extract_shard, message)
                assert outcome in ("stored", "gone")  # gone: its job was cancelled

    async def read_results(self, url: str) -> list[dict[str, Any]]:
        """Run the job; return its results without the number of attempts."""
        await self.run_shards()
        response = await self.api.client.get(f"{url}/results", headers={"Accept": "application/x-ndjson"})
        return [json.loads(line) | {"attempts": 1} for line in response.text.splitlines()]


@asynccontextmanager
async def running_service(
    ledger_url: str, broker_url: str, folder: Path, engine: FakeEngine
) -> AsyncIterator[Service]:
    """Run a gateway, and a worker with this engine and a result cache."""
    codec = Codec()

    def make_cache(store: Ledger, metrics: WorkerMetrics) -> ResultCache:
        return ResultCache(
            store, codec, 600, secret=b"", model="fake", spec=engine.spec, sentence_pass=True, metrics=metrics
        )

    async with running_api(ledger_url, broker_url, folder) as api:
        with running_worker(ledger_url, broker_url, engine, codec, make_cache) as worker:
            yield Service(api, worker)


def check_answers(result: dict[str, Any]) -> None:
    """Check that a result's answers fit to each other and to what was asked."""
    labels = [entity["label"] for entity in result["entities"]]
    for relation in result["relations"]:
        ends = labels[relation["head"]], labels[relation["tail"]]
        assert relation["head"] != relation["tail"]
        assert relation["label"] == "knows" or ends == ("person", "place")
    topic = result["classifications"]["topic"]
    assert [score["label"] for score in topic] == ["politics", "science", "sport"]  # the longest first
    assert sum(score["score"] for score in topic) == pytest.approx(1)
    assert [score["label"] for score in result["classifications"]["tone"]] == ["exaggerated"]


async def test_a_job_of_all_tasks_is_answered(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """Page by page, line by line and as tables; again after a retry, and from the cache, and redacted."""
    documents = [
        {"text": "Ada knows Bob from Rome"},
        {"text": LONG},
        {"text": "nobody"},
        {"id": "own", "text": "Eve", "relations": [], "classifications": {"size": ["small"]}},
        {"text": ""},
        {"text": "Ada of Rio and Bob", "labels": ["thing"], "classifications": {}},
    ]
    async with running_service(ledger_url, broker_url, tmp_path, FakeEngine(ALL_TASKS)) as service:
        client = service.api.client
        first = await service.submit(documents)
        assert (await client.post(f"{first}/cancel")).json()["status"] == "cancelled"
        url = (await client.post(f"{first}/retry")).json()["urls"]["self"]
        results = await service.read_results(url)
        assert [result["status"] for result in results] == [*["succeeded"] * 4, "failed", "succeeded"]
        for result in results[:3]:
            check_answers(result)
        assert results[1]["windows"] > 1
        assert {relation["label"] for relation in results[1]["relations"]} == {"knows", "lives in"}
        assert (results[2]["entities"], results[2]["relations"]) == ([], [])
        assert "relations" not in results[3]
        assert results[3]["classifications"] == {"size": [{"label": "small", "score": 1.0}]}
        assert not {"relations", "classifications"} & results[4].keys()
        assert [relation["label"] for relation in results[5]["relations"]] == ["knows"] * 2  # of any labels

        pages = [(await client.get(f"{url}/results", params={"limit": 1})).json()]
        while cursor := pages[-1]["next_cursor"]:
            pages.append((await client.get(f"{url}/results", params={"limit": 1, "cursor": cursor})).json())
        assert [result | {"attempts": 1} for page in pages for result in page["data"]] == results
        table = await client.get(f"{url}/results", params={"table": "relations"}, headers={"Accept": "text/csv"})
        rows = [row for row in csv.DictReader(io.StringIO(table.text, newline="")) if row["relation"]]
        entities = {str(result["index"]): result["entities"] for result in results}
        assert len(rows) == sum(len(result.get("relations", ())) for result in results)
        assert all(entities[row["index"]][int(row["head"])]["text"] == row["head_text"] for row in rows)

        assert await service.read_results(await service.submit(documents)) == results
        assert service.worker.metrics.cached.labels("hit")._value.get() == 5

        redacted = await service.read_results(await service.submit(documents, options={"redact": True}))
        for plain, hidden in zip(results, redacted, strict=True):
            answers = ("relations", "classifications")
            assert [hidden.get(name) for name in answers] == [plain.get(name) for name in answers]
        assert "Ada" not in json.dumps(redacted)
        assert redacted[0]["redacted_text"].endswith("]")


async def test_a_worker_fails_the_documents_that_its_model_cannot_do(
    ledger_url: str, broker_url: str, tmp_path: Path
) -> None:
    """The gateway accepts them as long as no worker has announced its tasks; the others are answered."""
    documents = [{"text": "Ada"}, {"text": "Bob", "relations": [], "classifications": {}}]
    async with running_service(ledger_url, broker_url, tmp_path, FakeEngine()) as service:
        failed, done = await service.read_results(await service.submit(documents))
        assert (failed["status"], failed["error"]["code"]) == ("failed", "unsupported_task")
        assert [entity["text"] for entity in done["entities"]] == ["Bob"]
