"""Decides after each attempt: delivered, retry later, or failed. Pure; no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from jobs.ledger.webhooks import AttemptVerdict

DELAYS_S: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds before the second, third, ... attempt; the first is made at once."""
_MAX_DATE_LENGTH = 64


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of one HTTP attempt.

    Attributes:
        status: HTTP status; 0 if there was no response.
        latency_ms: from the DNS look-up to the end of the response that was read.
        body: the start of the response body.
        error: "" for a 2xx; else its class: http_error, redirect, timeout, dns_failed, address_forbidden, ...
        retry_after: the header as sent, or "".
        directive: the header `webhook-delivery` (`disable` or `abort-message`), or "".
    """

    status: int
    latency_ms: int
    body: bytes = b""
    error: str = ""
    retry_after: str = ""
    directive: str = ""

    @property
    def accepted(self) -> bool:
        """True if the receiver accepted the event."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Schedule:
    """The retry schedule of a delivery.

    Attributes:
        delays_s: seconds between attempts.
        jitter: each delay is longer or shorter by up to this fraction, so that receivers are not hit in step.
    """

    delays_s: tuple[float, ...] = DELAYS_S
    jitter: float = 0.2

    def judge_attempt(self, result: AttemptResult, attempts: int, chance: float, now: datetime) -> AttemptVerdict:
        """Return the next step after an attempt.

        Args:
            result: the attempt's result.
            attempts: number of earlier attempts.
            chance: a random number in 0..1.
            now: base for a Retry-After that is a date.
        """
        disable = _disable_reason(result)
        if result.accepted:
            return AttemptVerdict("delivered", disable=disable)
        if disable or result.directive == "abort-message" or attempts >= len(self.delays_s):
            return AttemptVerdict("failed", disable=disable)
        base = self.delays_s[attempts]
        delay = base * (1 + self.jitter * (2 * chance - 1))
        retry_after_s = _parse_retry_after(result.retry_after, now)
        if retry_after_s is not None:
            delay = max(delay, min(retry_after_s, 2 * base))  # honoured, up to double
        return AttemptVerdict("retry", round(delay * 1000))


def _disable_reason(result: AttemptResult) -> str:
    if result.status == 410:
        return "gone"
    return "asked" if result.directive == "disable" else ""


def _parse_retry_after(retry_after: str, now: datetime) -> float | None:
    """Parse a Retry-After as seconds from now; None if it is absent or invalid."""
    value = retry_after.strip()[:_MAX_DATE_LENGTH]
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
