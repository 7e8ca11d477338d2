"""Reads a submission's headers: media type, Idempotency-Key, `Prefer: wait`, traceparent."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping

from gateway.errors import GatewayError
from gateway.submission.types import IdempotencyKey, IncomingRequest

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PREFER_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


def check_media_type(headers: Mapping[str, str], *allowed: str) -> str:
    """Return the body's media type, one of `allowed`, in UTF-8.

    Raises:
        GatewayError: unsupported_media_type.
    """
    content_type = headers.get("content-type", "")
    if content_type in allowed:
        return content_type
    media_type, _, parameters = content_type.partition(";")
    charset = re.search(r'charset\s*=\s*"?([^";\s]+)', parameters, re.IGNORECASE)
    media_type = media_type.strip().lower()
    if media_type not in allowed:
        raise GatewayError("unsupported_media_type", f"the Content-Type must be {' or '.join(allowed)}")
    if charset and charset[1].lower() not in ("utf-8", "utf8"):
        raise GatewayError("unsupported_media_type", "the charset must be UTF-8")
    return media_type


def read_idempotency_key(request: IncomingRequest, body: bytes | bytearray | None = None) -> IdempotencyKey | None:
    """Return the request's Idempotency-Key, bound to its path and body, or None.

    Without `body`, the hash of the body is left empty: it is computed while the body is read.

    Raises:
        GatewayError: validation_failed, for a key that is not 1 to 255 visible ASCII characters.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        detail = "must be 1 to 255 visible ASCII characters"
        raise GatewayError("validation_failed", f"Idempotency-Key {detail}", [("header:Idempotency-Key", detail)])
    body_sha = ""
    if body is not None:
        content = hashlib.sha256(request.path.encode() + b"\n")
        content.update(body)
        body_sha = content.hexdigest()
    return IdempotencyKey(hashlib.sha256(key.encode()).hexdigest(), body_sha, secrets.token_hex(16))


def preferred_wait(prefer: str, max_s: int) -> int | None:
    """Return the seconds of `Prefer: wait=n` (RFC 7240), at most `max_s`, or None."""
    match = _PREFER_WAIT.search(prefer)
    return min(int(match[1]), max_s) if match else None


def trace_context(headers: Mapping[str, str]) -> str:
    """Return the W3C traceparent, or "" if it is absent or malformed."""
    traceparent = headers.get("traceparent", "").strip()
    return traceparent if _TRACEPARENT.fullmatch(traceparent) else ""
