"""The ledger's transitions for access control: rate limits and browser sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.ledger.parsing import to_text
from jobs.ledger.types import Call

MAX_SESSIONS = 100
"""Maximum sessions of one API key, so that repeated sign-ins do not fill Redis."""


@dataclass(frozen=True, slots=True)
class Take:
    """A cost to count against one rule.

    Attributes:
        name: name of the rule's counter.
        amount: maximum sum of costs in the window.
        window_s: length of the sliding window (seconds).
        cost: cost to count; 0 only reads, a negative cost is refunded.
    """

    name: str
    amount: int
    window_s: int
    cost: int


@dataclass(frozen=True, slots=True)
class RateWindow:
    """Counts of a sliding window's previous and current period, and how long each still counts (ms)."""

    previous: int
    previous_ms: int
    current: int
    current_ms: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The outcome of `take_rates`.

    Attributes:
        refused: index of the first rule whose limit would be exceeded; nothing was counted. None: all was counted.
        windows: the window of each rule, as it is now.
    """

    refused: int | None
    windows: tuple[RateWindow, ...]


def take_rates(takes: Sequence[Take]) -> Call[Taken]:
    """Count the costs of all rules, or of none if one would be exceeded."""

    def parse(reply: list[Any]) -> Taken:
        return Taken(
            int(reply[0]) - 1 if reply[0] else None, tuple(RateWindow(*map(int, row)) for row in reply[1:])
        )

    args = [part for take in takes for part in (take.name, take.amount, take.window_s, take.cost)]
    return Call("take_rates", tuple(args), parse)


def begin_session(session: str, key_hash: str, lifetime_s: int) -> Call[int]:
    """Begin a browser session of an API key; both are identified by their SHA-256."""
    return Call("begin_session", (session, key_hash, lifetime_s * 1000, MAX_SESSIONS), int)


def find_session_key(session: str) -> Call[str]:
    """Return the SHA-256 of a session's API key; "" if there is no such session."""
    return Call("find_session_key", (session,), to_text)


def end_session(session: str) -> Call[bool]:
    """End a session; True if it existed."""
    return Call("end_session", (session,), bool)
