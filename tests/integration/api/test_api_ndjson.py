from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Scope

from gateway.submission import staging
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
async def api(ledger_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """Run a gateway with small limits, so that they are reached quickly."""
    async with running_api(
        ledger_url, broker_url, tmp_path, max_ndjson_bytes=2_000_000, max_ndjson_documents=500
    ) as running:
        yield running


def lines(documents: Iterable[dict[str, Any]], **head: Any) -> bytes:
    """Return a body of these documents, one per line."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in ({"labels": ["Ada"], **head}, *documents))


async def submit(api: Api, body: bytes, query: str = "", **headers: str) -> httpx.Response:
    """Send a body in pieces, as a client does that makes it on the way."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 50_000):
            yield body[at : at + 50_000]

    return await api.client.post(f"/v1/jobs{query}", content=pieces(), headers={**NDJSON, **headers})


async def leftovers(api: Api) -> dict[str, Any]:
    """Return the keys that a refused submission must not leave in Redis."""
    keys = [key for name in ("in", "ids", "idem", "job") for key in await api.store.keys(f"*:{name}:*")]
    reserve = int(await api.store.hget("{gleaner}:sys", "reserve") or 0)  # type: ignore[misc]
    return {"keys": keys, "reserve": reserve, "staging": await api.store.zcard("{gleaner}:staging")}


NOTHING = {"keys": [], "reserve": 0, "staging": 0}


async def test_a_job_of_lines_is_a_job(api: Api) -> None:
    """Head, ids, own labels; many shards; results in order; each document found by its id."""
    documents = [{"id": f"d{n}", "text": f"Ada {n} " + "x" * 3000} for n in range(300)]
    documents[7]["labels"] = ["x"]  # type: ignore[assignment]
    response = await submit(api, lines(documents, metadata={"a": "b"}))

    assert response.status_code == 202, response.text
    job = response.json()
    assert (job["counts"]["total"], job["metadata"], job["usage"]["characters"]) == (
        300, {"a": "b"}, sum(len(d["text"]) for d in documents),
    )  # fmt: skip
    assert {**await api.get_job(job["id"]), "queue_position": None} == job
    await api.worker.run_shards()

    listed = await api.client.get(job["urls"]["results"], headers={"Accept": "application/x-ndjson"})
    results = [json.loads(line) for line in listed.text.splitlines()]
    assert [(result["index"], result["id"]) for result in results] == [(n, f"d{n}") for n in range(300)]
    assert [entity["label"] for entity in results[7]["entities"]] == ["x"]
    assert (await api.client.get(f"{job['urls']['self']}/documents/d299")).json()["index"] == 299
    assert await api.store.zcard("{gleaner}:staging") == 0


async def test_a_compressed_stream_is_read(api: Api) -> None:
    """A compressed body is decompressed while it arrives."""
    response = await submit(api, gzip.compress(lines([{"text": "Ada"}])), **{"Content-Encoding": "gzip"})

    assert response.status_code == 202


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (lines([{"text": "Ada"}] * 100) + b"nonsense\n" + lines([{"text": "Ada"}] * 100), 400, "malformed_json"),
        (lines([{"text": "x" * 4000}] * 400 + [{"txt": ""}]), 422, "validation_failed"),
        (lines([{"text": "x"}] * 501), 413, "too_many_documents"),
        (lines([{"text": "x" * 5000}] * 420), 413, "payload_too_large"),
        (lines([], model="nowhere"), 422, "unknown_model"),
    ],
)
async def test_a_refused_stream_leaves_nothing(api: Api, body: bytes, status: int, code: str) -> None:
    """Whatever was staged before the fault is gone, its reservation and its Idempotency-Key too."""
    response = await submit(api, body, **{"Idempotency-Key": "k"})

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert await leftovers(api) == NOTHING
    assert (await submit(api, lines([{"text": "Ada"}]), **{"Idempotency-Key": "k"})).status_code == 202


async def test_a_bad_line_can_fail_alone(api: Api) -> None:
    """By choice of the query; the reject is the default, and any other word is refused."""
    body = lines([{"text": "Ada"}]) + b"nonsense\n" + b'{"text":"Ada"}'
    assert (await submit(api, body)).json()["errors"][0]["pointer"] == "line:3"
    assert (await submit(api, body, "?on_bad_line=ignore")).status_code == 422
    response = await submit(api, body, "?on_bad_line=fail_document")
    await api.worker.run_shards()

    job = await api.get_job(response.json()["id"])
    assert (job["status"], job["error_summary"]) == (
        "partially_succeeded", [{"code": "invalid_document", "count": 1}],
    )  # fmt: skip


async def test_a_repeated_stream_makes_one_job(api: Api) -> None:
    """The hash of the body is compared at its end: the same bytes get the first answer, others a refusal."""
    body = lines([{"text": f"Ada {n}"} for n in range(100)])
    key = {"Idempotency-Key": "k"}
    first, again = await submit(api, body, **key), await submit(api, body, **key)

    assert (first.status_code, again.status_code, first.content) == (202, 202, again.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = await submit(api, body + b"\n", **key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    choice = await submit(api, body, "?on_bad_line=fail_document", **key)
    assert choice.json()["code"] == "idempotency_key_reused"
    as_json = await api.client.post("/v1/jobs", json={"labels": ["a"], "documents": [{"text": "b"}]}, headers=key)
    assert as_json.json()["code"] == "idempotency_key_reused"
    assert len((await api.client.get("/v1/jobs")).json()["data"]) == 1


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shard is staged at once, not when there is a batch of them."""
    monkeypatch.setattr(staging, "_BATCH_SHARDS", 1)


class Sender:
    """An ASGI client that sends a body in parts under the test's control, and can disconnect."""

    def __init__(self, api: Api, **headers: str) -> None:
        self.status = 0
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        all_headers = {"x-api-key": api.keys["submitter"], "content-type": "application/x-ndjson", **headers}
        scope: Scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/v1/jobs", "raw_path": b"", "root_path": "", "query_string": b"",
            "client": ("127.0.0.1", 1), "server": ("gateway", 80), "state": {},
            "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
        }  # fmt: skip
        self.task = asyncio.create_task(api.app(scope, self._queue.get, self._send))

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)

    def send(self, body: bytes, *, more: bool = True) -> None:
        """Send a piece."""
        self._queue.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        """Close the connection."""
        self._queue.put_nowait({"type": "http.disconnect"})


async def staged_shards(api: Api) -> int:
    """Return the number of staged shards."""
    keys = await api.store.keys("*:in:*")
    return await api.store.hlen(keys[0]) if keys else 0  # type: ignore[misc,no-any-return]


@pytest.mark.usefixtures("eager")
async def test_a_client_that_goes_away_leaves_no_job(api: Api) -> None:
    """Nothing was visible, and nothing stays."""
    sender = Sender(api, **{"idempotency-key": "k"})
    sender.send(lines([{"text": "Ada " + "x" * 2000} for _ in range(450)]))
    while not await staged_shards(api):  # noqa: ASYNC110  # it is the server's state, which sets no event here
        await asyncio.sleep(0.005)
    assert (await api.client.get("/v1/jobs")).json()["data"] == []
    sender.leave()
    await sender.task

    assert sender.status == 0
    assert await leftovers(api) == NOTHING


@pytest.mark.usefixtures("eager")
async def test_a_slow_stream_keeps_its_stage_and_its_key(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are renewed while it comes; a second request with the key waits meanwhile."""
    monkeypatch.setattr(staging, "KEEP_EVERY_S", 0.05)
    sender = Sender(api, **{"idempotency-key": "k"})
    sender.send(lines([{"text": "Ada"} for _ in range(100)]))
    sender.send(b" " * 300_000)
    while not await staged_shards(api):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    ((name,), (idem,)) = await api.store.keys("*:in:*"), await api.store.keys("*:idem:*")
    for key in (name, idem):
        await api.store.pexpire(key, 1000)
        while await api.store.pttl(key) < 2000:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    second = await submit(api, lines([{"text": "Ada"}]), **{"Idempotency-Key": "k"})
    assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_progress")

    sender.send(b'\n{"text":"Ada"}', more=False)
    await sender.task
    assert sender.status == 202
    (job,) = (await api.client.get("/v1/jobs")).json()["data"]
    assert job["counts"]["total"] == 101


@pytest.mark.usefixtures("eager")
async def test_a_stage_that_was_lost_is_no_job(api: Api) -> None:
    """The store forgot it (a fail-over): 503, to be sent again; never a job with holes."""
    sender = Sender(api)
    sender.send(lines([{"text": "Ada"} for _ in range(64)]) + b" " * 300_000)
    sender.send(b"")
    while not await staged_shards(api):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    await api.store.delete(*await api.store.keys("*:in:*"))
    sender.send(b'\n{"text":"Ada"}', more=False)
    await sender.task

    assert sender.status == 503
    assert (await api.client.get("/v1/jobs")).json()["data"] == []
