"""Standard Webhooks 1.0: secrets, and the three headers that prove who sent a payload and when. Pure."""

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
    """A fresh secret of 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def find_secret_fault(secret: str) -> str | None:
    """What is wrong with a secret that somebody gave, or None."""
    try:
        size = len(_key(secret)) if secret.startswith(PREFIX) else 0
    except (binascii.Error, ValueError):
        size = 0
    return None if 24 <= size <= 64 else "must be `whsec_` and the base64 of 24 to 64 bytes"


def headers(delivery: str, at_s: int, body: bytes, signing_secrets: Sequence[str]) -> dict[str, str]:
    """The headers of one attempt; with two secrets, two signatures.

    Args:
        delivery: the same for every attempt, so that a receiver can drop what it has.
        at_s: when the attempt is made, in Unix seconds.
        body: exactly what is sent.
        signing_secrets: the current one first.
    """
    signed = b"%s.%d.%s" % (delivery.encode(), at_s, body)
    marks = (hmac.new(_key(secret), signed, hashlib.sha256).digest() for secret in signing_secrets)
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(mark).decode()}" for mark in marks),
    }


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
