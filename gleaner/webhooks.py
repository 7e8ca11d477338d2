"""Webhooks for who gets them: prove that an event is genuine, and manage the endpoints that are told.

    event = verify_webhook(request_body, request_headers, secret)   # raises WebhookVerificationError

Standard Webhooks 1.0, with nothing but the standard library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx

from gleaner._calls import Call
from gleaner.errors import WebhookVerificationError

if TYPE_CHECKING:
    from gleaner.client import Client

T = TypeVar("T")

TOLERANCE_S = 300
"""How far a timestamp may lie from now: an old event that somebody sends again is not genuine."""
_PREFIX = "whsec_"


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> dict[str, Any]:
    """The event, if its signature is good.

    Args:
        body: exactly as it arrived; parsing and writing it again changes the bytes.
        headers: the request's; upper or lower case.
        secret: the endpoint's `whsec_…`, or several of which one must fit.
        tolerance_s: how far its timestamp may lie from now.
        now: Unix time; the clock's by default.

    Raises:
        WebhookVerificationError: it did not come from who knows the secret, or not just now.
        ValueError: a secret is none.
    """
    content = body.encode() if isinstance(body, str) else body
    found = {name.lower(): value for name, value in headers.items()}
    try:
        event_id, timestamp, signatures = (found[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        at = int(timestamp)
    except (KeyError, ValueError):
        raise WebhookVerificationError("a webhook header is missing or is not one") from None
    if abs((time.time() if now is None else now) - at) > tolerance_s:
        raise WebhookVerificationError("the timestamp is too far from now")
    signed = b".".join((event_id.encode(), str(at).encode(), content))
    presented = [part.removeprefix("v1,") for part in signatures.split() if part.startswith("v1,")]
    for each in (secret,) if isinstance(secret, str) else secret:
        expected = base64.b64encode(hmac.new(_key(each), signed, hashlib.sha256).digest())
        if any(hmac.compare_digest(expected, signature.encode()) for signature in presented):
            return _event(content)
    raise WebhookVerificationError("no signature fits")


def new_secret() -> str:
    """A secret to give along with a webhook, where you want to know it beforehand."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret is `whsec_` and base64") from None


def _event(content: bytes) -> dict[str, Any]:
    try:
        event = json.loads(content)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise WebhookVerificationError("the body is no event")
    return event


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


class Webhooks:
    """The tenant's webhook endpoints, as `client.webhooks`."""

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
        body = {
            "url": url,
            "events": None if events is None else list(events),
            "description": description,
            "secret": secret,
            "all_jobs": all_jobs,
        }
        return self._client._call(_post("", body, lambda r: WebhookEndpoint.from_json(r.json())))

    def list(self) -> tuple[WebhookEndpoint, ...]:
        """Registered endpoints, oldest first."""

        def parse(response: httpx.Response) -> tuple[WebhookEndpoint, ...]:
            return tuple(WebhookEndpoint.from_json(item) for item in response.json()["data"])

        return self._client._call(Call("GET", _PATH, parse))

    def delete(self, endpoint_id: str) -> None:
        """Forget an endpoint and what was still to be delivered to it."""
        self._client._call(Call("DELETE", _at(endpoint_id), lambda _response: None))

    def test(self, endpoint_id: str) -> dict[str, Any]:
        """Have a `webhook.test` sent now; what the receiver said to it."""

        def parse(response: httpx.Response) -> dict[str, Any]:
            return dict(response.json())

        return self._client._call(_post(f"/{quote(endpoint_id, safe='')}/test", None, parse))

    def rotate(self, endpoint_id: str, secret: str | None = None) -> str:
        """A new secret, known now and never again; the old one signs along for 24 hours."""
        body = {"secret": secret}
        path = f"/{quote(endpoint_id, safe='')}/rotate-secret"
        return self._client._call(_post(path, body, lambda r: str(r.json()["secret"])))


_PATH = "/v1/webhook-endpoints"


def _at(endpoint_id: str) -> str:
    return f"{_PATH}/{quote(endpoint_id, safe='')}"


def _post(path: str, body: dict[str, Any] | None, parse: Callable[[httpx.Response], T]) -> Call[T]:
    content = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    return Call("POST", _PATH + path, parse, headers=headers, content=content)
