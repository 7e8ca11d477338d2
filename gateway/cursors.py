"""A place in a job's results as the opaque text that clients carry: `Cursor` <-> URL-safe base64."""

from __future__ import annotations

import base64
import binascii
import re

from gateway.problems import Problem
from jobs.results import Cursor

_LONGEST = 64
_FORM = re.compile(rb"r1:([0-9]{1,9}):([0-9]{1,9})")


def encode(cursor: Cursor) -> str:
    """The cursor as text."""
    return base64.urlsafe_b64encode(f"r1:{cursor.shard}:{cursor.offset}".encode()).decode().rstrip("=")


def decode(text: str | None) -> Cursor:
    """The place a client came back with; None is the beginning.

    Raises:
        Problem: bad_cursor.
    """
    if text is None:
        return Cursor()
    if not text.isascii() or not 0 < len(text) <= _LONGEST:
        raise _bad()
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise _bad() from None
    match = _FORM.fullmatch(raw)
    if match is None:
        raise _bad()
    return Cursor(int(match[1]), int(match[2]))


def _bad() -> Problem:
    return Problem("bad_cursor", "`cursor` is not one that this API handed out")
