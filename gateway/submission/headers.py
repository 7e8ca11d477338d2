"""What is known of a submission before its body is parsed: size, type, Idempotency-Key, how long to wait."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from fastapi import Request

from gateway.http.problems import Problem
from gateway.settings import GatewaySettings
from gateway.submission.body import BodyChunks, BodyLimits
from gateway.submission.body_memory import FREE_BYTES, Reservation

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PREFER_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An Idempotency-Key with the request it came with; the key itself is kept as a hash only.

    Attributes:
        begun: the ledger's time when the key was taken (ms); 0 before.
    """

    key_hash: str
    body_sha: str
    nonce: str
    begun: int = 0


async def read_body(
    request: Request, limits: BodyLimits | int, reservation: Reservation | None = None
) -> bytearray:
    """Read the body of a JSON request, decompressed, never more than the limit of it in memory.

    Args:
        request: not read yet.
        limits: of the body; a number is its size.
        reservation: memory for the body; None if the limit is small.

    Raises:
        Problem: unsupported_media_type, payload_too_large, bad_content_encoding, request_timeout or overloaded.
        ClientDisconnect: the client went away.
    """
    check_media_type(request, "application/json")
    if isinstance(limits, int):
        limits = BodyLimits(limits)
    chunks = BodyChunks(request, limits)
    body = bytearray()
    room = FREE_BYTES
    try:
        if reservation is not None and FREE_BYTES < (declared := chunks.declared_size() or 0) <= limits.size:
            room = declared
            await reservation.resize(room)
        async for chunk in chunks:
            if reservation is not None and len(body) + len(chunk) > room:
                room = min(limits.size, max(len(body) + len(chunk), 2 * room))
                await reservation.resize(room)
            body += chunk
    except Problem:
        await chunks.drain()
        raise
    return body


def body_limits(settings: GatewaySettings, size: int) -> BodyLimits:
    """The limits of a body of at most `size` bytes."""
    return BodyLimits(size, settings.max_compression_ratio, settings.body_idle_s)


def check_media_type(request: Request, *allowed: str) -> str:
    """The body's media type, one of `allowed`, in UTF-8.

    Raises:
        Problem: unsupported_media_type.
    """
    given = request.headers.get("content-type", "")
    if given in allowed:
        return given
    media_type, _, parameters = given.partition(";")
    charset = re.search(r'charset\s*=\s*"?([^";\s]+)', parameters, re.IGNORECASE)
    found = media_type.strip().lower()
    if found not in allowed:
        raise Problem("unsupported_media_type", f"the Content-Type must be {' or '.join(allowed)}")
    if charset and charset[1].lower() not in ("utf-8", "utf8"):
        raise Problem("unsupported_media_type", "the charset must be UTF-8")
    return found


def read_idempotency_key(request: Request, body: bytes | bytearray) -> IdempotencyKey | None:
    """The request's Idempotency-Key, bound to its path and body; None where it has none.

    Raises:
        Problem: validation_failed, for a key that is no header token of 1 to 255 characters.
    """
    key_hash = hash_idempotency_key(request)
    if key_hash is None:
        return None
    content = hashlib.sha256(request.url.path.encode() + b"\n")
    content.update(body)
    return IdempotencyKey(key_hash, content.hexdigest(), secrets.token_hex(16))


def hash_idempotency_key(request: Request) -> str | None:
    """The hash of the request's Idempotency-Key; None where it has none.

    Raises:
        Problem: as `read_idempotency_key`.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        detail = "must be 1 to 255 visible ASCII characters"
        raise Problem("validation_failed", f"Idempotency-Key {detail}", [("header:Idempotency-Key", detail)])
    return hashlib.sha256(key.encode()).hexdigest()


def preferred_wait(request: Request, longest: int) -> int | None:
    """Seconds of `Prefer: wait=n` (RFC 7240), at most `longest`; None where it is not asked for."""
    match = _PREFER_WAIT.search(", ".join(request.headers.getlist("prefer")))
    return min(int(match[1]), longest) if match else None


def trace_context(request: Request) -> str:
    """The request's W3C traceparent, or "" where it has none that is well-formed."""
    given = request.headers.get("traceparent", "").strip()
    return given if _TRACEPARENT.fullmatch(given) else ""
