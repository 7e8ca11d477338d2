"""Webhooks as a client sees them: endpoints, inline webhooks, deliveries; real gateway, ledger and receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from gateway.webhooks.views import DeliveriesBody, EndpointBody, EndpointsPage, EndpointWithSecret
from tests.support.api import Api, running_api
from tests.support.delivering import Hands, hands
from tests.support.servers.name_server import name_server
from tests.support.servers.receivers import Receiver, receiving
from tests.support.servers.tunnel import tunnel

pytestmark = pytest.mark.anyio
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="  # pragma: allowlist secret
ALL = "/v1/webhook-endpoints"


@pytest.fixture
async def api(ledger_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """Run a gateway that may call loopback."""
    settings: dict[str, Any] = {"webhook_allow": ("127.0.0.0/8",), "webhook_allow_http": True}
    async with running_api(ledger_url, broker_url, tmp_path, **settings, webhook_timeout_s=1) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on loopback."""
    with receiving() as running:
        yield running


@pytest.fixture
def courier(ledger_url: str) -> Iterator[Hands]:
    """Return a courier, stepped by the test, on the same ledger."""
    with hands(ledger_url) as running:
        yield running


async def endpoint(api: Api, url: str, **fields: Any) -> dict[str, Any]:
    """Register an endpoint; return it with its secret."""
    response = await api.client.post(ALL, json={"url": url, **fields})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    EndpointWithSecret.model_validate(body)
    return body


async def deliveries_of(api: Api, endpoint_id: str, **params: Any) -> list[dict[str, Any]]:
    """Return an endpoint's deliveries."""
    response = await api.client.get(f"{ALL}/{endpoint_id}/deliveries", params=params)
    assert response.status_code == 200, response.text
    DeliveriesBody.model_validate(response.json())
    data: list[dict[str, Any]] = response.json()["data"]
    return data


async def test_a_registered_endpoint_hears_of_every_job(api: Api, receiver: Receiver, courier: Hands) -> None:
    """Signed, thin, with times and metadata; the delivery shows the attempt; nothing in it quotes a text."""
    registered = await endpoint(api, receiver.url("/hook"), description="mine")
    job_id = await api.submit("Ada lived here.", "", metadata={"batch": "42"})
    await api.worker.run_shards()
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 1}

    [request] = receiver.at("/hook")
    event = Webhook(registered["secret"]).verify(request.body, request.headers)
    job = await api.get_job(job_id)
    assert event["type"] == "job.partially_succeeded"
    assert event["timestamp"] == job["finished_at"]
    assert event["data"] == {
        "job_id": job_id,
        "status": "partially_succeeded",
        "counts": job["counts"],
        "error_summary": [{"code": "empty_text", "count": 1}],
        "results_url": f"/v1/jobs/{job_id}/results",
        "results_expire_at": job["results_expire_at"],
        "metadata": {"batch": "42"},
    }
    assert b"Ada" not in request.body
    assert request.headers["user-agent"].startswith("gleaner-webhooks/")

    [delivery] = await deliveries_of(api, registered["id"])
    assert delivery["id"] == request.headers["webhook-id"]
    assert (delivery["status"], delivery["job_id"], delivery["event"]) == ("delivered", job_id, event["type"])
    [attempt] = delivery["attempts"]
    assert (attempt["status"], attempt["error"], attempt["body"]) == (
        200,
        None,
        "",
    )  # nothing is kept of opened receivers
    assert (await api.client.get(f"/v1/deliveries/{delivery['id']}")).json() == delivery
    seen = (await api.client.get(f"{ALL}/{registered['id']}")).json()
    assert seen["last_success_at"] >= event["timestamp"]
    assert "secret" not in seen


async def test_an_inline_webhook_gets_a_secret_once(api: Api, receiver: Receiver, courier: Hands) -> None:
    """The first 202 alone contains the secret, not even its replay; the webhook is called for this job only."""
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}], "webhook": {"url": receiver.url("/inline")}}
    first = await api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k1"})
    again = await api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k1"})
    assert first.status_code == again.status_code == 202
    webhook = first.json()["webhook"]
    assert again.json() == {**first.json(), "webhook": {**webhook, "secret": None}}
    await api.submit("another job")
    await api.worker.run_shards()
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 1}

    [request] = receiver.at("/inline")
    assert Webhook(webhook["secret"]).verify(request.body, request.headers)["data"]["job_id"] == first.json()["id"]
    assert (await api.get_job(first.json()["id"]))["webhook"] is None
    assert (await api.client.get(ALL)).json()["data"] == []
    seen = (await api.client.get(f"{ALL}/{webhook['endpoint_id']}")).json()
    assert (seen["url"], seen["all_jobs"]) == (receiver.url("/inline"), False)
    assert len(await deliveries_of(api, webhook["endpoint_id"])) == 1


async def test_an_inline_secret_is_not_lost_by_waiting(api: Api, receiver: Receiver) -> None:
    """With `Prefer: wait` and in /v1/extract too the answer carries it."""
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}], "webhook": {"url": receiver.url("/w")}}
    for path, headers, status in (("/v1/jobs", {"Prefer": "wait=10"}, 200), ("/v1/extract", {}, 200)):
        asking = asyncio.create_task(api.client.post(path, json=body, headers=headers))
        for _ in range(200):
            if await api.worker.run_shards():
                break
            await asyncio.sleep(0.01)
        answer = await asking
        assert answer.status_code == status
        job = answer.json().get("job", answer.json())
        assert job["webhook"]["secret"].startswith("whsec_")


async def test_a_secret_of_ones_own_and_a_named_endpoint(api: Api, receiver: Receiver, courier: Hands) -> None:
    """A given secret is used and not returned; an endpoint named by `endpoint_id` is called for that job only."""
    secret = "whsec_" + "A" * 32  # pragma: allowlist secret
    quiet = await endpoint(api, receiver.url("/quiet"), all_jobs=False)
    await api.submit("a")
    named = await api.submit("b", webhook={"endpoint_id": quiet["id"]})
    body = {
        "labels": ["x"],
        "documents": [{"text": "c"}],
        "webhook": {"url": receiver.url("/own"), "secret": secret},
    }
    answer = (await api.client.post("/v1/jobs", json=body)).json()
    assert answer["webhook"]["secret"] is None
    await api.worker.run_shards()
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 2}
    [request] = receiver.at("/quiet")
    assert Webhook(quiet["secret"]).verify(request.body, request.headers)["data"]["job_id"] == named
    [request] = receiver.at("/own")
    Webhook(secret).verify(request.body, request.headers)


async def test_events_are_filtered(api: Api, receiver: Receiver, courier: Hands) -> None:
    """An endpoint receives the requested events only; `null` restores all."""
    registered = await endpoint(api, receiver.url("/filtered"), events=["job.failed", "job.cancelled"])
    await api.submit("Ada")
    failed = await api.submit("")
    cancelled = await api.submit("waits")
    await api.client.post(f"/v1/jobs/{cancelled}/cancel")
    await api.worker.run_shards()
    await asyncio.to_thread(courier.deliver_due)
    heard = {(e["type"], e["data"]["job_id"]) for e in (json.loads(r.body) for r in receiver.at("/filtered"))}
    assert heard == {("job.failed", failed), ("job.cancelled", cancelled)}
    changed = await api.client.patch(f"{ALL}/{registered['id']}", json={"events": None, "description": "all"})
    assert (changed.json()["events"], changed.json()["description"]) == (None, "all")
    await api.submit("Ada")
    await api.worker.run_shards()
    await asyncio.to_thread(courier.deliver_due)
    assert json.loads(receiver.at("/filtered")[-1].body)["type"] == "job.succeeded"


async def test_the_secret_rotates_in_peace(api: Api, receiver: Receiver, courier: Hands) -> None:
    """For 24 hours both secrets verify; a third rotation keeps them all; repeating one changes nothing."""
    registered = await endpoint(api, receiver.url("/rotated"))
    chosen = "whsec_" + "B" * 32
    first = (await api.client.post(f"{ALL}/{registered['id']}/rotate-secret")).json()
    second = (await api.client.post(f"{ALL}/{registered['id']}/rotate-secret", json={"secret": chosen})).json()
    third = (await api.client.post(f"{ALL}/{registered['id']}/rotate-secret", json={"secret": chosen})).json()
    assert second["secret"] == third["secret"] == chosen
    assert second["previous_signs_until"] == third["previous_signs_until"] > first["previous_signs_until"]
    await api.submit("Ada")
    await api.worker.run_shards()
    await asyncio.to_thread(courier.deliver_due)
    [request] = receiver.at("/rotated")
    assert len(request.headers["webhook-signature"].split(" ")) == 3
    for secret in (registered["secret"], first["secret"], chosen):
        Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize(
    ("path", "delivered", "status", "error"),
    [("/fine", True, 200, None), ("/500", False, 500, "http_error"), ("/silent", False, None, "timeout")],
)
async def test_a_test_says_what_the_receiver_said(
    api: Api, receiver: Receiver, path: str, delivered: bool, status: int | None, error: str | None
) -> None:
    """Sent at once, signed, not stored, not repeated."""
    registered = await endpoint(api, receiver.url(path))
    answer = (await api.client.post(f"{ALL}/{registered['id']}/test")).json()
    assert (answer["delivered"], answer["status"], answer["error"]) == (delivered, status, error)
    [request] = receiver.at(path)
    assert Webhook(registered["secret"]).verify(request.body, request.headers)["type"] == "webhook.test"
    assert await deliveries_of(api, registered["id"]) == []


async def test_redeliver_and_recover(api: Api, receiver: Receiver, courier: Hands) -> None:
    """Failed deliveries can be sent again, singly or all since a time, each with its webhook-id."""
    registered = await endpoint(api, receiver.url("/abort"))  # the receiver asks not to repeat: failed at once
    jobs = []
    for _ in range(3):
        jobs.append(await api.submit("Ada"))
        await api.worker.run_shards()
        await asyncio.sleep(0.005)  # they differ by their millisecond
    assert await asyncio.to_thread(courier.deliver_due) == {"failed": 3}
    failed = await deliveries_of(api, registered["id"], status="failed")
    assert [d["job_id"] for d in failed] == jobs[::-1]
    await api.client.patch(f"{ALL}/{registered['id']}", json={"url": receiver.url("/mended")})

    again = await api.client.post(f"/v1/deliveries/{failed[0]['id']}/redeliver")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 1}
    recovered = await api.client.post(f"{ALL}/{registered['id']}/recover", json={"since": failed[1]["created_at"]})
    assert (recovered.status_code, recovered.json()) == (202, {"recovered": 1})
    recovered = await api.client.post(f"{ALL}/{registered['id']}/recover", json={"since": "2020-01-01T00:00:00Z"})
    assert recovered.json() == {"recovered": 1}
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 2}
    sent = [r.headers["webhook-id"] for r in receiver.at("/mended")]
    assert sorted(sent) == sorted(d["id"] for d in failed)
    once_more = await api.client.post(f"/v1/deliveries/{sent[0]}/redeliver")
    assert once_more.status_code == 202  # a delivered one too
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 1}
    [delivery] = [d for d in await deliveries_of(api, registered["id"]) if d["id"] == sent[0]]
    assert [a["status"] for a in delivery["attempts"]] == [500, 200, 200]


async def test_a_disabled_endpoint_gets_nothing_until_it_is_active(
    api: Api, receiver: Receiver, courier: Hands
) -> None:
    """410 disables with its reason; waiting deliveries are sent once the owner sets `active`."""
    registered = await endpoint(api, receiver.url("/410"))
    await api.submit("Ada")
    await api.submit("Bob")
    await api.worker.run_shards()
    assert await asyncio.to_thread(courier.deliver_due) == {"failed": 1, "held": 1}
    seen = (await api.client.get(f"{ALL}/{registered['id']}")).json()
    assert (seen["status"], seen["disabled_reason"]) == ("disabled", "gone")
    [failed] = await deliveries_of(api, registered["id"], status="failed")
    for refused in (
        await api.client.post(f"/v1/deliveries/{failed['id']}/redeliver"),
        await api.client.post(f"{ALL}/{registered['id']}/recover", json={"since": "2020-01-01T00:00:00Z"}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_disabled")
    await api.submit("not told, for nobody hears")
    await api.worker.run_shards()
    assert await asyncio.to_thread(courier.deliver_due) == {}
    back = await api.client.patch(
        f"{ALL}/{registered['id']}", json={"url": receiver.url("/back"), "status": "active"}
    )
    assert (back.json()["status"], back.json()["disabled_reason"]) == ("active", None)
    assert len(await deliveries_of(api, registered["id"], status="pending")) == 1
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 1}
    await api.client.patch(f"{ALL}/{registered['id']}", json={"status": "disabled"})
    assert (await api.client.get(f"{ALL}/{registered['id']}")).json()["disabled_reason"] == "by_owner"


async def test_endpoints_are_listed_and_deleted(api: Api, receiver: Receiver, courier: Hands) -> None:
    """Endpoints are listed oldest first; a deleted one is removed with its deliveries."""
    registered = [await endpoint(api, receiver.url(f"/{n}")) for n in "abc"]
    listed = (await api.client.get(ALL)).json()
    EndpointsPage.model_validate(listed)
    assert [e["id"] for e in listed["data"]] == [e["id"] for e in registered]
    assert all("secret" not in EndpointBody.model_validate(e).model_dump() for e in listed["data"])
    await api.submit("Ada")
    await api.worker.run_shards()
    assert (await api.client.delete(f"{ALL}/{registered[1]['id']}")).status_code == 204
    assert (await api.client.delete(f"{ALL}/{registered[1]['id']}")).status_code == 404
    assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 2}
    assert receiver.at("/b") == []
    assert not [key async for key in api.store.scan_iter(f"*{registered[1]['id']}*")]


async def test_a_list_of_deliveries_has_pages(api: Api, receiver: Receiver, courier: Hands) -> None:
    """Every delivery once, newest first, whatever the page's size."""
    registered = await endpoint(api, receiver.url("/pages"))
    jobs = [await api.submit("Ada") for _ in range(7)]
    await api.worker.run_shards()
    await asyncio.to_thread(courier.deliver_due)
    for limit in (1, 2, 3, 7, 50):
        seen: list[str] = []
        cursor = None
        while True:
            params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = (await api.client.get(f"{ALL}/{registered['id']}/deliveries", params=params)).json()
            assert len(page["data"]) <= limit
            seen += [d["job_id"] for d in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert sorted(seen) == sorted(jobs), limit
    for bad in ("x", "cjE6MTow", "\u0663"):
        response = await api.client.get(f"{ALL}/{registered['id']}/deliveries", params={"cursor": bad})
        assert (response.status_code, response.json()["code"]) == (400, "bad_cursor")


async def test_nothing_of_an_endpoint_lies_open_in_the_store(
    ledger_url: str, broker_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """With an encryption key, URL, description, secret, metadata and receivers' responses are encrypted."""
    async with contextlib.AsyncExitStack() as stack:
        names, proxy = stack.enter_context(name_server()), stack.enter_context(tunnel())
        # The response of a receiver at a private address would not be stored.
        names.records["public.example"] = ["93.184.216.34"]
        settings = {"webhook_nameservers": f"127.0.0.1:{names.port}", "webhook_proxy": proxy}
        running = running_api(
            ledger_url, broker_url, tmp_path, encryption_keys=(KEY,), webhook_allow_http=True, **settings
        )
        api = await stack.enter_async_context(running)
        registered = await endpoint(api, receiver.url("/sealed-path", "public.example"), description="sealed-words")
        await api.submit("sealed-text", metadata={"a": "sealed-metadata"})
        await api.worker.run_shards()
        with hands(ledger_url, codec=api.worker.codec, **settings) as courier:
            assert await asyncio.to_thread(courier.deliver_due) == {"delivered": 1}
        assert (await deliveries_of(api, registered["id"]))[0]["attempts"][0]["body"] == "ok"
        stored = b""
        async for name in api.store.scan_iter():
            stored += await api.store.dump(name) or b""
        for secret in (b"sealed-", registered["secret"].encode(), registered["secret"][6:].encode()):
            assert secret not in stored
