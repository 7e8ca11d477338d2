"""The documented schedule, by virtual clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from gateway.webhooks.schedule import DELAYS_S, STANDARD, AttemptResult
from jobs.ledger.webhooks import AttemptVerdict

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIDDLE = 0.5  # no jitter
FAILURES = {
    "500": AttemptResult(500, 10, error="http_error"),
    "503": AttemptResult(503, 10, error="http_error"),
    "429": AttemptResult(429, 10, error="http_error"),
    "404": AttemptResult(404, 10, error="http_error"),
    "timeout or slow drip": AttemptResult(0, 15_000, error="timeout"),
    "reset": AttemptResult(0, 10, error="connection_lost"),
    "redirect": AttemptResult(307, 10, error="redirect"),
    "TLS with a wrong name": AttemptResult(0, 10, error="tls_failed"),
    "a name that leads inside": AttemptResult(0, 10, error="address_forbidden"),
    "nobody listens": AttemptResult(0, 10, error="connect_failed"),
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_is_repeated_for_three_days(answer: AttemptResult) -> None:
    """Ten attempts: at once, then after 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h; then given up."""
    clock, at = timedelta(), [timedelta()]
    for tried in range(10):
        verdict = STANDARD.judge_attempt(answer, tried, MIDDLE, NOW + clock)
        if verdict.outcome == "failed":
            break
        clock += timedelta(milliseconds=verdict.delay_ms)
        at.append(clock)
    hours = [round(moment.total_seconds() / 3600, 1) for moment in at]
    assert hours == [0, 0, 0.1, 0.6, 2.6, 7.6, 17.6, 31.6, 51.6, 75.6]
    assert verdict == AttemptVerdict("failed")
    assert sum(DELAYS_S) == clock.total_seconds()


@pytest.mark.parametrize("tried", range(9))
def test_jitter_is_a_fifth(tried: int) -> None:
    """Each delay is spread over 80 to 120 %."""
    delays = [
        STANDARD.judge_attempt(FAILURES["500"], tried, chance, NOW).delay_ms / 1000 for chance in (0.0, 0.5, 1.0)
    ]
    assert delays == pytest.approx([0.8 * DELAYS_S[tried], DELAYS_S[tried], 1.2 * DELAYS_S[tried]])


@pytest.mark.parametrize(
    ("retry_after", "delay_s"),
    [
        ("", 300),
        ("0", 300),
        ("60", 300),  # never sooner than the schedule
        ("450", 450),
        (" 450 ", 450),
        ("600", 600),
        ("86400", 600),  # never more than double
        ("9" * 400, 600),
        (format_datetime(NOW + timedelta(seconds=500), usegmt=True), 500),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 300),
        ("Thu, 01 Jan 1970 00:00:00 -0000", 300),
        ("-5", 300),
        ("soon", 300),
        ("\u0663", 300),
        ("1e9", 300),
        ("Wed, 9999999999999999999918 May 2033 03:33:20 GMT", 300),
        ("Wed, 18 May 2033 03:33:20 +99999999999999999999", 300),
        ("9" * 5000, 600),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_up_to_double(status: int, retry_after: str, delay_s: float) -> None:
    """It may be seconds or a date; invalid values are ignored."""
    answer = AttemptResult(status, 10, error="http_error", retry_after=retry_after)
    assert STANDARD.judge_attempt(answer, 1, MIDDLE, NOW) == AttemptVerdict("retry", round(delay_s * 1000))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    """Whatever the attempt's number."""
    assert STANDARD.judge_attempt(AttemptResult(status, 10), 7, MIDDLE, NOW) == AttemptVerdict("delivered")


def test_410_and_wishes_of_the_receiver() -> None:
    """410 or `webhook-delivery: disable` ends the endpoint, `abort-message` the delivery; a 2xx is one."""
    assert STANDARD.judge_attempt(AttemptResult(410, 10, error="http_error"), 0, MIDDLE, NOW) == AttemptVerdict(
        "failed", disable="gone"
    )
    wishes = AttemptResult(500, 10, error="http_error", directive="disable")
    assert STANDARD.judge_attempt(wishes, 0, MIDDLE, NOW) == AttemptVerdict("failed", disable="asked")
    assert STANDARD.judge_attempt(AttemptResult(200, 10, directive="disable"), 0, MIDDLE, NOW) == AttemptVerdict(
        "delivered", disable="asked"
    )
    abort = AttemptResult(500, 10, error="http_error", directive="abort-message")
    assert STANDARD.judge_attempt(abort, 0, MIDDLE, NOW) == AttemptVerdict("failed")
    assert (
        STANDARD.judge_attempt(
            AttemptResult(500, 10, error="http_error", directive="dance"), 0, MIDDLE, NOW
        ).outcome
        == "retry"
    )
