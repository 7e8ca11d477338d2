"""A place in a list as the opaque text that clients carry: `Cursor`, `JobPosition` <-> URL-safe base64."""

from __future__ import annotations

import base64
import binascii
import re

from gateway.http.problems import Problem
from jobs.ledger import JobPosition
from jobs.results import Cursor

_LONGEST = 80
_RESULTS = re.compile(rb"r1:([0-9]{1,9}):([0-9]{1,9})")
_JOBS = re.compile(rb"j1:([0-9]{1,15}):(job_[0-9a-z]{26})")


def encode(cursor: Cursor) -> str:
    """A place in a job's results as text."""
    return _text(f"r1:{cursor.shard}:{cursor.offset}")


def decode(text: str | None) -> Cursor:
    """The place in a job's results that a client came back with; None is the beginning.

    Raises:
        Problem: bad_cursor.
    """
    if text is None:
        return Cursor()
    match = _match(_RESULTS, text)
    return Cursor(int(match[1]), int(match[2]))


def encode_place(place: JobPosition) -> str:
    """A place in the list of jobs as text."""
    return _text(f"j1:{place.created}:{place.id}")


def decode_place(text: str | None) -> JobPosition | None:
    """The place in the list of jobs that a client came back with; None is the beginning.

    Raises:
        Problem: bad_cursor.
    """
    if text is None:
        return None
    match = _match(_JOBS, text)
    return JobPosition(int(match[1]), match[2].decode())


def _text(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _match(form: re.Pattern[bytes], text: str) -> re.Match[bytes]:
    if not text.isascii() or not 0 < len(text) <= _LONGEST:
        raise _bad()
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise _bad() from None
    match = form.fullmatch(raw)
    if match is None:
        raise _bad()
    return match


def _bad() -> Problem:
    return Problem("bad_cursor", "`cursor` is not one that this list handed out")
