"""Results that decode to far more than their stored size, read from a real gateway that stays small and fast."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest
import redis

from jobs import api_keys, ledger
from jobs.ledger import Ledger, associated_data
from jobs.schema import DocumentResult, DocumentStatus, Entity
from jobs.shards import encode_results
from tests.support.ledger import CODEC, new_job
from tests.support.processes.gateways import running_gateway
from tests.support.processes.harness import Child
from tests.support.servers.redis_servers import RedisServer

pytestmark = [pytest.mark.alone, pytest.mark.anyio]

MIB = 1 << 20
MOST_RSS = 256 * MIB
"""Half of what the chart gives a gateway."""
QUICK_S = 5.0
"""Longest /livez with all these readers, also where others use the processors; 0.2 s on two idle cores."""
BIG, WIDE, SMALL, FORMULAS = (f"job_{letter * 26}" for letter in "bwsf")
TEXT = "a " * 500_000
DOCUMENTS = 100
LINES = {"Accept": "application/x-ndjson"}
CSV = {"Accept": "text/csv"}


@dataclass(frozen=True)
class ResultsGateway:
    """A gateway with jobs of two tenants."""

    gateway: Child
    key: str
    other: str

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        """Return a client of the tenant with the large results, or of another."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.AsyncClient(base_url=self.gateway.url, headers=headers, timeout=60, trust_env=False)


@pytest.fixture(scope="module")
def service(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsGateway]:
    """Run a gateway whose ledger holds anything that a worker may have stored."""
    redis_server.flush()
    folder = tmp_path_factory.mktemp("results")
    with redis.Redis.from_url(redis_server.url(1)) as client:
        store = Ledger(client)
        put(store, BIG, [result(n, text=TEXT) for n in range(DOCUMENTS)])
        entities = tuple(Entity(n, n + 9, f"text {n}", "label", 0.5) for n in range(120_000))
        put(store, WIDE, [result(0, entities=entities), result(1)])
        put(store, SMALL, [result(0)], tenant="umbrella")
        put(store, FORMULAS, [result(0, id="=1+1", entities=(Entity(0, 9, "+47\u2028", "@SUM(A1)", 0.5),))])
    with running_gateway(folder, redis_server.url(1), redis_server.url(0)) as (gateway, key):
        yield ResultsGateway(
            gateway, key, api_keys.create_key(folder / "keys.json", tenant="umbrella", role="viewer").key
        )


def result(index: int, **fields: Any) -> DocumentResult:
    """Return a succeeded document."""
    return DocumentResult(index, fields.pop("id", str(index)), DocumentStatus.SUCCEEDED, **fields)


def put(store: Ledger, job: str, results: list[DocumentResult], tenant: str = "acme") -> None:
    """Store a job that has ended, each result in a shard as a worker stores it."""
    pending = list(store.run(ledger.create_job(new_job(job, [1] * len(results), tenant=tenant))).publish)
    while pending:
        message = pending.pop()
        assert store.run(ledger.claim_shard(message, "n", "w", "rev")).kind == "run"
        blob = CODEC.encode(encode_results([results[message.shard]]), associated_data("out", job, message.shard))
        pending += store.run(
            ledger.complete_shard(message, "n", ledger.ShardResult(blob, b"", 1, 0, {}, {}))
        ).publish


@dataclass
class Measurements:
    """Measured values."""

    rss: int = 0
    livez_s: float = 0.0


@asynccontextmanager
async def watched(service: ResultsGateway) -> AsyncIterator[Measurements]:
    """Measure the gateway's memory and its response time while the block runs."""
    seen, process = Measurements(), psutil.Process(service.gateway.process.pid)

    async def sample() -> None:
        async with service.client() as client:
            while True:
                began = time.monotonic()
                assert (await client.get("/livez")).status_code == 200
                seen.livez_s = max(seen.livez_s, time.monotonic() - began)
                seen.rss = max(seen.rss, process.memory_info().rss)
                await asyncio.sleep(0.01)

    looking = asyncio.create_task(sample())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def size_of(service: ResultsGateway, path: str, headers: dict[str, str], **params: Any) -> int:
    """Bytes of an answer, read to its end and not kept."""
    size = 0
    async with service.client() as client, client.stream("GET", path, headers=headers, params=params) as response:
        assert response.status_code == 200
        async for piece in response.aiter_raw():
            size += len(piece)
    return size


async def test_readers_of_large_results_cost_little_memory(service: ResultsGateway) -> None:
    """Pages, lines and CSV of 100 MB from 100 kB stored, by several readers at once, cost little."""
    path = f"/v1/jobs/{BIG}/results"
    async with watched(service) as seen:
        sizes = await asyncio.gather(
            *(size_of(service, path, LINES) for _ in range(3)),
            *(size_of(service, path, {}, limit=100) for _ in range(6)),
            size_of(service, path, CSV),
            *(size_of(service, f"/v1/jobs/{BIG}/documents/{n}", {}) for n in range(4)),
        )
    assert min(sizes[:3]) > DOCUMENTS * len(TEXT)
    assert all(len(TEXT) < size <= 8 * MIB + 1000 for size in sizes[3:9])
    assert seen.rss < MOST_RSS
    assert seen.livez_s < QUICK_S


async def test_pages_of_bounded_size_join_to_the_whole(service: ResultsGateway) -> None:
    """A page holds as many results as fit in it, and its cursor goes on with the next one."""
    indexes: list[int] = []
    cursor: str | None = None
    async with service.client() as client:
        while cursor is not None or not indexes:
            params = {"limit": "100", **({"cursor": cursor} if cursor else {})}
            response = await client.get(f"/v1/jobs/{BIG}/results", params=params)
            page = response.json()
            assert 0 < len(response.content) <= 8 * MIB + 1000
            assert all(row["text"] == TEXT for row in page["data"])
            indexes += [row["index"] for row in page["data"]]
            cursor = page["next_cursor"]
            assert page["complete"] is True
    assert indexes == list(range(DOCUMENTS))


async def test_readers_who_do_not_read_hold_nothing_decoded(service: ResultsGateway) -> None:
    """Connections that take the head of a large answer and stop cost a socket's buffer each, and hold up nobody."""
    async with watched(service) as seen, stalled(service, BIG, 60), stalled(service, WIDE, 8):
        for _ in range(3):
            began = time.monotonic()
            async with service.client(service.other) as client:
                assert (await client.get(f"/v1/jobs/{SMALL}/results")).json()["complete"] is True
            assert time.monotonic() - began < 2 * QUICK_S
        assert await size_of(service, f"/v1/jobs/{BIG}/results", {}, limit=3) > 3 * len(TEXT)
        assert await size_of(service, f"/v1/jobs/{BIG}/documents/7", {}) > len(TEXT)
    assert seen.rss < MOST_RSS
    assert seen.livez_s < QUICK_S


@asynccontextmanager
async def stalled(service: ResultsGateway, job: str, count: int) -> AsyncIterator[None]:
    """Open connections that request a job's lines and do not read them."""
    host, _, port = service.gateway.url.removeprefix("http://").partition(":")
    head = (
        f"GET /v1/jobs/{job}/results HTTP/1.1\r\nHost: {host}\r\nAccept: application/x-ndjson\r\n"
        f"Authorization: Bearer {service.key}\r\n\r\n"
    )
    connections = [await asyncio.open_connection(host, int(port), limit=1024) for _ in range(count)]
    try:
        for _, writer in connections:
            writer.write(head.encode())
        await asyncio.gather(*(reader.readexactly(100) for reader, _ in connections))
        yield
    finally:
        for _, writer in connections:
            writer.transport.abort()


async def test_a_document_of_many_entities_is_read_in_parts(service: ResultsGateway) -> None:
    """120,000 entities, 9 MB of JSON: as a page, lines, CSV and alone, by several readers at once."""
    results, document = f"/v1/jobs/{WIDE}/results", f"/v1/jobs/{WIDE}/documents/0"
    async with watched(service) as seen:
        page, *_ = await asyncio.gather(
            size_of(service, results, {}, limit=1),
            *(size_of(service, results, headers) for headers in (LINES, CSV, LINES)),
            *(size_of(service, document, {}) for _ in range(3)),
        )
    assert page > 8 * MIB
    assert seen.rss < MOST_RSS + 64 * MIB
    assert seen.livez_s < QUICK_S
    async with service.client() as client:
        whole = (await client.get(results)).json()
        assert [len(row["entities"]) for row in whole["data"]] == [120_000]  # a page holds one, whatever its size
        rest = (await client.get(results, params={"cursor": whole["next_cursor"]})).json()
        assert ([row["index"] for row in rest["data"]], rest["next_cursor"]) == ([1], None)
        lines = [json.loads(line) for line in (await client.get(results, headers=LINES)).text.splitlines()]
        assert lines == whole["data"] + rest["data"]
        assert (await client.get(document)).json() == whole["data"][0]
        rows = list(csv.reader(io.StringIO((await client.get(results, headers=CSV)).text, newline="")))
        assert len(rows) == 1 + 120_000 + 1


def cursor(text: str) -> str:
    """Return a cursor that a client invented."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("made_up", "status"),
    [
        (cursor("r1:0:-1"), 400),
        (cursor("r1:-1:0"), 400),
        (cursor("r1:0:9999999999"), 400),
        (cursor("r1:0:0:5"), 400),
        (cursor("r1:1e5:0"), 400),
        (cursor("j1:5:job_" + "s" * 26), 400),
        ("\u0000", 400),
        (cursor("r1:999999999:999999999"), 200),
        (cursor("r1:99:7"), 200),
    ],
)
async def test_a_cursor_that_was_made_up_finds_nothing(service: ResultsGateway, made_up: str, status: int) -> None:
    """Negative, huge, foreign or damaged: refused, or the end of the results."""
    for headers in ({}, LINES, CSV):
        async with service.client() as client:
            url, params = f"/v1/jobs/{BIG}/results", {"cursor": made_up}
            response = await client.get(url, params=params, headers=headers)
        assert response.status_code == status
        assert len(response.content) < 200 if status == 200 else response.json()["code"] == "bad_cursor"


async def test_another_tenants_cursor_and_job_stay_apart(service: ResultsGateway) -> None:
    """A cursor is a place, no permission."""
    async with service.client(service.other) as client:
        response = await client.get(f"/v1/jobs/{BIG}/results", params={"cursor": cursor("r1:1:0")})
        assert (response.status_code, response.json()["code"]) == (404, "job_not_found")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["'=1+1", "'+47\u2028", "'@SUM(A1)"]),
        ({"csv": "safe", "bom": "true"}, ["'=1+1", "'+47\u2028", "'@SUM(A1)"]),
        ({"csv": "raw"}, ["=1+1", "+47\u2028", "@SUM(A1)"]),
    ],
)
async def test_no_cell_runs_as_a_formula(
    service: ResultsGateway, params: dict[str, str], expected: Iterable[str]
) -> None:
    """Ids, texts and labels come from clients' clients: in CSV they are text, numbers are numbers."""
    async with service.client() as client:
        response = await client.get(f"/v1/jobs/{FORMULAS}/results", headers=CSV, params=params)
        assert (await client.get(f"/v1/jobs/{FORMULAS}/results", params={"csv": "no"})).status_code == 422
    assert response.content.startswith(b"\xef\xbb\xbf") == ("bom" in params)
    assert '"' in response.text.split("47")[0][-3:]  # characters that some readers take for line ends are quoted
    [_, row] = csv.reader(io.StringIO(response.content.decode("utf-8-sig"), newline=""))
    assert [row[1], row[5], row[6]] == expected
    assert [*row[3:5], row[7]] == ["0", "9", "0.5"]
