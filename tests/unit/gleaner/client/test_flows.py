"""The policy of retries: which errors are retried, when, and how often."""

from __future__ import annotations

import httpx
import pytest

from gleaner.client.flows import Retry
from gleaner.errors import ApiError, Conflict, RateLimited, ServerError, TransportError, Unavailable


def refused_connection() -> TransportError:
    """Return the error of a gateway that does not listen."""
    error = TransportError("no")
    error.__cause__ = httpx.ConnectError("refused")
    return error


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (RateLimited(429, "rate_limited", ""), True),
        (Unavailable(503, "overloaded", ""), True),
        (TransportError("lost"), True),
        (Conflict(409, "idempotency_in_progress", ""), True),
        (Conflict(409, "job_not_terminal", ""), False),
        (ServerError(500, "internal", ""), False),
    ],
)
def test_transient_errors_are_retried(error: ApiError | TransportError, is_retried: bool) -> None:
    """Refusals that waiting changes are retried, others are raised at once."""
    assert (Retry().next_delay(0, error) is not None) is is_retried


def test_retries_end() -> None:
    """The last allowed repetition is followed by the error."""
    error = Unavailable(503, "overloaded", "")
    assert Retry(2).next_delay(1, error) is not None
    assert Retry(2).next_delay(2, error) is None


def test_what_the_gateway_did_not_process_may_be_repeated() -> None:
    """A request that is not safe to repeat is repeated only if it was certainly not processed."""
    retry = Retry()
    assert retry.next_delay(0, TransportError("lost"), repeatable=False) is None
    assert retry.next_delay(0, refused_connection(), repeatable=False) is not None
    assert retry.next_delay(0, RateLimited(429, "rate_limited", ""), repeatable=False) is not None


def test_delays_double_up_to_a_limit() -> None:
    """Jitter shortens the delay to no less than half of it; a very late try does not overflow."""
    for attempt, longest in ((0, 0.5), (1, 1.0), (2, 2.0), (10, 20.0), (5_000, 20.0)):
        delay = Retry(10_000).next_delay(min(attempt, 900), TransportError("lost"))
        assert delay is not None
        assert longest / 2 <= delay <= longest


def test_retry_after_is_obeyed_up_to_a_limit() -> None:
    """The gateway's Retry-After is waited for, unless it is too long: then the error is raised."""
    assert Retry().next_delay(0, Unavailable(503, "overloaded", "", retry_after=60.0)) == 60.0
    assert Retry().next_delay(0, Unavailable(503, "overloaded", "", retry_after=121.0)) is None
