"""The circuit breaker in front of Redis: the failures that open it."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway.store.circuit_breaker import FAILURES_TO_OPEN, GuardedLedger
from jobs import ledger
from jobs.ledger import LedgerUnavailableError
from jobs.observability.metrics import GatewayMetrics
from jobs.redis.clients import connect_async
from tests.support.processes.harness import free_port

pytestmark = pytest.mark.anyio

CALLERS = 4 * FAILURES_TO_OPEN


async def test_what_fails_at_one_moment_counts_once_however_many_asked() -> None:
    """Callers of one moment share a few round trips: they fail as one, and the breaker opens at the third time."""
    registry = CollectorRegistry()
    client = connect_async(f"redis://127.0.0.1:{free_port()}/0", 1, "test")
    guarded = GuardedLedger(client, 5, GatewayMetrics(registry))

    async def crowd() -> set[str]:
        calls = [guarded.run(ledger.read_job("job_1")) for _ in range(CALLERS)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, LedgerUnavailableError) for error in errors)
        return {str(error) for error in errors}

    try:
        for _ in range(FAILURES_TO_OPEN):
            assert registry.get_sample_value("gleaner_store_down") == 0
            assert await crowd() == {"read_job: ConnectionError"}
        assert registry.get_sample_value("gleaner_store_down") == 1
        assert await crowd() == {"read_job: Redis is down"}
    finally:
        await client.aclose()


async def test_callers_left_without_an_answer_each_count() -> None:
    """A store that keeps several callers waiting for their whole deadline is down: nobody waits for it again."""
    registry = CollectorRegistry()
    client = connect_async(f"redis://127.0.0.1:{free_port()}/0", 1, "test")
    guarded = GuardedLedger(client, 0.05, GatewayMetrics(registry))

    async def never() -> None:
        await asyncio.Event().wait()

    calls = [guarded.run_guarded("asked", never) for _ in range(FAILURES_TO_OPEN)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(error) for error in errors} == {"asked: no answer in 0.05 s"}
    with pytest.raises(LedgerUnavailableError, match="Redis is down"):
        await guarded.run_guarded("asked", never)
    await client.aclose()
