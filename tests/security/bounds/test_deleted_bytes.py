from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis

from jobs import ledger
from jobs.ledger import Ledger
from tests.security.bounds.test_stored_bytes import (
    ENCRYPTION_KEY,
    ENDPOINTS,
    P,
    api,
    courier,
    post,
    receiver,
    server,
    store,
)
from tests.support.api import Api, running_api
from tests.support.delivering import Hands, hands
from tests.support.recount import recount, stored
from tests.support.servers.receivers import Receiver
from tests.support.servers.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

__all__ = ["api", "courier", "receiver", "server", "store"]  # fixtures


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("delivered", [False, True])
async def test_delete_leaves_a_tombstone_only(
    server: RedisServer,
    store: redis.Redis,
    tmp_path: Path,
    receiver: Receiver,
    encrypted: bool,
    delivered: bool,
) -> None:
    """Nothing that was said of a job is in the store once it is deleted, delivered or not, encrypted or not."""
    settings: dict[str, Any] = {"webhook_allow": ("127.0.0.0/8",), "webhook_allow_http": True}
    if encrypted:
        settings["encryption_keys"] = (ENCRYPTION_KEY,)
    async with running_api(server.url(1), server.url(0), tmp_path, **settings) as api:
        registered = (await api.client.post(ENDPOINTS, json={"url": receiver.url("/all")})).json()
        body = {
            "labels": ["Planted1"],
            "documents": [{"id": "Planted2", "text": "Planted1 and Planted3"}],
            "metadata": {"Planted4": "Planted5"},
            "webhook": {"url": receiver.url("/Planted6"), "secret": "whsec_UGxhbnRlZDdQbGFudGVkN1BsYW50ZWQ3"},
        }
        headers = {"Idempotency-Key": "Planted8"}
        response = await api.client.post("/v1/jobs", json=body, headers=headers)
        job = response.json()["id"]
        again = await api.client.post("/v1/jobs", json=body, headers=headers)
        assert again.json()["id"] == job
        await api.worker.run_shards()
        with hands(server.url(1), codec=api.worker.codec) as courier:
            if delivered:
                assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 2}
            else:
                assert "Planted4" in opened(store, api, job)
            assert (await api.client.delete(f"/v1/jobs/{job}")).status_code == 204
            replayed = await api.client.post("/v1/jobs", json=body, headers=headers)
            assert (replayed.status_code, replayed.json()["code"]) == (410, "job_purged")
            everything = opened(store, api, job)
            for planted in range(1, 6):
                assert f"Planted{planted}" not in everything
            if not delivered:
                assert 0 < store.pttl(P + f"ep:{response.json()['webhook']['endpoint_id']}") <= 3_600_000  # type: ignore[operator]
                assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 2}
                for sent in (*receiver.at("/all"), *receiver.at("/Planted6")):
                    assert job in sent.body.decode()
                    assert "Planted" not in sent.body.decode()
            everything = opened(store, api, job)
            assert "Planted" not in everything
            assert "UGxhbnRlZDdQ" not in everything
            keys = [key.decode() for key in store.scan_iter(f"{P}*{job}*")]
            assert sorted(keys) == sorted([f"{P}gone:{job}", *([] if delivered else [f"{P}event:{job}"])])
        assert (await api.client.delete(f"{ENDPOINTS}/{registered['id']}")).status_code == 204
        assert stored(store) == {}


def _values(store: redis.Redis, key: bytes) -> list[bytes]:
    match store.type(key):
        case b"hash":
            return [part for pair in store.hgetall(key).items() for part in pair]  # type: ignore[union-attr]
        case b"string":
            return [store.get(key) or b""]  # type: ignore[list-item]
        case b"list":
            return store.lrange(key, 0, -1)  # type: ignore[return-value]
        case b"set":
            return list(store.smembers(key))  # type: ignore[arg-type]
        case _:
            return store.zrange(key, 0, -1)  # type: ignore[return-value]


def opened(store: redis.Redis, api: Api, job: str) -> str:
    """Return all that the ledger holds, decoded by the codec where a job or endpoint allows it."""
    stored = [part for key in store.scan_iter(f"{P}*") for part in (key, *_values(store, key))]
    bindings = [f"meta:{job}", f"opts:{job}", f"in:{job}:0", f"out:{job}:0"]
    bindings += [f"ep:{key.decode().rpartition(':')[2]}" for key in store.scan_iter(f"{P}ep:*")]
    bindings += [f"att:{key.decode().rpartition(':')[2]}" for key in store.scan_iter(f"{P}att:*")]
    for value in list(stored):
        for binding in bindings:
            for blob in (value, value.partition(b"\n")[2]):
                try:
                    stored.append(api.worker.codec.decode(blob, binding))
                except Exception:  # noqa: BLE001  # most values are no blobs, or of another key
                    continue
    return b"\n".join(stored).decode("utf-8", "replace")


async def test_a_replay_shows_no_secret(api: Api, receiver: Receiver) -> None:
    """It was in the first answer; who finds key and body in a log learns nothing of it."""
    fields = {"webhook": {"url": receiver.url("/w")}, "documents": [{"text": "Ada"}]}
    first = (await post(api, headers={"Idempotency-Key": "k"}, **fields)).json()
    again = (await post(api, headers={"Idempotency-Key": "k"}, **fields)).json()
    assert first["webhook"]["secret"].startswith("whsec_")
    assert again == {**first, "webhook": {**first["webhook"], "secret": None}}


async def test_a_jobs_own_endpoint_goes_soon_after_its_delivery(
    api: Api, store: redis.Redis, receiver: Receiver, courier: Hands
) -> None:
    """With the delivery and its event, in an hour; its results stay."""
    job = (await post(api, webhook={"url": receiver.url("/w")})).json()
    await api.worker.run_shards()
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 1}
    for key in (f"ep:{job['webhook']['endpoint_id']}", f"event:{job['id']}"):
        assert 0 < store.pttl(P + key) <= 3_600_000  # type: ignore[operator]
    [delivery] = store.scan_iter(f"{P}dlv:*")
    assert 0 < store.pttl(delivery) <= 3_600_000  # type: ignore[operator]
    assert (await api.client.get(f"/v1/jobs/{job['id']}/results")).status_code == 200


async def test_deliveries_have_their_metadata_after_results_expired(
    api: Api, store: redis.Redis, receiver: Receiver, courier: Hands
) -> None:
    """Only DELETE erases it: a receiver that was away for longer hears all of it."""
    await api.client.post(ENDPOINTS, json={"url": receiver.url("/all")})
    job = await api.submit("Ada", metadata={"order": "A-1"})
    await api.worker.run_shards()
    assert Ledger(store).run(ledger.purge_job(job, erase=False)) == "purged"
    assert stored(store) == recount(store)
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 1}
    [sent] = receiver.at("/all")
    assert b'"order":"A-1"' in sent.body
