"""Keys, sessions, streams, probes and read rates: nobody stays longer, holds more or costs more than they may."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from gateway.access import Caller
from gateway.errors import StreamAbortedError
from gateway.reading.encoding import ReadOptions
from gateway.reading.results import ResultsReader
from gateway.reading.rows import encode_ndjson_line
from jobs import api_keys
from jobs.api_keys import KeyRing, Role
from jobs.ledger import Ledger, webhooks
from tests.support.api import running_api
from tests.support.processes.couriers import add_endpoint, end_job
from tests.support.processes.gateways import running_gateway
from tests.support.processes.harness import wait_for

JOB = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}
WITHIN_S = 10
"""The promise is seconds; a busy machine gets some more."""


def bearer(key: str) -> dict[str, str]:
    """Return the header of a key."""
    return {"Authorization": f"Bearer {key}"}


def id_of(path: Path, key: str) -> str:
    """Return the id of a plain key."""
    record = KeyRing(path).verify(key)
    assert record is not None
    return record.key_id


def lower(path: Path, key: str) -> None:
    """Make a key's role viewer, as somebody who edits the file does."""
    content, key_id = json.loads(path.read_text()), id_of(path, key)
    for record in content["keys"]:
        record["role"] = "viewer" if record["key_id"] == key_id else record["role"]
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content))
    fresh.replace(path)


def follow(url: str, job: str, headers: dict[str, str], began: threading.Event) -> list[tuple[str, Any]]:
    """Return the events of a job's stream, to its end."""
    events = []
    name = ""
    with httpx.stream("GET", f"{url}/v1/jobs/{job}/events", headers=headers, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            kind, _, value = line.partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                events.append((name, json.loads(value)))
                began.set()
    return events


def test_streams_and_waits_end_with_their_key(tmp_path: Path, ledger_url: str, broker_url: str) -> None:
    """Revoked, rotated away, of a lower role, or of a session that ended: the reason comes, and then the end."""
    path = tmp_path / "keys.json"
    with (
        running_gateway(tmp_path, ledger_url, broker_url, GLEANER_AUTH_COOKIE="true") as (gateway, admin),
        ThreadPoolExecutor(16) as pool,
        httpx.Client(base_url=gateway.url, timeout=60) as client,
    ):
        keys = {
            name: api_keys.create_key(path, tenant="acme", role="submitter").key
            for name in ("revoked", "rotated", "lowered", "session", "good")
        }
        wait_for(lambda: client.get("/v1/limits", headers=bearer(keys["good"])).status_code == 200, 5, "the keys")
        begun = client.post("/v1/session", headers=bearer(keys["session"]))
        cookie = {"Cookie": begun.headers.get_list("set-cookie")[0].partition(";")[0]}
        job = client.post("/v1/jobs", json=JOB, headers=bearer(admin)).json()["id"]

        callers = {name: cookie if name == "session" else bearer(key) for name, key in keys.items()}
        started = {name: threading.Event() for name in callers}
        streams: dict[str, Future[Any]] = {
            name: pool.submit(follow, gateway.url, job, headers, started[name]) for name, headers in callers.items()
        }
        waits: dict[str, Future[Any]] = {
            name: pool.submit(client.get, f"/v1/jobs/{job}?wait=40", headers=headers)
            for name, headers in callers.items()
        }
        prefers = pool.submit(
            client.post, "/v1/jobs", json=JOB, headers={**bearer(keys["revoked"]), "Prefer": "wait=40"}
        )
        assert all(event.wait(10) for event in started.values())
        time.sleep(0.5)  # the waits have no sign of having begun

        api_keys.revoke_key(path, id_of(path, keys["revoked"]))
        api_keys.rotate_key(path, id_of(path, keys["rotated"]), overlap=timedelta())
        lower(path, keys["lowered"])
        signed_out = client.delete("/v1/session", headers={**cookie, "X-Gleaner-CSRF": "1"})
        assert signed_out.status_code == 204
        for name, code in (
            ("revoked", "unauthenticated"),
            ("rotated", "unauthenticated"),
            ("lowered", "forbidden"),
            ("session", "unauthenticated"),
        ):
            (*_, (last, problem)) = streams[name].result(WITHIN_S)
            assert (name, last, problem["code"]) == (name, "error", code)
            assert problem["detail"]
            assert (name, waits[name].result(WITHIN_S).json()["code"]) == (name, code)
        assert prefers.result(WITHIN_S).json()["code"] == "unauthenticated"

        assert not streams["good"].done()
        assert not waits["good"].done()
        client.post(f"/v1/jobs/{job}/cancel", headers=bearer(admin))
        assert streams["good"].result(WITHIN_S)[-1][0] == "terminal"
        assert waits["good"].result(WITHIN_S).status_code == 200


@pytest.mark.anyio
async def test_a_stream_of_results_is_cut_when_its_key_is_revoked(
    tmp_path: Path, ledger_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends without its proper end, so that nobody takes a part for the whole."""
    monkeypatch.setattr("gateway.reading.results.CHECK_EVERY_S", 0)
    monkeypatch.setattr(api_keys, "RELOAD_EVERY_S", 0)
    async with running_api(ledger_url, broker_url, tmp_path) as api:
        record = KeyRing(api.keys_file).verify(api.keys["viewer"])
        assert record is not None
        caller = Caller(record.key_id, record.tenant, record.role, key_hash=record.sha256)
        job = await api.submit("Ada", "Bob")
        await api.worker.run_shards()
        reader = ResultsReader(api.app.state.services.results, caller, job, ReadOptions(encode_ndjson_line))
        pieces = reader.stream(b"{}\n")
        assert await anext(pieces) == b"{}\n"
        api_keys.revoke_key(api.keys_file, record.key_id)
        with pytest.raises(StreamAbortedError, match="unauthenticated"):
            await anext(pieces)


@pytest.mark.anyio
async def test_a_body_that_took_long_needs_a_key_that_is_still_good(
    tmp_path: Path, ledger_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revoking a key while the body arrives, JSON or NDJSON, prevents the job."""
    monkeypatch.setattr(api_keys, "RELOAD_EVERY_S", 0)
    head, line = json.dumps({"labels": ["Ada"]}), json.dumps({"text": "Ada"})
    for kind, body in (("json", json.dumps(JOB)), ("x-ndjson", f"{head}\n{line}\n")):
        folder = tmp_path / kind
        folder.mkdir()
        async with running_api(ledger_url, broker_url, folder) as api:

            async def slowly(api: Any = api, body: str = body) -> Any:
                yield body[:10].encode()
                api_keys.revoke_key(api.keys_file, id_of(api.keys_file, api.keys["submitter"]))
                yield body[10:].encode()

            headers = {"Content-Type": f"application/{kind}"}
            answer = await api.client.post("/v1/jobs", content=slowly(), headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            listed = await api.client.get("/v1/jobs", headers=api.as_role("viewer"))
            assert listed.json()["data"] == []


@pytest.mark.anyio
async def test_reads_are_weighed_by_what_they_cost(
    tmp_path: Path, ledger_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list costs five, a page up to five, a job one, submitting none."""
    monkeypatch.setattr(api_keys, "RELOAD_EVERY_S", 0)
    async with running_api(ledger_url, broker_url, tmp_path, key_reads_per_s=10) as api:
        job = await api.submit("Ada")
        await api.worker.run_shards()
        costs = {
            f"/v1/jobs/{job}": 1,
            f"/v1/jobs/{job}/documents/0": 1,
            f"/v1/jobs/{job}/results": 1,
            f"/v1/jobs/{job}/results?limit=500": 3,
            f"/v1/jobs/{job}/results?limit=1000": 5,
            f"/v1/jobs/{job}/results?status=failed": 5,
            f"/v1/jobs/{job}/results?limit=nonsense": 5,
            "/v1/jobs": 5,
            "/v1/jobs?status=expired&limit=100": 5,
            "/v1/webhook-endpoints": 5,
            "/v1/queue": 5,
            "/v1/models": 1,
        }
        for path, cost in costs.items():
            key = api_keys.create_key(api.keys_file, tenant="acme", role="admin").key  # whose window is empty
            headers = (await api.client.get(path, headers=bearer(key))).headers
            assert re.findall(r'"reads-key";r=(\d+)', headers["ratelimit"]) == [str(10 - cost)], path
            assert headers["ratelimit-policy"] == '"reads-key";q=10;w=1'
        assert "ratelimit" not in (await api.client.post("/v1/jobs", json=JOB)).headers


@pytest.mark.anyio
async def test_too_many_reads_are_refused(tmp_path: Path, ledger_url: str, broker_url: str) -> None:
    """All keys of a tenant share its limit, and no other tenant's; a request above a rule's rate passes alone."""
    async with running_api(ledger_url, broker_url, tmp_path, tenant_reads_per_s=4) as api:
        roles = ("viewer", "submitter", "admin", "other")
        answers = await asyncio.gather(*(api.client.get("/v1/jobs", headers=api.as_role(role)) for role in roles))
        assert sorted(answer.status_code for answer in answers[:3]) == [200, 429, 429]
        assert answers[3].status_code == 200
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert (refused.json()["code"], 1 <= int(refused.headers["retry-after"]) <= 2) == ("rate_limited", True)


@pytest.mark.anyio
async def test_all_rules_of_a_request_are_one_round_trip(tmp_path: Path, ledger_url: str, broker_url: str) -> None:
    """Counting is one call to Redis whatever the rules; a refused request is counted by none."""
    limits: Any = dict.fromkeys(
        ("key_requests_per_s", "tenant_requests_per_s", "key_reads_per_s", "tenant_reads_per_s"), 1000
    )
    async with running_api(ledger_url, broker_url, tmp_path, **limits) as api:
        await api.client.get("/v1/limits")
        before = calls(await api.store.info("commandstats"), "evalsha")
        for _ in range(10):
            assert (await api.client.get("/v1/models")).status_code == 200
        assert calls(await api.store.info("commandstats"), "evalsha") - before <= 2 * 10 + 5


def calls(stats: dict[str, Any], command: str) -> int:
    """Return how often a server has run a command."""
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


def test_a_list_of_deliveries_reads_only_what_it_shows(ledger_url: str) -> None:
    """A rare state costs 200 small looks a call, and no payload or metadata; all calls together miss none."""
    with redis.Redis.from_url(ledger_url) as client:
        store = Ledger(client)
        add_endpoint(store, "ep_1", "http://127.0.0.1:9/", tenant="t1")
        for n in range(450):
            end_job(store, f"job_{n}", tenant="t1")
        every = [delivery.decode() for delivery in client.zrange("{gleaner}:dlvs:ep_1", 0, -1)]
        assert len(every) == 450
        client.hset("{gleaner}:dlv:" + every[0], mapping={"state": "failed", "meta": b"m" * 20_000})

        cursor, failed, rounds = None, [], 0
        while rounds == 0 or cursor is not None:
            before = client.info("commandstats")
            page = store.run(webhooks.list_deliveries("ep_1", cursor, 50, "failed"))
            after = client.info("commandstats")
            assert calls(after, "hgetall") == calls(before, "hgetall")
            assert calls(after, "hget") - calls(before, "hget") <= 200
            failed += [delivery.id for delivery in page.deliveries]
            cursor, rounds = page.next, rounds + 1
        assert (failed, rounds) == ([every[0]], 3)

        cursor, listed = None, []
        for _ in range(20):
            page = store.run(webhooks.list_deliveries("ep_1", cursor, 50))
            listed += [delivery.id for delivery in page.deliveries]
            cursor = page.next
            if cursor is None:
                break
        assert sorted(listed) == sorted(every)


@pytest.mark.anyio
async def test_readiness_costs_the_store_one_write_a_second(
    tmp_path: Path, ledger_url: str, broker_url: str
) -> None:
    """However many ask, and whether the store is well or not; nobody is refused for asking."""
    async with running_api(ledger_url, broker_url, tmp_path, anonymous_per_minute=10) as api:
        before, began = calls(await api.store.info("commandstats"), "evalsha"), time.monotonic()
        for _ in range(3):
            answers = await asyncio.gather(
                *(api.client.get(path) for path in ("/readyz", "/livez") for _ in range(60))
            )
            assert {answer.status_code for answer in answers} == {200}
        spent = calls(await api.store.info("commandstats"), "evalsha") - before
        assert spent <= time.monotonic() - began + 2


@pytest.mark.anyio
async def test_who_has_no_key_is_bounded(tmp_path: Path, ledger_url: str, broker_url: str) -> None:
    """Pages, documents and calls without a key share a rate by address; a good key from there passes."""
    async with running_api(ledger_url, broker_url, tmp_path, anonymous_per_minute=6) as api:
        key = api.client.headers.pop("Authorization")
        paths = ("/", "/docs", "/openapi.json", "/problems/forbidden", "/v1/models", "/nowhere")
        assert 429 not in [(await api.client.get(path)).status_code for path in paths]
        for path in paths:
            refused = await api.client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert (await api.client.get("/v1/models", headers={"Authorization": key})).status_code == 200


@pytest.mark.anyio
async def test_the_api_reference_can_be_switched_off(tmp_path: Path, ledger_url: str, broker_url: str) -> None:
    """With all that belongs to it; the API itself stays."""
    async with running_api(ledger_url, broker_url, tmp_path, docs="off") as api:
        for path in ("/docs", "/redoc", "/openapi.json", "/docs/start.js", "/docs/assets/swagger-ui.css"):
            assert (await api.client.get(path)).status_code == 404, path
        assert (await api.client.get("/v1/models")).status_code == 200


@pytest.mark.anyio
async def test_a_session_may_do_what_its_key_may(tmp_path: Path, ledger_url: str, broker_url: str) -> None:
    """Admin routes with an admin's alone, changes with the CSRF header alone; the key itself is in no cookie."""
    async with running_api(ledger_url, broker_url, tmp_path, auth_cookie=True) as api:
        del api.client.headers["Authorization"]
        for role, queue, submitting in (("viewer", 403, 403), ("submitter", 403, 202), ("admin", 200, 202)):
            api.client.cookies.clear()
            begun = await api.client.post("/v1/session", headers=api.as_role(role))
            cookies = " ".join(begun.headers.get_list("set-cookie"))
            assert not re.search(r"gl_[\w-]{20}", cookies)
            assert (await api.client.get("/v1/queue")).status_code == queue
            for origin in ({}, {"X-Gleaner-CSRF": "1", "Origin": "https://evil.example"}):
                refused = await api.client.post("/v1/jobs", json=JOB, headers=origin)
                assert (refused.status_code, refused.json()["code"]) == (403, "csrf_refused")
            answer = await api.client.post("/v1/jobs", json=JOB, headers={"X-Gleaner-CSRF": "1"})
            assert answer.status_code == submitting
            again = await api.client.post("/v1/session", headers={"X-Gleaner-CSRF": "1"})
            assert again.status_code == 401  # a session is not made from a session
        api.client.cookies.clear()
        in_query = await api.client.get("/v1/models", params={"api_key": api.keys[Role.VIEWER]})
        assert in_query.status_code == 401
