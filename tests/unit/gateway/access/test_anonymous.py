"""Requests without a key: a bucket for each network, filled by time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.access.anonymous import AnonymousRate
from gateway.errors import GatewayError
from jobs.observability.metrics import GatewayMetrics


class Clock:
    """A clock that the test moves (seconds)."""

    now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def make_rate(per_minute: int) -> tuple[AnonymousRate, Clock, GatewayMetrics]:
    """Return a limit with its clock, and the metrics that it counts refusals in."""
    clock, metrics = Clock(), GatewayMetrics(CollectorRegistry())
    return AnonymousRate(per_minute, metrics, clock), clock, metrics


def is_allowed(rate: AnonymousRate, address: str = "192.0.2.1") -> bool:
    """Count a request; return whether it was let through."""
    try:
        rate.count_request(address)
    except GatewayError:
        return False
    return True


def test_a_burst_is_let_through_and_the_next_request_waits() -> None:
    """The refusal says when a repetition succeeds, and then it does."""
    rate, clock, metrics = make_rate(30)
    assert all(is_allowed(rate) for _ in range(30))
    with pytest.raises(GatewayError) as refused:
        rate.count_request("192.0.2.1")
    assert (refused.value.code, refused.value.retry_after_s) == ("rate_limited", pytest.approx(2.0))
    assert metrics.limited.labels("anonymous", "address")._value.get() == 1
    clock.now_s = 1.9
    assert not is_allowed(rate)
    clock.now_s = 2.1
    assert is_allowed(rate)


def test_an_ipv6_network_is_one_client_and_other_addresses_are_untouched() -> None:
    """A subscriber has a whole /64, and must not gain a bucket for each of its addresses."""
    rate, _, _ = make_rate(1)
    assert is_allowed(rate, "2001:db8::1")
    assert not is_allowed(rate, "2001:db8::2")
    assert is_allowed(rate, "2001:db8:0:1::1")
    assert is_allowed(rate, "192.0.2.1")


def test_zero_is_no_limit() -> None:
    """Nothing is refused where no limit is set."""
    rate, _, _ = make_rate(0)
    assert all(is_allowed(rate) for _ in range(1000))


def test_the_addresses_in_memory_are_bounded() -> None:
    """An attacker with many addresses makes the gateway forget the one seen longest ago, not fill its memory."""
    rate, _, _ = make_rate(1)
    addresses = [f"10.0.{n // 256}.{n % 256}" for n in range(10_001)]
    assert all(is_allowed(rate, address) for address in addresses)
    assert not is_allowed(rate, addresses[-1])
    assert not is_allowed(rate, addresses[1])
    assert is_allowed(rate, addresses[0])


@given(per_minute=st.integers(1, 20), pauses_s=st.lists(st.floats(0, 90), max_size=60))
def test_nobody_gets_more_than_the_rate_and_one_burst(per_minute: int, pauses_s: list[float]) -> None:
    """Whenever the requests come, a time lets through no more than its share and one burst."""
    rate, clock, _ = make_rate(per_minute)
    allowed = 0
    for pause_s in pauses_s:
        clock.now_s += pause_s
        allowed += is_allowed(rate)
        assert allowed <= per_minute + clock.now_s * per_minute / 60 + 1e-6
