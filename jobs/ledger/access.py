"""The ledger's transitions for callers: rates that are counted, and browsers' sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.ledger.parsing import text
from jobs.ledger.types import Call

MAX_SESSIONS = 100
"""Most sessions of one API key at once, so that signing in again and again does not fill the server."""


@dataclass(frozen=True, slots=True)
class Take:
    """What is to be counted of one rule.

    Attributes:
        name: where the rule is counted.
        amount: the most that its window may hold.
        window_s: length of the sliding window (seconds).
        cost: what to count; 0 only looks, below 0 gives back.
    """

    name: str
    amount: int
    window_s: int
    cost: int


@dataclass(frozen=True, slots=True)
class RateWindow:
    """A sliding window: counts of the last one and of this one, and how long each still matters (ms)."""

    previous: int
    previous_ms: int
    current: int
    current_ms: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of counting.

    Attributes:
        refused: index of the first rule without room for its cost, and nothing was counted; None: all was.
        windows: of each rule, as they are now.
    """

    refused: int | None
    windows: tuple[RateWindow, ...]


def take_rates(takes: Sequence[Take]) -> Call[Taken]:
    """Count the costs of rules, all of them or none."""

    def parse(reply: list[Any]) -> Taken:
        return Taken(
            int(reply[0]) - 1 if reply[0] else None, tuple(RateWindow(*map(int, row)) for row in reply[1:])
        )

    args = [part for take in takes for part in (take.name, take.amount, take.window_s, take.cost)]
    return Call("take_rates", tuple(args), parse)


def begin_session(session: str, key_hash: str, lifetime_s: int) -> Call[int]:
    """Begin a browser's session of an API key; both are named by their SHA-256."""
    return Call("begin_session", (session, key_hash, lifetime_s * 1000, MAX_SESSIONS), int)


def find_session_key(session: str) -> Call[str]:
    """Return the SHA-256 of the key that a session stands for; "" where there is no such session."""
    return Call("find_session_key", (session,), text)


def end_session(session: str) -> Call[bool]:
    """End a session; True if there was one."""
    return Call("end_session", (session,), bool)
