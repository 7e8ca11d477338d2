"""Webhooks for who gets them: prove that an event is genuine; `client.webhooks` manages the endpoints.

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
from collections.abc import Mapping, Sequence
from typing import Any

from gleaner.errors import WebhookVerificationError

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

    Examples:
        >>> headers = {"webhook-id": "1", "webhook-timestamp": "1700000000", "webhook-signature": "v1,AAAA"}
        >>> verify_webhook(b"{}", headers, new_secret(), now=1700000000)
        Traceback (most recent call last):
        gleaner.errors.WebhookVerificationError: no signature fits
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
