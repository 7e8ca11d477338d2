"""What an attempt's answer means for the delivery: delivered, again later, or given up. Pure; no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

DELAYS_S: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds before the second, third, ... attempt; the first is made at once."""


_LONGEST_DATE = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one HTTP try.

    Attributes:
        status: of the answer; 0 if there was none.
        latency_ms: from the first look-up to the end of what was read.
        body: the start of the answer's body.
        error: "" for a 2xx; else its class: http_error, redirect, timeout, dns_failed, address_forbidden, ...
        retry_after: the header as sent, or "".
        wish: the header `webhook-delivery` (`disable` or `abort-message`), or "".
    """

    status: int
    latency_ms: int
    body: bytes = b""
    error: str = ""
    retry_after: str = ""
    wish: str = ""

    @property
    def accepted(self) -> bool:
        """The receiver has the event."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes next: `retry` after `delay_ms`; `disable`: why the endpoint gets no more events, or ""."""

    outcome: Literal["delivered", "retry", "failed"]
    delay_ms: int = 0
    disable: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a delivery is tried again.

    Attributes:
        delays_s: seconds between attempts.
        jitter: each delay is longer or shorter by up to this fraction, so that receivers are not hit in step.
    """

    delays_s: tuple[float, ...] = DELAYS_S
    jitter: float = 0.2

    def judge(self, answer: Answer, tried: int, chance: float, now: datetime) -> Verdict:
        """What an attempt means.

        Args:
            answer: what came back.
            tried: attempts before this one.
            chance: a random number in 0..1.
            now: to read a Retry-After that is a date.
        """
        disable = _disable(answer)
        if answer.accepted:
            return Verdict("delivered", disable=disable)
        if disable or answer.wish == "abort-message" or tried >= len(self.delays_s):
            return Verdict("failed", disable=disable)
        base = self.delays_s[tried]
        delay = base * (1 + self.jitter * (2 * chance - 1))
        asked = _seconds(answer.retry_after, now)
        if asked is not None:
            delay = max(delay, min(asked, 2 * base))  # honoured, up to double
        return Verdict("retry", round(delay * 1000))


def _disable(answer: Answer) -> str:
    if answer.status == 410:
        return "gone"
    return "asked" if answer.wish == "disable" else ""


def _seconds(retry_after: str, now: datetime) -> float | None:
    """A Retry-After as seconds from now; None where it is absent or nonsense."""
    value = retry_after.strip()[:_LONGEST_DATE]
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())


STANDARD = Schedule()
