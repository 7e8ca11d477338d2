from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.validation import MAX_ERRORS
from tests.integration.api.webhooks.test_webhooks_api import ALL, api, courier, deliveries_of, endpoint, receiver
from tests.support.api import Api, running_api
from tests.support.delivering import Hands
from tests.support.servers.receivers import Receiver

pytestmark = pytest.mark.anyio

__all__ = ["api", "courier", "receiver"]  # fixtures


async def test_another_tenant_sees_nothing(api: Api, receiver: Receiver, courier: Hands) -> None:
    """Another's endpoint or delivery is 404, for every role; a viewer reads and changes nothing."""
    registered = await endpoint(api, receiver.url("/mine"))
    await api.submit("Ada")
    await api.worker.run_shards()
    await asyncio.to_thread(courier.deliver_due)
    [delivery] = await deliveries_of(api, registered["id"])
    url, events = f"{ALL}/{registered['id']}", f"/v1/deliveries/{delivery['id']}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", url, None),
        ("PATCH", url, {"description": "x"}),
        ("DELETE", url, None),
        ("POST", f"{url}/rotate-secret", None),
        ("POST", f"{url}/test", None),
        ("GET", f"{url}/deliveries", None),
        ("POST", f"{url}/recover", {"since": "2020-01-01T00:00:00Z"}),
        ("GET", events, None),
        ("POST", f"{events}/redeliver", None),
    ]
    for method, path, body in calls:
        foreign = await api.client.request(method, path, json=body, headers=api.as_role("other"))
        assert foreign.status_code == 404, path
        viewer = await api.client.request(method, path, json=body, headers=api.as_role("viewer"))
        assert viewer.status_code == (200 if method == "GET" else 403), path
        assert (await api.client.request(method, path, json=body, headers={"Authorization": ""})).status_code == 401
    assert (await api.client.get(ALL, headers=api.as_role("other"))).json()["data"] == []
    theirs = {"labels": ["a"], "documents": [{"text": "b"}], "webhook": {"endpoint_id": registered["id"]}}
    response = await api.client.post("/v1/jobs", json=theirs, headers=api.as_role("other"))
    assert (response.status_code, response.json()["code"]) == (404, "endpoint_not_found")
    assert (await api.client.get(url)).status_code == 200


@pytest.mark.parametrize(
    ("webhook", "pointer"),
    [
        ("https://example.com", "/webhook"),
        ({}, "/webhook/url"),
        ({"url": 7}, "/webhook/url"),
        ({"url": "https://example.com/", "events": []}, "/webhook/events"),
        ({"url": "https://example.com/", "events": ["job.started"]}, "/webhook/events/0"),
        ({"url": "https://example.com/", "secret": "short"}, "/webhook/secret"),  # pragma: allowlist secret
        ({"url": "https://example.com/", "secret": 7}, "/webhook/secret"),
        ({"url": "https://example.com/", "retries": 3}, "/webhook/retries"),
        ({"endpoint_id": "ep_1", "url": "https://example.com/"}, "/webhook"),
        ({"endpoint_id": 7}, "/webhook/endpoint_id"),
    ],
)
async def test_what_is_wrong_with_an_inline_webhook(api: Api, webhook: Any, pointer: str) -> None:
    """An invalid webhook gets a 422 that points at the field; no job is created."""
    body = {"labels": ["a"], "documents": [{"text": "b"}], "webhook": webhook}
    response = await api.client.post("/v1/jobs", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    assert pointer in [fault["pointer"] for fault in response.json()["errors"]]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": "https://example.com", "events": ["x"]}, "/events/0"),
        ({"url": "https://example.com", "secret": "whsec_x"}, "/secret"),  # pragma: allowlist secret
        ({"url": "https://example.com", "description": "a\nb"}, "/description"),
        ({"url": "https://example.com", "description": "a" * 257}, "/description"),
        ({"url": "https://example.com", "all_jobs": "yes"}, "/all_jobs"),
        ({"url": "https://example.com", "id": "ep_1"}, "/id"),
        ([], ""),
    ],
)
async def test_what_is_wrong_with_an_endpoint(api: Api, body: Any, pointer: str) -> None:
    """An invalid endpoint gets a 422 that points at the field."""
    response = await api.client.post(ALL, json=body)
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    assert [fault["pointer"] for fault in response.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    "body",
    [
        {"url": "https://example.com", "events": [f"x{number}" for number in range(30)]},
        {"url": "https://example.com", **dict.fromkeys((f"x{number}" for number in range(30)), 1)},
    ],
)
async def test_very_much_that_is_wrong_with_an_endpoint(api: Api, body: Any) -> None:
    """A 422 with the first places, of events and of unknown fields alike."""
    response = await api.client.post(ALL, json=body)
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    assert len(response.json()["errors"]) == MAX_ERRORS


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://10.0.0.1/", "https://localhost/", "https://a@example.com/", "x"]
)
async def test_a_url_that_must_not_be_called_is_refused_at_once(
    ledger_url: str, broker_url: str, tmp_path: Path, url: str
) -> None:
    """Registration and submission refuse it with the same code; no job is created, its key is free again."""
    async with running_api(ledger_url, broker_url, tmp_path) as api:
        response = await api.client.post(ALL, json={"url": url})
        assert (response.status_code, response.json()["code"]) == (422, "webhook_url_forbidden")
        assert [fault["pointer"] for fault in response.json()["errors"]] == ["/url"]
        body: dict[str, Any] = {"labels": ["a"], "documents": [{"text": "b"}], "webhook": {"url": url}}
        response = await api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
        assert (response.status_code, response.json()["code"]) == (422, "webhook_url_forbidden")
        assert [fault["pointer"] for fault in response.json()["errors"]] == ["/webhook/url"]
        del body["webhook"]
        assert (await api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})).status_code == 202


async def test_a_tenant_has_a_limited_number_of_endpoints(api: Api) -> None:
    """The hundred and first is refused, with the limit's name."""
    for n in range(100):
        await endpoint(api, f"http://127.0.0.1:8080/{n}")
    response = await api.client.post(ALL, json={"url": "http://127.0.0.1:8080/more"})
    assert (response.status_code, response.json()["code"]) == (429, "quota_exceeded")
