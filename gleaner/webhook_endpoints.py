"""Webhook endpoints and what was sent to them, as `client.webhooks`: requests built here, sent by the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx

from gleaner.client import flows
from gleaner.client.calls import Call, Listed, given, listed
from gleaner.client.json_values import encode_json

if TYPE_CHECKING:
    from gleaner.aio import AsyncClient
    from gleaner.client import Client

T = TypeVar("T")

_PATH = "/v1/webhook-endpoints"


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A receiver that the gateway tells when jobs end.

    Attributes:
        events: those it hears of; None: all.
        all_jobs: it hears of every job, not only of those that name it.
        status: active or disabled; then `disabled_reason` says why.
        secret: only when it was just made.
    """

    id: str
    url: str
    description: str
    events: tuple[str, ...] | None
    all_jobs: bool
    status: str
    disabled_reason: str | None
    failures_in_a_row: int
    secret: str | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> WebhookEndpoint:
        """From the gateway's answer; fields it does not know are left out."""
        events = body.get("events")
        return cls(
            id=str(body["id"]),
            url=str(body["url"]),
            description=str(body.get("description", "")),
            events=None if events is None else tuple(events),
            all_jobs=bool(body.get("all_jobs", True)),
            status=str(body["status"]),
            disabled_reason=body.get("disabled_reason"),
            failures_in_a_row=int(body.get("failures_in_a_row", 0)),
            secret=body.get("secret"),
        )


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One HTTP try: `status` is the receiver's, None if it gave none; then `error` says what went wrong."""

    at: datetime
    status: int | None
    latency_ms: int
    error: str | None


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One event for one endpoint; `id` is the `webhook-id` of every attempt.

    Attributes:
        status: pending, delivering, delivered or failed.
        next_attempt_at: None once it has ended.
    """

    id: str
    endpoint_id: str
    job_id: str
    event: str
    status: str
    created_at: datetime
    next_attempt_at: datetime | None
    attempts: tuple[DeliveryAttempt, ...]

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> WebhookDelivery:
        """From the gateway's answer."""
        following = body.get("next_attempt_at")
        return cls(
            id=body["id"],
            endpoint_id=body["endpoint_id"],
            job_id=body["job_id"],
            event=body["event"],
            status=body["status"],
            created_at=datetime.fromisoformat(body["created_at"]),
            next_attempt_at=None if following is None else datetime.fromisoformat(following),
            attempts=tuple(
                DeliveryAttempt(
                    datetime.fromisoformat(each["at"]), each.get("status"), each["latency_ms"], each.get("error")
                )
                for each in body.get("attempts") or ()
            ),
        )


class Webhooks:
    """The tenant's webhook endpoints, as `client.webhooks`.

    Examples:
        A receiver on this machine, which a local stack may call; elsewhere it is a public https URL.

        >>> endpoint = client.webhooks.create("http://127.0.0.1:9000/", events=["job.failed"])
        >>> endpoint.secret.startswith("whsec_")
        True
        >>> client.webhooks.delete(endpoint.id)
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self,
        url: str,
        *,
        events: Sequence[str] | None = None,
        description: str = "",
        secret: str | None = None,
        all_jobs: bool = True,
    ) -> WebhookEndpoint:
        """Register an endpoint; its `secret` is known now and never again.

        Raises:
            ValidationError: the URL may not be called, or something else is wrong with it.
        """
        return self._client._call(_create(url, events, description, secret, all_jobs))

    def list(self) -> tuple[WebhookEndpoint, ...]:
        """Registered endpoints, oldest first."""
        return self._client._call(_list())

    def get(self, endpoint_id: str) -> WebhookEndpoint:
        """One endpoint, also one that a job brought along."""
        return self._client._call(_get(endpoint_id))

    def enable(self, endpoint_id: str) -> WebhookEndpoint:
        """Bring a disabled endpoint back; what waited for it is sent."""
        return self._client._call(_set_status(endpoint_id, "active"))

    def disable(self, endpoint_id: str) -> WebhookEndpoint:
        """Send an endpoint nothing until it is enabled again."""
        return self._client._call(_set_status(endpoint_id, "disabled"))

    def delete(self, endpoint_id: str) -> None:
        """Forget an endpoint and what was still to be delivered to it."""
        self._client._call(_delete(endpoint_id))

    def test(self, endpoint_id: str) -> dict[str, Any]:
        """Have a `webhook.test` sent now; what the receiver said to it."""
        return self._client._call(_test(endpoint_id))

    def rotate(self, endpoint_id: str, secret: str | None = None) -> str:
        """A new secret, known now and never again; the old one signs along for 24 hours."""
        return self._client._call(_rotate(endpoint_id, secret))

    def deliveries(
        self, endpoint_id: str, *, status: str | None = None, limit: int | None = None
    ) -> Iterator[WebhookDelivery]:
        """What was and is to be sent to an endpoint in the last seven days, newest first; at most `limit`."""
        client = self._client
        return client._stream(flows.listed(partial(_deliveries, endpoint_id, status), limit, client._retry))

    def redeliver(self, delivery_id: str) -> WebhookDelivery:
        """Send an event again, whatever became of it, under the same id.

        Raises:
            Conflict: its endpoint is disabled.
        """
        return self._client._call(_redeliver(delivery_id))

    def recover(self, endpoint_id: str, since: datetime) -> int:
        """Send again whatever failed since then; answers how many events that is.

        Raises:
            Conflict: the endpoint is disabled.
        """
        return self._client._call(_recover(endpoint_id, since))


class AsyncWebhooks:
    """`Webhooks`, awaited, as `AsyncClient.webhooks`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(
        self,
        url: str,
        *,
        events: Sequence[str] | None = None,
        description: str = "",
        secret: str | None = None,
        all_jobs: bool = True,
    ) -> WebhookEndpoint:
        """As `Webhooks.create`."""
        return await self._client._call(_create(url, events, description, secret, all_jobs))

    async def list(self) -> tuple[WebhookEndpoint, ...]:
        """As `Webhooks.list`."""
        return await self._client._call(_list())

    async def get(self, endpoint_id: str) -> WebhookEndpoint:
        """As `Webhooks.get`."""
        return await self._client._call(_get(endpoint_id))

    async def enable(self, endpoint_id: str) -> WebhookEndpoint:
        """As `Webhooks.enable`."""
        return await self._client._call(_set_status(endpoint_id, "active"))

    async def disable(self, endpoint_id: str) -> WebhookEndpoint:
        """As `Webhooks.disable`."""
        return await self._client._call(_set_status(endpoint_id, "disabled"))

    async def delete(self, endpoint_id: str) -> None:
        """As `Webhooks.delete`."""
        await self._client._call(_delete(endpoint_id))

    async def test(self, endpoint_id: str) -> dict[str, Any]:
        """As `Webhooks.test`."""
        return await self._client._call(_test(endpoint_id))

    async def rotate(self, endpoint_id: str, secret: str | None = None) -> str:
        """As `Webhooks.rotate`."""
        return await self._client._call(_rotate(endpoint_id, secret))

    def deliveries(
        self, endpoint_id: str, *, status: str | None = None, limit: int | None = None
    ) -> AsyncIterator[WebhookDelivery]:
        """As `Webhooks.deliveries`."""
        client = self._client
        return client._stream(flows.listed(partial(_deliveries, endpoint_id, status), limit, client._retry))

    async def redeliver(self, delivery_id: str) -> WebhookDelivery:
        """As `Webhooks.redeliver`."""
        return await self._client._call(_redeliver(delivery_id))

    async def recover(self, endpoint_id: str, since: datetime) -> int:
        """As `Webhooks.recover`."""
        return await self._client._call(_recover(endpoint_id, since))


def _create(
    url: str, events: Sequence[str] | None, description: str, secret: str | None, all_jobs: bool
) -> Call[WebhookEndpoint]:
    if isinstance(events, str):
        raise TypeError("events is one string; give a list of events")
    body = {
        "url": url,
        "events": None if events is None else [*events],
        "description": description,
        "secret": secret,
        "all_jobs": all_jobs,
    }
    return _send("POST", _PATH, body, _endpoint)


def _list() -> Call[tuple[WebhookEndpoint, ...]]:
    def parse(response: httpx.Response) -> tuple[WebhookEndpoint, ...]:
        return tuple(WebhookEndpoint.from_json(item) for item in response.json()["data"])

    return Call("GET", _PATH, parse)


def _get(endpoint_id: str) -> Call[WebhookEndpoint]:
    return Call("GET", _at(endpoint_id), _endpoint)


def _set_status(endpoint_id: str, status: str) -> Call[WebhookEndpoint]:
    return _send("PATCH", _at(endpoint_id), {"status": status}, _endpoint, repeatable=True)


def _delete(endpoint_id: str) -> Call[None]:
    return Call("DELETE", _at(endpoint_id), lambda _response: None)


def _test(endpoint_id: str) -> Call[dict[str, Any]]:
    return _send("POST", f"{_at(endpoint_id)}/test", None, lambda response: dict(response.json()))


def _rotate(endpoint_id: str, secret: str | None) -> Call[str]:
    path = f"{_at(endpoint_id)}/rotate-secret"
    return _send("POST", path, {"secret": secret}, lambda response: str(response.json()["secret"]))


def _deliveries(
    endpoint_id: str, status: str | None, limit: int | None, cursor: str | None
) -> Call[Listed[WebhookDelivery]]:
    params = given(status=status, limit=limit and min(limit, 200), cursor=cursor)
    return Call("GET", f"{_at(endpoint_id)}/deliveries", listed(WebhookDelivery.from_json), params=params)


def _redeliver(delivery_id: str) -> Call[WebhookDelivery]:
    path = f"/v1/deliveries/{quote(delivery_id, safe='')}/redeliver"
    return _send("POST", path, None, lambda response: WebhookDelivery.from_json(response.json()))


def _recover(endpoint_id: str, since: datetime) -> Call[int]:
    body = {"since": since.astimezone(UTC).isoformat()}
    return _send("POST", f"{_at(endpoint_id)}/recover", body, lambda response: int(response.json()["recovered"]))


def _endpoint(response: httpx.Response) -> WebhookEndpoint:
    return WebhookEndpoint.from_json(response.json())


def _at(endpoint_id: str) -> str:
    return f"{_PATH}/{quote(endpoint_id, safe='')}"


def _send(
    method: str,
    path: str,
    body: Mapping[str, Any] | None,
    parse: Callable[[httpx.Response], T],
    *,
    repeatable: bool = False,
) -> Call[T]:
    content = None if body is None else encode_json(body, "the request")
    headers = {} if body is None else {"Content-Type": "application/json"}
    return Call(method, path, parse, headers=headers, content=content, repeatable=repeatable)
