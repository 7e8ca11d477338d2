"""Long-polls: woken by pub/sub, right without it, ended by disconnects and shutdown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Scope

from gateway.access import Caller
from gateway.errors import GatewayError
from gateway.reading.job_waiter import Condition, Waiter
from jobs.api_keys import Role
from jobs.ledger import Call, job_channel, store
from jobs.redis.clients import connect_async
from jobs.schema import Job
from tests.support.api import Api, running_api
from tests.support.servers.redis_servers import RedisServer

pytestmark = pytest.mark.anyio


async def becomes(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once it holds; the test's own timeout ends it otherwise."""
    while not await condition():  # noqa: ASYNC110  # it is the server's state, which sets no event here
        await asyncio.sleep(0.005)


async def listeners(api: Api, job_id: str) -> int:
    """Return the number of connections that Redis counts on a job's channel."""
    ((_, count),) = await api.store.pubsub_numsub(job_channel(job_id))
    return int(count)


async def test_a_long_poll_is_answered_when_the_job_ends(api: Api) -> None:
    """By the push, long before the wait is over or the next look would have come."""
    job_id = await api.submit("Ada")
    poll = asyncio.create_task(api.get_job(job_id, wait=60))
    await becomes(lambda: _is(listeners(api, job_id), 1))

    began = time.monotonic()
    await api.worker.run_shards()
    job = await poll

    assert job["status"] == "succeeded"
    assert time.monotonic() - began < 1
    await becomes(lambda: _is(listeners(api, job_id), 0))


async def test_many_long_polls_share_one_subscription(api: Api) -> None:
    """A hundred waiters cost the server one listener, and all are answered."""
    job_id = await api.submit("Ada")
    polls = [asyncio.create_task(api.get_job(job_id, wait=60)) for _ in range(100)]
    await becomes(lambda: _is(listeners(api, job_id), 1))
    await api.worker.run_shards()

    assert {job["status"] for job in await asyncio.gather(*polls)} == {"succeeded"}


async def test_a_long_poll_on_an_ended_job_does_not_wait(api: Api) -> None:
    """Nor does it subscribe."""
    job_id = await api.submit("Ada")
    await api.worker.run_shards()

    began = time.monotonic()
    assert (await api.get_job(job_id, wait=60))["status"] == "succeeded"
    assert time.monotonic() - began < 1


async def test_a_long_poll_ends_when_its_time_is_over(api: Api) -> None:
    """With the job as it is then."""
    job_id = await api.submit("Ada")

    began = time.monotonic()
    assert (await api.get_job(job_id, wait=1))["status"] == "queued"
    assert 0.9 < time.monotonic() - began < 3


async def test_a_job_purged_while_waited_for_is_410(api: Api) -> None:
    """The waiter learns of it at once, by way of the same channel."""
    job_id = await api.submit("Ada")
    messages = await api.worker.take_messages()
    await api.worker.claim_shard(messages[0])
    services = api.app.state.services
    caller = Caller("k", "acme", Role.VIEWER)

    async def read() -> Job:
        job: Job = await services.jobs.get_job(caller, job_id)
        return job

    waiting = asyncio.create_task(services.waiter.wait_until(job_id, 60, Condition(read, lambda _: False)))
    await becomes(lambda: _is(listeners(api, job_id), 1))
    await api.worker.finish_shard(messages[0])
    assert (await api.client.delete(f"/v1/jobs/{job_id}")).status_code == 204

    with pytest.raises(GatewayError, match="job_purged"):
        await waiting


async def test_prefer_wait_answers_200_with_the_ended_job(api: Api) -> None:
    """And says that it was honoured."""
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}
    response, _ = await asyncio.gather(
        api.client.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}), api.worker.run_next_shards()
    )

    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert response.headers["preference-applied"] == "wait=30"
    assert response.headers["location"] == response.json()["urls"]["self"]


async def test_prefer_wait_answers_202_when_it_takes_longer(api: Api) -> None:
    """The client goes on with the job."""
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}
    response = await api.client.post("/v1/jobs", json=body, headers={"Prefer": "wait=1"})

    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert response.headers["preference-applied"] == "wait=1"


async def test_a_client_that_goes_away_ends_its_wait(api: Api) -> None:
    """No subscription and no task is left behind, and nothing is sent."""
    job_id = await api.submit("Ada")
    gone = asyncio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"/v1/jobs/{job_id}",
        "raw_path": b"",
        "root_path": "",
        "query_string": b"wait=60",
        "headers": [(b"x-api-key", api.keys["viewer"].encode())],
        "client": ("127.0.0.1", 1),
        "server": ("gateway", 80),
        "state": {},
    }
    request = asyncio.create_task(api.app(scope, receive, send))
    await becomes(lambda: _is(listeners(api, job_id), 1))
    gone.set()
    await request

    assert sent == []
    await becomes(lambda: _is(listeners(api, job_id), 0))


async def test_a_draining_gateway_answers_its_long_polls_at_once(api: Api) -> None:
    """A shutdown is not held up by clients that wait."""
    job_id = await api.submit("Ada")
    poll = asyncio.create_task(api.get_job(job_id, wait=60))
    await becomes(lambda: _is(listeners(api, job_id), 1))

    began = time.monotonic()
    api.app.state.services.waiter.drain()
    assert (await poll)["status"] == "queued"
    assert time.monotonic() - began < 1


@asynccontextmanager
async def recorded_calls(api: Api) -> AsyncIterator[list[str]]:
    """Yield the ledger scripts that the gateway runs for clients, once it is subscribed."""
    services, scripts = api.app.state.services, list[str]()
    asking = services.ledger.run

    async def run(call: Call[Any]) -> Any:
        if call.script in ("create_job", "read_page", "read_job"):
            scripts.append(call.script)
        return await asking(call)

    services.ledger.run = run
    await becomes(lambda: _reached(lambda: services.waiter._receives_announcements))
    yield scripts
    services.ledger.run = asking


async def test_extract_listens_to_no_channel_of_its_own(api: Api) -> None:
    """The job names the channel of the process that made it, and its results come with the word of its end."""
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}
    async with recorded_calls(api) as scripts:
        subscribed = await api.store.pubsub_channels()
        extracting = asyncio.create_task(api.client.post("/v1/extract", json=body))
        await becomes(lambda: _reached(lambda: "create_job" in scripts))
        assert await api.store.pubsub_channels() == subscribed
        await api.worker.run_next_shards()
        response = await extracting

    assert response.json()["results"][0]["entities"][0]["text"] == "Ada"
    assert scripts == ["create_job"]


@pytest.mark.parametrize("sealed", [False, True])
async def test_extract_answers_what_a_look_would_find(
    ledger_url: str, broker_url: str, tmp_path: Path, sealed: bool
) -> None:
    """Also where the store is encrypted, where documents failed, and with the job's metadata."""
    settings = {"encryption_keys": (base64.b64encode(bytes(32)).decode(),)} if sealed else {}
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}, {"text": ""}], "metadata": {"of": "Zürich"}}
    async with running_api(ledger_url, broker_url, tmp_path, **settings) as api, recorded_calls(api) as scripts:
        response, _ = await asyncio.gather(api.client.post("/v1/extract", json=body), api.worker.run_next_shards())
        assert scripts == ["create_job"]
        answer = response.json()
        assert answer["job"] == await api.get_job(answer["job"]["id"])
        assert answer["job"]["counts"]["failed"] == 1
        assert answer["results"] == (await api.client.get(answer["job"]["urls"]["results"])).json()["data"]


@pytest.mark.parametrize("worker", ["that tells no results", "whose words are another's"])
async def test_extract_reads_what_it_is_not_told(api: Api, monkeypatch: pytest.MonkeyPatch, worker: str) -> None:
    """An older worker announces the id alone, a newer one perhaps in other words: a hint, as every message."""
    old, new = "changed(id, told)\nreturn", "changed(id)\nreturn"
    if worker == "whose words are another's":
        old, new = "{ended, ", "{"
    load_script = store.load_script

    def load(name: str) -> store.Script:
        source = load_script(name).source
        if name == "complete_shard":
            assert old in source
            source = source.replace(old, new)
        return store.Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())

    monkeypatch.setattr(store, "load_script", load)
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}
    async with recorded_calls(api) as scripts:
        response, _ = await asyncio.gather(api.client.post("/v1/extract", json=body), api.worker.run_next_shards())

    assert response.json()["results"][0]["entities"][0]["text"] == "Ada"
    assert scripts == ["create_job", "read_page"]


async def test_what_a_stranger_announces_ends_no_wait(api: Api) -> None:
    """Announcements about a job that has not ended are checked in the ledger and ignored."""
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}
    name = job_channel(api.app.state.services.waiter._name)
    async with recorded_calls(api) as scripts:
        extracting = asyncio.create_task(api.client.post("/v1/extract", json=body))
        await becomes(lambda: _is(api.store.zcard("{gleaner}:jobs:acme"), 1))
        job_id: Any = (await api.store.zrange("{gleaner}:jobs:acme", 0, -1))[0]
        for words in (b"\xff\xfe", b"job_0\nword", job_id + b"\nword", job_id + b"\n" + bytes(40)):
            await api.store.publish(name, words)
        await becomes(lambda: _reached(lambda: "read_page" in scripts))
        assert not extracting.done()
        await api.worker.run_shards()
        response = await extracting

    assert response.json()["results"][0]["entities"][0]["text"] == "Ada"


async def test_a_purge_right_behind_the_end_is_seen(ledger_url: str) -> None:
    """The announced end is forgotten with the job's next change."""
    client = connect_async(ledger_url, 2, "test")
    waiter = Waiter(client, reread_s=3600)
    waiter.start()

    async def read() -> bool:
        return True

    admin = connect_async(ledger_url, 2, "test")
    await becomes(lambda: _reached(lambda: waiter._receives_announcements))
    async with waiter.watch_completion("job") as expected:
        following = waiter.follow_job("job", read, 30)
        assert await anext(following)
        await admin.publish(job_channel(waiter._name), b"job\nresults")
        await becomes(lambda: _reached(lambda: expected.inline_results == b"results"))
        await admin.publish(job_channel("job"), b"succeeded")
        await becomes(lambda: _reached(lambda: expected.inline_results == b""))
    await waiter.stop()
    await client.aclose()
    await admin.aclose()


async def test_an_expected_end_whose_message_was_lost_is_found(ledger_url: str) -> None:
    """Within about `reread_s`, as for every other wait."""
    waiter = Waiter(connect_async(ledger_url, 2, "test"), reread_s=0.1)
    waiter.start()

    async def read() -> bool:
        return True

    await becomes(lambda: _reached(lambda: waiter._receives_announcements))
    async with waiter.watch_completion("job") as expected:
        assert expected.channel
        assert await waiter.wait_until("job", 30, Condition(read, bool), expected)
    assert waiter._channels == {}
    await waiter.stop()
    await waiter._client.aclose()


async def test_a_lost_message_costs_seconds_and_no_answer(ledger_url: str) -> None:
    """Without any hint the value is read again after about `reread_s`."""
    waiter = Waiter(connect_async(ledger_url, 2, "test"), reread_s=0.1)
    waiter.start()
    values = iter(range(100))

    async def read() -> int:
        return next(values)

    assert await waiter.wait_until("job", 30, Condition(read, lambda value: value == 3)) == 3
    await waiter.stop()
    await waiter._client.aclose()


async def test_a_lost_connection_is_made_anew_and_everybody_reads_again(
    redis_server: RedisServer, ledger_url: str
) -> None:
    """The server drops the listener; the waiter subscribes again and re-reads, without waiting for a message."""
    client = connect_async(ledger_url, 2, "test-waiter")
    waiter = Waiter(client, reread_s=3600)
    waiter.start()
    admin = connect_async(ledger_url, 2, "test")
    state, reads = {"done": False}, 0

    async def read() -> bool:
        nonlocal reads
        reads += 1
        return state["done"]

    waiting = asyncio.create_task(waiter.wait_until("job", 30, Condition(read, bool)))
    await becomes(lambda: _reached(lambda: reads >= 1))
    state["done"] = True
    for connection in await admin.client_list():
        if connection["name"] == "test-waiter":
            await admin.client_kill_filter(_id=connection["id"])

    assert await waiting
    await waiter.stop()
    await client.aclose()
    await admin.aclose()


async def _is(count: Awaitable[int], wanted: int) -> bool:
    return await count == wanted


async def _reached(condition: Callable[[], bool]) -> bool:
    return condition()
