"""`client.webhooks`: the requests of its methods, and responses as values; both clients send the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from gleaner import AsyncClient, Client, ServerError, Unavailable, WebhookDelivery, WebhookEndpoint
from gleaner.webhook_endpoints import DeliveryAttempt

# pragma: allowlist nextline secret
ENDPOINT = {"id": "ep/1", "url": "https://r.example/", "status": "active", "secret": "whsec_x"}
DELIVERY = {
    "id": "dlv_1",
    "endpoint_id": "ep/1",
    "job_id": "job_1",
    "event": "job.failed",
    "status": "pending",
    "created_at": "2026-01-02T03:04:05Z",
    "next_attempt_at": "2026-01-02T03:05:05Z",
    "attempts": [{"at": "2026-01-02T03:04:06Z", "status": None, "latency_ms": 15000, "error": "timeout"}],
}
PATH = "/v1/webhook-endpoints"


class Gateway:
    """Answers every request with one body, and notes the requests."""

    def __init__(self, answer: Any, status: int = 200) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self._answer, self._status = answer, status

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, request.url.raw_path.decode(), body))
        return httpx.Response(self._status, json=self._answer)


def call_both(answer: Any, method: str, *arguments: Any, **options: Any) -> tuple[Any, tuple[str, str, Any]]:
    """Call a method of both clients; return the value and the request, which must be the same."""
    gateway = Gateway(answer)

    async def run() -> Any:
        async with AsyncClient("http://g", transport=httpx.MockTransport(gateway)) as client:
            value = getattr(client.webhooks, method)(*arguments, **options)
            return [item async for item in value] if hasattr(value, "__aiter__") else await value

    with Client("http://g", transport=httpx.MockTransport(gateway)) as client:
        value = getattr(client.webhooks, method)(*arguments, **options)
        value = list(value) if method == "deliveries" else value
    assert value == asyncio.run(run())
    first, second = gateway.requests
    assert first == second
    return value, first


def test_create() -> None:
    """Every field is sent, and the secret is in the value."""
    endpoint, request = call_both(ENDPOINT, "create", "https://r.example/", events=("job.failed",), all_jobs=False)

    body = {"url": "https://r.example/", "events": ["job.failed"], "description": "", "secret": None}
    assert request == ("POST", PATH, {**body, "all_jobs": False})
    assert endpoint == WebhookEndpoint(
        # pragma: allowlist nextline secret
        "ep/1",
        "https://r.example/",
        "",
        None,
        True,
        "active",
        None,
        0,
        # pragma: allowlist nextline secret
        secret="whsec_x",
    )


def test_events_are_a_list() -> None:
    """A single string would be sent as its letters."""
    transport = httpx.MockTransport(Gateway(ENDPOINT))
    with Client("http://g", transport=transport) as client, pytest.raises(TypeError, match="list of events"):
        client.webhooks.create("https://r.example/", events="job.failed")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("get", ("GET", f"{PATH}/ep%2F1", None)),
        ("enable", ("PATCH", f"{PATH}/ep%2F1", {"status": "active"})),
        ("disable", ("PATCH", f"{PATH}/ep%2F1", {"status": "disabled"})),
    ],
)
def test_one_endpoint(method: str, expected: tuple[str, str, Any]) -> None:
    """Ids are quoted in paths."""
    body = {
        **ENDPOINT,
        "events": ["job.failed"],
        "disabled_reason": "gone",
        "failures_in_a_row": 3,
        "of_tomorrow": 1,
    }
    endpoint, request = call_both(body, method, "ep/1")

    assert request == expected
    assert (endpoint.events, endpoint.disabled_reason, endpoint.failures_in_a_row) == (("job.failed",), "gone", 3)


@pytest.mark.parametrize(
    ("method", "answer", "expected", "path", "body"),
    [
        ("test", {"delivered": False}, {"delivered": False}, "/test", None),
        # pragma: allowlist nextline secret
        ("rotate", {"secret": "whsec_y"}, "whsec_y", "/rotate-secret", {"secret": None}),
        ("delete", None, None, "", None),
    ],
)
def test_commands(method: str, answer: Any, expected: Any, path: str, body: Any) -> None:
    """Each has its path."""
    value, request = call_both(answer, method, "ep/1")

    assert value == expected
    assert request == ("DELETE" if method == "delete" else "POST", f"{PATH}/ep%2F1{path}", body)


def test_recovery_names_a_time_in_utc() -> None:
    """Wherever the caller is."""
    since = datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    value, request = call_both({"recovered": 7}, "recover", "ep/1", since)

    assert value == 7
    assert request == ("POST", f"{PATH}/ep%2F1/recover", {"since": "2026-01-02T01:00:00+00:00"})


def test_lists() -> None:
    """Endpoints in one response, deliveries by page; the limit of a page has a maximum."""
    assert call_both({"data": [ENDPOINT]}, "list")[0][0].id == "ep/1"
    deliveries, request = call_both({"data": [DELIVERY]}, "deliveries", "ep/1", status="pending", limit=500)

    assert request == ("GET", f"{PATH}/ep%2F1/deliveries?status=pending&limit=200", None)
    [delivery] = deliveries
    assert delivery.next_attempt_at == datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)
    assert delivery.attempts == (
        DeliveryAttempt(datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC), None, 15000, "timeout"),
    )
    assert call_both(DELIVERY, "redeliver", "dlv/1")[1] == ("POST", "/v1/deliveries/dlv%2F1/redeliver", None)


def test_an_ended_delivery_has_no_next_attempt() -> None:
    """And none yet has no attempts."""
    ended = WebhookDelivery.from_json({**DELIVERY, "next_attempt_at": None, "attempts": None})

    assert (ended.next_attempt_at, ended.attempts) == (None, ())


@pytest.mark.parametrize(
    ("call", "tries"),
    [
        (lambda client: client.webhooks.create("https://r.example/"), 1),
        (lambda client: client.webhooks.enable("ep"), 2),
    ],
)
def test_only_idempotent_requests_are_repeated(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Client], Any], tries: int
) -> None:
    """A lost response to a registration may hide an endpoint that exists."""
    monkeypatch.setattr("gleaner.client.time.sleep", lambda _seconds: None)
    gateway = Gateway({"code": "overloaded"}, status=503)
    client = Client("http://g", retries=1, transport=httpx.MockTransport(gateway))
    with client, pytest.raises(Unavailable, match="overloaded"):
        call(client)

    assert len(gateway.requests) == tries


def test_a_response_of_another_service_is_an_error() -> None:
    """A field without a default is missing."""
    client = Client("http://g", transport=httpx.MockTransport(Gateway({"id": "ep"})))
    with client, pytest.raises(ServerError, match="cannot be parsed"):
        client.webhooks.get("ep")
