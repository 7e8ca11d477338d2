"""Probes of /readyz share one check of Redis."""

from __future__ import annotations

import asyncio

import pytest

from gateway.http import readiness
from gateway.http.readiness import LedgerCheck, Readiness, State
from jobs.ledger import LedgerUnavailableError
from tests.support.fakes.scripted_ledger import ScriptedThreadLedger

pytestmark = pytest.mark.anyio


async def test_probes_of_one_moment_cost_one_write() -> None:
    """However many probes come, Redis is written once a second."""
    ledger = ScriptedThreadLedger(ping_write=1)
    ready = Readiness(LedgerCheck(ledger, "unix:///none"))
    await asyncio.gather(*(ready.check() for _ in range(20)))
    await ready.check()
    assert ledger.script.names == ["ping_write"]


async def test_every_probe_of_a_failed_check_is_told_why() -> None:
    """A later check that succeeds makes the gateway ready again."""
    ledger = ScriptedThreadLedger(ping_write=[LedgerUnavailableError("read-only"), 1])
    ready = Readiness(LedgerCheck(ledger, "unix:///none"))
    outcomes = await asyncio.gather(*(ready.check() for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["read-only"] * 3

    ready._checked_at -= readiness.FRESH_S + 0.1
    assert await ready.check() is State.OK
    assert ledger.script.names == ["ping_write"] * 2


async def test_a_gateway_that_has_written_stays_while_redis_fails() -> None:
    """It answers requests with the documented 503; no other gateway would do better."""
    ledger = ScriptedThreadLedger(ping_write=[1, LedgerUnavailableError("read-only")])
    ready = Readiness(LedgerCheck(ledger, "unix:///none"))
    ready.start()
    assert await ready.check() is State.OK
    ready._checked_at -= readiness.FRESH_S + 0.1
    assert await ready.check() is State.DEGRADED
    await ready.stop()


async def test_a_probe_that_goes_away_does_not_end_the_check_of_others() -> None:
    """The check goes on when the connection that began it is closed."""
    ledger = ScriptedThreadLedger(ping_write=1)
    ready = Readiness(LedgerCheck(ledger, "unix:///none"))
    first = asyncio.create_task(ready.check())
    await asyncio.sleep(0)
    first.cancel()
    await ready.check()
    assert first.cancelled()
    assert ledger.script.names == ["ping_write"]
