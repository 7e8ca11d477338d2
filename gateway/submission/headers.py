"""Reads a submission's headers and body: media type, size, Idempotency-Key, `Prefer: wait`, traceparent."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from fastapi import Request

from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from gateway.submission.body import BodyChunks, BodyLimits
from gateway.submission.body_memory import FREE_BYTES, Reservation

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PREFER_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An Idempotency-Key, stored as a hash only, with the hash of its request.

    Attributes:
        nonce: identifies the request that claimed the key.
        claimed_at_ms: time of the ledger when the key was claimed; 0 before.
    """

    key_hash: str
    body_sha: str
    nonce: str
    claimed_at_ms: int = 0


async def read_body(
    request: Request, limits: BodyLimits | int, reservation: Reservation | None = None
) -> bytearray:
    """Read and decompress the body of a JSON request.

    Args:
        request: the unread request.
        limits: the body's limits; a number limits its size.
        reservation: memory for the body; None if the limit is small.

    Raises:
        GatewayError: unsupported_media_type, payload_too_large, bad_content_encoding, request_timeout or
            overloaded.
        ClientDisconnect: the client went away.
    """
    check_media_type(request, "application/json")
    if isinstance(limits, int):
        limits = BodyLimits(limits)
    chunks = BodyChunks(request, limits)
    body = bytearray()
    reserved = FREE_BYTES
    try:
        if reservation is not None and FREE_BYTES < (declared := chunks.declared_size() or 0) <= limits.size:
            reserved = declared
            await reservation.resize(reserved)
        async for chunk in chunks:
            if reservation is not None and len(body) + len(chunk) > reserved:
                reserved = min(limits.size, max(len(body) + len(chunk), 2 * reserved))
                await reservation.resize(reserved)
            body += chunk
    except GatewayError:
        await chunks.drain()
        raise
    return body


def body_limits(settings: GatewaySettings, size: int) -> BodyLimits:
    """Return the settings' limits for a body of at most `size` bytes."""
    return BodyLimits(size, settings.max_compression_ratio, settings.body_idle_s)


def check_media_type(request: Request, *allowed: str) -> str:
    """Return the body's media type, one of `allowed`, in UTF-8.

    Raises:
        GatewayError: unsupported_media_type.
    """
    content_type = request.headers.get("content-type", "")
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


def read_idempotency_key(request: Request, body: bytes | bytearray) -> IdempotencyKey | None:
    """Return the request's Idempotency-Key, bound to its path and body, or None.

    Raises:
        GatewayError: validation_failed, for a key that is not 1 to 255 visible ASCII characters.
    """
    key_hash = hash_idempotency_key(request)
    if key_hash is None:
        return None
    content = hashlib.sha256(request.url.path.encode() + b"\n")
    content.update(body)
    return IdempotencyKey(key_hash, content.hexdigest(), secrets.token_hex(16))


def hash_idempotency_key(request: Request) -> str | None:
    """Return the hash of the request's Idempotency-Key, or None.

    Raises:
        GatewayError: as `read_idempotency_key`.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        detail = "must be 1 to 255 visible ASCII characters"
        raise GatewayError("validation_failed", f"Idempotency-Key {detail}", [("header:Idempotency-Key", detail)])
    return hashlib.sha256(key.encode()).hexdigest()


def preferred_wait(request: Request, max_s: int) -> int | None:
    """Return the seconds of `Prefer: wait=n` (RFC 7240), at most `max_s`, or None."""
    match = _PREFER_WAIT.search(", ".join(request.headers.getlist("prefer")))
    return min(int(match[1]), max_s) if match else None


def trace_context(request: Request) -> str:
    """Return the request's W3C traceparent, or "" if it is absent or malformed."""
    traceparent = request.headers.get("traceparent", "").strip()
    return traceparent if _TRACEPARENT.fullmatch(traceparent) else ""
