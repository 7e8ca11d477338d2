"""Rate limits: which ones apply, what they cost, and when a repetition succeeds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.access import Caller
from gateway.access.rate_limits import (
    Limiter,
    RateLimit,
    RateLimitError,
    build_status,
    client_network,
    find_retry_after,
    max_stored_bytes,
)
from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from jobs.api_keys import KeyLimits, Role
from jobs.ledger import LedgerUnavailableError
from jobs.ledger.access import RateWindow, Taken
from jobs.observability.metrics import GatewayMetrics
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER

pytestmark = pytest.mark.anyio

FREE, USED = RateWindow(0, 0, 1, 1000), RateWindow(0, 0, 5, 1500)


def make_limiter(ledger: ScriptedLedger, **settings: int) -> tuple[Limiter, CollectorRegistry]:
    """Return a limiter with these limits, and the registry of its metrics."""
    registry = CollectorRegistry()
    return Limiter(GatewaySettings(auth="off", **settings), ledger, GatewayMetrics(registry)), registry  # type: ignore[arg-type]


def counted(ledger: ScriptedLedger) -> list[tuple[str, int, int]]:
    """Return (counter, amount, cost) of the limits that the last call counted."""
    args: Any = ledger.script.calls[-1].args
    return [(args[at], args[at + 1], args[at + 3]) for at in range(0, len(args), 4)]


async def test_without_limits_there_is_no_round_trip() -> None:
    """Neither for a request nor for a job."""
    ledger = ScriptedLedger()
    limiter, _ = make_limiter(ledger)
    assert await limiter.admit_request(CALLER, submits=False) == ()
    charge = await limiter.charge_job(CALLER, 10, 100)
    await limiter.refund(charge)
    assert await limiter.read_statuses(CALLER) == []
    assert ledger.script.calls == []


async def test_all_limits_of_a_request_are_one_call() -> None:
    """Those of the key come before those of its tenant; the name of a counter has the window and the amount."""
    ledger = ScriptedLedger(take_rates=Taken(None, (FREE,) * 3))
    limiter, _ = make_limiter(ledger, key_requests_per_s=5, tenant_requests_per_s=9, key_reads_per_s=7)
    statuses = await limiter.admit_request(CALLER, submits=False, cost=2)
    assert counted(ledger) == [
        ("LIMITER/requests/key/k_1/5/1/second", 5, 1),
        ("LIMITER/requests/tenant/acme/9/1/second", 9, 1),
        ("LIMITER/reads/key/k_1/7/1/second", 7, 2),
    ]
    assert [(status.limit.name, status.remaining) for status in statuses] == [
        ("requests-key", 4), ("requests-tenant", 8), ("reads-key", 6),
    ]  # fmt: skip


async def test_a_key_s_own_limits_stand_before_everyone_s() -> None:
    """0 there means that it has none."""
    limiter, _ = make_limiter(ScriptedLedger(), key_requests_per_s=5, key_submits_per_s=6)
    caller = Caller("k", "acme", Role.VIEWER, KeyLimits(requests_per_s=1))
    assert [(limit.measure, limit.amount) for limit in limiter.limits_of(caller)] == [
        ("requests", 1), ("submits", 6),
    ]  # fmt: skip


async def test_a_read_that_costs_more_than_the_limit_uses_all_of_it() -> None:
    """Or a small limit would make lists impossible."""
    ledger = ScriptedLedger(take_rates=Taken(None, (FREE,)))
    limiter, _ = make_limiter(ledger, key_reads_per_s=3)
    await limiter.admit_request(CALLER, submits=False, cost=5)
    assert counted(ledger) == [("LIMITER/reads/key/k_1/3/1/second", 3, 3)]


async def test_a_refusal_names_the_exceeded_limit_and_counts_it() -> None:
    """The response shows the limits up to that one."""
    ledger = ScriptedLedger(take_rates=Taken(1, (FREE, USED, FREE)))
    limiter, registry = make_limiter(ledger, key_requests_per_s=5, tenant_requests_per_s=5, key_reads_per_s=5)
    with pytest.raises(RateLimitError) as refused:
        await limiter.admit_request(CALLER, submits=False)
    assert refused.value.code == "rate_limited"
    assert "your tenant has 0 of 5 requests left in a second" in refused.value.detail
    assert [status.limit.name for status in refused.value.statuses] == ["requests-key", "requests-tenant"]
    assert refused.value.retry_after_s
    labels = {"measure": "requests", "scope": "tenant"}
    assert registry.get_sample_value("gleaner_limited_total", labels) == 1


async def test_a_job_larger_than_a_whole_day_s_limit_has_no_time_to_come_again() -> None:
    """It never fits; others may tomorrow."""
    ledger = ScriptedLedger(take_rates=Taken(0, (FREE,)))
    limiter, _ = make_limiter(ledger, key_documents_per_day=5)
    with pytest.raises(RateLimitError) as refused:
        await limiter.charge_job(CALLER, 6, 100)
    assert (refused.value.code, refused.value.retry_after_s) == ("quota_exceeded", None)
    assert "6 are more than the whole limit" in refused.value.detail
    with pytest.raises(RateLimitError, match="quota_exceeded") as refused:
        await limiter.charge_job(CALLER, 5, 100)
    assert refused.value.retry_after_s is not None
    assert "in 24 hours" in refused.value.detail


async def test_a_charge_is_undone_by_its_negative() -> None:
    """An outage does not hide the error that it follows."""
    ledger = ScriptedLedger(take_rates=[Taken(None, (FREE, FREE)), LedgerUnavailableError("down")])
    limiter, _ = make_limiter(ledger, key_documents_per_day=50, key_characters_per_day=500)
    await limiter.refund(await limiter.charge_job(CALLER, 10, 100))
    assert [cost for _, _, cost in counted(ledger)] == [-10, -100]


@pytest.mark.parametrize("reply", [Taken(None, (FREE,)), LedgerUnavailableError("down")])
async def test_a_bad_key_is_only_counted(reply: object) -> None:
    """Without Redis it is refused as a bad key, not as an outage."""
    ledger = ScriptedLedger(take_rates=reply)
    limiter, _ = make_limiter(ledger)
    await limiter.count_failed_attempt("2001:db8::1")
    assert counted(ledger) == [("LIMITER/failures/address/2001:db8::/120/1/minute", 120, 1)]


async def test_too_many_bad_keys_of_an_address_are_refused() -> None:
    """Unless the setting allows any number."""
    ledger = ScriptedLedger(take_rates=Taken(0, (RateWindow(0, 0, 120, 90_000),)))
    with pytest.raises(GatewayError) as refused:
        await make_limiter(ledger)[0].count_failed_attempt("192.0.2.1")
    assert 30 <= (refused.value.retry_after_s or 0) <= 120
    await make_limiter(ledger, auth_failures_per_minute=0)[0].count_failed_attempt("192.0.2.1")
    assert len(ledger.script.calls) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("testclient", "unknown"),
        ("", "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, network: str) -> None:
    """Whoever has the network has one count for it."""
    assert client_network(address) == network


@pytest.mark.parametrize(("key_bytes", "tenant_bytes", "maximum"), [(0, 0, 0), (0, 9, 9), (5, 9, 5), (5, 0, 5)])
def test_a_key_may_have_its_own_limit_of_stored_bytes(key_bytes: int, tenant_bytes: int, maximum: int) -> None:
    """It counts before the setting."""
    caller = Caller("k", "acme", Role.SUBMITTER, KeyLimits(stored_bytes=key_bytes or None))
    assert max_stored_bytes(GatewaySettings(auth="off", tenant_max_stored_bytes=tenant_bytes), caller) == maximum


@given(
    amount=st.integers(1, 1000),
    cost=st.integers(1, 1000),
    previous=st.integers(0, 1000),
    current=st.integers(0, 1000),
    age_ms=st.integers(0, 999),
)
def test_after_the_wait_it_fits(amount: int, cost: int, previous: int, current: int, age_ms: int) -> None:
    """Retry-After is long enough, whatever the state of the window, if nothing else comes."""
    cost = min(cost, amount)
    limit = RateLimit("requests", "key", "k", amount)
    window = RateWindow(previous, 1000 - age_ms, current, 2000 - age_ms)
    wait_ms = int(find_retry_after(limit, window, cost) * 1000) + 2

    if wait_ms < 1000 - age_ms:
        later = RateWindow(previous, 1000 - age_ms - wait_ms, current, 2000 - age_ms - wait_ms)
    else:
        later = RateWindow(current, max(0, 2000 - age_ms - wait_ms), 0, 0)
    assert cost <= build_status(limit, later).remaining
