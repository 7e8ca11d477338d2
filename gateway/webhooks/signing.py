"""Standard Webhooks 1.0: secrets, and the three headers that prove the sender and time of a payload. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
_BYTES = 32


def new_secret() -> str:
    """Return a new secret of 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def find_secret_fault(secret: str) -> str | None:
    """Return the error in a client's own secret, or None."""
    try:
        size = len(_decode_key(secret)) if secret.startswith(PREFIX) else 0
    except (binascii.Error, ValueError):
        size = 0
    return None if 24 <= size <= 64 else "must be `whsec_` and the base64 of 24 to 64 bytes"


def sign_headers(delivery: str, at_s: int, body: bytes, signing_secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers of one attempt, with a signature for each secret.

    Args:
        delivery: the same for every attempt, so that a receiver can drop duplicates.
        at_s: time of the attempt, in Unix seconds.
        body: the exact bytes that are sent.
        signing_secrets: the current one first.
    """
    signed = b"%s.%d.%s" % (delivery.encode(), at_s, body)
    digests = (hmac.new(_decode_key(secret), signed, hashlib.sha256).digest() for secret in signing_secrets)
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def _decode_key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
