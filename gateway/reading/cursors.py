"""Opaque pagination cursors: a position in a list <-> URL-safe base64."""

from __future__ import annotations

import base64
import binascii
import re

from gateway.errors import GatewayError
from jobs.ledger import JobPosition
from jobs.results import Cursor

_MAX_LENGTH = 80
_RESULT = re.compile(rb"r1:([0-9]{1,9}):([0-9]{1,9})")
_JOB = re.compile(rb"j1:([0-9]{1,15}):(job_[0-9a-z]{26})")
_DELIVERY = re.compile(rb"d1:([0-9]{1,16}):([0-9]{1,9})")


def encode_result_cursor(cursor: Cursor) -> str:
    """Return a position in a job's results as text."""
    return _encode(f"r1:{cursor.shard}:{cursor.offset}")


def decode_result_cursor(text: str | None) -> Cursor:
    """Parse a position in a job's results; None is the beginning.

    Raises:
        GatewayError: bad_cursor.
    """
    if text is None:
        return Cursor()
    match = _decode(_RESULT, text)
    return Cursor(int(match[1]), int(match[2]))


def encode_job_cursor(position: JobPosition) -> str:
    """Return a position in the list of jobs as text."""
    return _encode(f"j1:{position.created}:{position.id}")


def decode_job_cursor(text: str | None) -> JobPosition | None:
    """Parse a position in the list of jobs; None is the beginning.

    Raises:
        GatewayError: bad_cursor.
    """
    if text is None:
        return None
    match = _decode(_JOB, text)
    return JobPosition(int(match[1]), match[2].decode())


def encode_delivery_cursor(position: tuple[int, int]) -> str:
    """Return a position in an endpoint's deliveries as text."""
    return _encode(f"d1:{position[0]}:{position[1]}")


def decode_delivery_cursor(text: str | None) -> tuple[int, int] | None:
    """Parse a position in an endpoint's deliveries; None is the beginning.

    Raises:
        GatewayError: bad_cursor.
    """
    if text is None:
        return None
    match = _decode(_DELIVERY, text)
    return int(match[1]), int(match[2])


def _encode(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _decode(pattern: re.Pattern[bytes], text: str) -> re.Match[bytes]:
    if not text.isascii() or not 0 < len(text) <= _MAX_LENGTH:
        raise _bad_cursor()
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise _bad_cursor() from None
    match = pattern.fullmatch(raw)
    if match is None:
        raise _bad_cursor()
    return match


def _bad_cursor() -> GatewayError:
    return GatewayError(
        "bad_cursor", "`cursor` is not one from this list; pass the previous page's `next_cursor` unchanged"
    )
