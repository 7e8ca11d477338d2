"""Verification of received webhooks; `client.webhooks` manages the endpoints.

    event = verify_webhook(request_body, request_headers, secret)   # raises WebhookVerificationError

Implements Standard Webhooks 1.0 with the standard library only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gleaner.errors import WebhookVerificationError

TOLERANCE_S = 300
"""Maximum distance of a timestamp from now: protects against replayed events."""
SECRET_BYTES = range(24, 65)
"""Lengths of a secret's key that Standard Webhooks and the gateway allow."""
_PREFIX = "whsec_"
_NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")


def verify_webhook(
    body: bytes | bytearray | memoryview | str,
    headers: Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]],
    secret: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> dict[str, Any]:
    """Return the event if its signature and timestamp are valid.

    Args:
        body: exactly as received; parsing and serialising it again changes the bytes.
        headers: the request's, upper or lower case: a mapping, or pairs as in an ASGI scope.
        secret: the endpoint's `whsec_…`, or several of which one must match.
        tolerance_s: maximum distance of the event's timestamp from now, in seconds.
        now: Unix time; the clock's by default.

    Raises:
        WebhookVerificationError: the event was not signed with the secret, or is too old.
        ValueError: a secret is empty, or is not `whsec_` with 24 to 64 bytes in base64. With an empty secret, for
            example from an unset variable, anybody could sign.
        TypeError: the body or the headers have an unexpected type, for example parsed JSON.

    Examples:
        >>> headers = {"webhook-id": "1", "webhook-timestamp": "1700000000", "webhook-signature": "v1,AAAA"}
        >>> verify_webhook(b"{}", headers, new_secret(), now=1700000000)
        Traceback (most recent call last):
        gleaner.errors.WebhookVerificationError: no signature matches the secret
    """
    keys = _parse_secrets(secret)
    content = _to_bytes(body)
    event_id, timestamp, signatures = _read_headers(headers)
    # int() also accepts signs, blanks and underscores; 15 digits are beyond any clock, and still exact as a float.
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        raise WebhookVerificationError("the timestamp is not a Unix time in seconds")
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance_s:
        raise WebhookVerificationError("the timestamp is too far from now")
    signed = b".".join((event_id.encode("utf-8", "surrogatepass"), timestamp.encode(), content))
    presented = [
        part.removeprefix("v1,").encode("utf-8", "surrogatepass")
        for part in signatures.split()
        if part.startswith("v1,")
    ]
    for key in keys:
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
        if any(hmac.compare_digest(expected, signature) for signature in presented):
            return _parse_event(content)
    raise WebhookVerificationError("no signature matches the secret")


def new_secret() -> str:
    """Return a new secret, for a webhook whose secret you choose yourself."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _parse_secrets(secret: str | Sequence[str]) -> list[bytes]:
    """Return the keys of all secrets; raise ValueError if any is invalid, because each one would be accepted."""
    items = [secret] if isinstance(secret, str) else list(secret or ())
    if not items:
        raise ValueError("no webhook secret was passed")
    return [_parse_secret(item) for item in items]


def _parse_secret(secret: str) -> bytes:
    if not isinstance(secret, str):
        raise ValueError(f"a webhook secret must be a string, not {type(secret).__name__}")
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a webhook secret must be `whsec_` followed by base64") from None
    if len(key) not in SECRET_BYTES:
        raise ValueError(
            "the webhook secret is empty; is its variable set?"
            if not key
            else "the key of a webhook secret must have 24 to 64 bytes"
        )
    return key


def _to_bytes(body: object) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"body is {type(body).__name__}; pass the request's bytes as received, not the parsed JSON")


def _read_headers(headers: Any) -> tuple[str, str, str]:
    """Return id, timestamp and signatures.

    Raises:
        WebhookVerificationError: one is missing or duplicated.
        TypeError: these are not headers.
    """
    pairs = headers.items() if isinstance(headers, Mapping) or hasattr(headers, "items") else headers
    values: dict[str, str] = {}
    try:
        for name, value in pairs:
            lowered = _to_text(name).lower()
            if lowered not in _NAMES:
                continue
            if isinstance(value, list | tuple):
                [value] = value
            if lowered in values:
                raise WebhookVerificationError(f"the header {lowered} occurs twice")
            values[lowered] = _to_text(value)
    except (TypeError, ValueError) as error:
        raise TypeError("headers must be a mapping of names to values, or an iterable of pairs") from error
    missing = [name for name in _NAMES if name not in values]
    if missing:
        raise WebhookVerificationError(f"the header {missing[0]} is missing")
    return values[_NAMES[0]], values[_NAMES[1]], values[_NAMES[2]]


def _to_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise TypeError(f"{type(value).__name__} in the headers")


def _parse_event(content: bytes) -> dict[str, Any]:
    try:
        event = json.loads(content)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise WebhookVerificationError("the body is not an event (a JSON object)")
    return event
