"""Webhook endpoints and delivery history, as `client.webhooks`: requests are built here and sent by the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx

from gleaner.client import flows
from gleaner.client.calls import Call, ListPage, drop_missing, parse_list
from gleaner.client.json_values import encode_json
from gleaner.models import parse_fields

if TYPE_CHECKING:
    from gleaner.aio import AsyncClient
    from gleaner.client import Client

T = TypeVar("T")

_PATH = "/v1/webhook-endpoints"


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A receiver that the gateway notifies when jobs end.

    Attributes:
        events: types of events that are sent to it; None for all.
        all_jobs: True if it is notified of every job, False if only of jobs that name it.
        status: active or disabled; then `disabled_reason` says why.
        secret: set only in the response that created it.
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
        """Parse an endpoint object; unknown fields are ignored."""
        events, reason = body.get("events"), body.get("disabled_reason")
        with_defaults = {"description": "", "all_jobs": True, "failures_in_a_row": 0, **body}
        return parse_fields(
            cls, with_defaults, events=None if events is None else tuple(events), disabled_reason=reason
        )


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One HTTP request to the receiver: its `status`, or None if there was no response; then `error` says why."""

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
        """Parse a delivery object."""
        next_attempt = body.get("next_attempt_at")
        return parse_fields(
            cls,
            body,
            created_at=datetime.fromisoformat(body["created_at"]),
            next_attempt_at=None if next_attempt is None else datetime.fromisoformat(next_attempt),
            attempts=tuple(
                DeliveryAttempt(
                    datetime.fromisoformat(item["at"]), item.get("status"), item["latency_ms"], item.get("error")
                )
                for item in body.get("attempts") or ()
            ),
        )


class Webhooks:
    """The tenant's webhook endpoints, as `client.webhooks`.

    Examples:
        A receiver on this machine, which a local stack may call; otherwise it must be a public https URL.

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
        """Register an endpoint; its `secret` is returned only now.

        Raises:
            ValidationError: the URL may not be called, or another argument is invalid.
        """
        return self._client._send_call(_create_endpoint(url, events, description, secret, all_jobs))

    def list(self) -> tuple[WebhookEndpoint, ...]:
        """Return the registered endpoints, oldest first."""
        return self._client._send_call(_list_endpoints())

    def get(self, endpoint_id: str) -> WebhookEndpoint:
        """Return an endpoint, also one that a job defined inline."""
        return self._client._send_call(_get_endpoint(endpoint_id))

    def enable(self, endpoint_id: str) -> WebhookEndpoint:
        """Enable a disabled endpoint; deliveries that were waiting for it are sent."""
        return self._client._send_call(_set_status(endpoint_id, "active"))

    def disable(self, endpoint_id: str) -> WebhookEndpoint:
        """Stop sending events to an endpoint until it is enabled again."""
        return self._client._send_call(_set_status(endpoint_id, "disabled"))

    def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint and its pending deliveries."""
        self._client._send_call(_delete_endpoint(endpoint_id))

    def test(self, endpoint_id: str) -> dict[str, Any]:
        """Have the gateway send a `webhook.test` event now; return the receiver's response."""
        return self._client._send_call(_test_endpoint(endpoint_id))

    def rotate(self, endpoint_id: str, secret: str | None = None) -> str:
        """Create and return a new secret, shown only now; events are signed with the old one too for 24 hours."""
        return self._client._send_call(_rotate_secret(endpoint_id, secret))

    def deliveries(
        self, endpoint_id: str, *, status: str | None = None, limit: int | None = None
    ) -> Iterator[WebhookDelivery]:
        """Yield an endpoint's deliveries of the last seven days, pending ones included, newest first."""
        client = self._client
        return client._stream_flow(
            flows.list_items(partial(_list_deliveries, endpoint_id, status), limit, client._retry)
        )

    def redeliver(self, delivery_id: str) -> WebhookDelivery:
        """Send an event again under the same id, whether it was delivered or not.

        Raises:
            Conflict: its endpoint is disabled.
        """
        return self._client._send_call(_redeliver_event(delivery_id))

    def recover(self, endpoint_id: str, since: datetime) -> int:
        """Send all events again whose delivery failed since `since`; return their number.

        Raises:
            Conflict: the endpoint is disabled.
        """
        return self._client._send_call(_recover_deliveries(endpoint_id, since))


class AsyncWebhooks:
    """Asynchronous `Webhooks`, as `AsyncClient.webhooks`."""

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
        """See `Webhooks.create`."""
        return await self._client._send_call(_create_endpoint(url, events, description, secret, all_jobs))

    async def list(self) -> tuple[WebhookEndpoint, ...]:
        """See `Webhooks.list`."""
        return await self._client._send_call(_list_endpoints())

    async def get(self, endpoint_id: str) -> WebhookEndpoint:
        """See `Webhooks.get`."""
        return await self._client._send_call(_get_endpoint(endpoint_id))

    async def enable(self, endpoint_id: str) -> WebhookEndpoint:
        """See `Webhooks.enable`."""
        return await self._client._send_call(_set_status(endpoint_id, "active"))

    async def disable(self, endpoint_id: str) -> WebhookEndpoint:
        """See `Webhooks.disable`."""
        return await self._client._send_call(_set_status(endpoint_id, "disabled"))

    async def delete(self, endpoint_id: str) -> None:
        """See `Webhooks.delete`."""
        await self._client._send_call(_delete_endpoint(endpoint_id))

    async def test(self, endpoint_id: str) -> dict[str, Any]:
        """See `Webhooks.test`."""
        return await self._client._send_call(_test_endpoint(endpoint_id))

    async def rotate(self, endpoint_id: str, secret: str | None = None) -> str:
        """See `Webhooks.rotate`."""
        return await self._client._send_call(_rotate_secret(endpoint_id, secret))

    def deliveries(
        self, endpoint_id: str, *, status: str | None = None, limit: int | None = None
    ) -> AsyncIterator[WebhookDelivery]:
        """See `Webhooks.deliveries`."""
        client = self._client
        return client._stream_flow(
            flows.list_items(partial(_list_deliveries, endpoint_id, status), limit, client._retry)
        )

    async def redeliver(self, delivery_id: str) -> WebhookDelivery:
        """See `Webhooks.redeliver`."""
        return await self._client._send_call(_redeliver_event(delivery_id))

    async def recover(self, endpoint_id: str, since: datetime) -> int:
        """See `Webhooks.recover`."""
        return await self._client._send_call(_recover_deliveries(endpoint_id, since))


def _create_endpoint(
    url: str, events: Sequence[str] | None, description: str, secret: str | None, all_jobs: bool
) -> Call[WebhookEndpoint]:
    if isinstance(events, str):
        raise TypeError("events is one string; pass a list of events")
    body = {
        "url": url,
        "events": None if events is None else [*events],
        "description": description,
        "secret": secret,
        "all_jobs": all_jobs,
    }
    return _build_call("POST", _PATH, body, _parse_endpoint)


def _list_endpoints() -> Call[tuple[WebhookEndpoint, ...]]:
    return Call("GET", _PATH, lambda response: tuple(map(WebhookEndpoint.from_json, response.json()["data"])))


def _get_endpoint(endpoint_id: str) -> Call[WebhookEndpoint]:
    return Call("GET", _endpoint_path(endpoint_id), _parse_endpoint)


def _set_status(endpoint_id: str, status: str) -> Call[WebhookEndpoint]:
    return _build_call("PATCH", _endpoint_path(endpoint_id), {"status": status}, _parse_endpoint, repeatable=True)


def _delete_endpoint(endpoint_id: str) -> Call[None]:
    return Call("DELETE", _endpoint_path(endpoint_id), lambda _response: None)


def _test_endpoint(endpoint_id: str) -> Call[dict[str, Any]]:
    return _build_call("POST", f"{_endpoint_path(endpoint_id)}/test", None, lambda response: dict(response.json()))


def _rotate_secret(endpoint_id: str, secret: str | None) -> Call[str]:
    path = f"{_endpoint_path(endpoint_id)}/rotate-secret"
    return _build_call("POST", path, {"secret": secret}, lambda response: str(response.json()["secret"]))


def _list_deliveries(
    endpoint_id: str, status: str | None, limit: int | None, cursor: str | None
) -> Call[ListPage[WebhookDelivery]]:
    params = drop_missing(status=status, limit=limit and min(limit, 200), cursor=cursor)
    return Call(
        "GET", f"{_endpoint_path(endpoint_id)}/deliveries", parse_list(WebhookDelivery.from_json), params=params
    )


def _redeliver_event(delivery_id: str) -> Call[WebhookDelivery]:
    path = f"/v1/deliveries/{quote(delivery_id, safe='')}/redeliver"
    return _build_call("POST", path, None, lambda response: WebhookDelivery.from_json(response.json()))


def _recover_deliveries(endpoint_id: str, since: datetime) -> Call[int]:
    body = {"since": since.astimezone(UTC).isoformat()}
    return _build_call(
        "POST", f"{_endpoint_path(endpoint_id)}/recover", body, lambda response: int(response.json()["recovered"])
    )


def _parse_endpoint(response: httpx.Response) -> WebhookEndpoint:
    return WebhookEndpoint.from_json(response.json())


def _endpoint_path(endpoint_id: str) -> str:
    return f"{_PATH}/{quote(endpoint_id, safe='')}"


def _build_call(
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
