"""Facts of models are asked for seldom, and are never older than a few seconds."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.model_facts import MAX_AGE_S, ModelFactsCache
from jobs.ledger import LedgerUnavailableError, ModelFacts, ModelStats
from tests.support.fakes.scripted_ledger import ScriptedLedger

pytestmark = pytest.mark.anyio


def make_stats(name: str, facts: ModelFacts | None) -> ModelStats:
    """Return the statistics of a model."""
    return ModelStats(name, 1, 1, "rev", None, 0, 0, 0, 0.0, None, facts, ())


async def test_facts_are_read_again_when_they_are_old() -> None:
    """Requests that come together share one reading; a model without facts is missing."""
    first, second = ModelFacts(max_labels=1), ModelFacts(max_labels=2)
    stats = [(make_stats("a", first), make_stats("b", None)), (make_stats("a", second),)]
    ledger, now = ScriptedLedger(read_stats=stats), [0.0]
    cache = ModelFactsCache(ledger, ("a", "b"), lambda: now[0])
    together = await asyncio.gather(*(cache.read_facts() for _ in range(5)))
    assert all(facts == {"a": first} for facts in together)
    now[0] = MAX_AGE_S - 0.1
    assert await cache.read_facts() == {"a": first}
    now[0] = MAX_AGE_S
    assert await cache.read_facts() == {"a": second}
    assert ledger.script.names == ["read_stats"] * 2


async def test_without_redis_nothing_is_claimed_to_be_known() -> None:
    """The next request asks again."""
    stats = (make_stats("a", ModelFacts()),)
    cache = ModelFactsCache(ScriptedLedger(read_stats=[LedgerUnavailableError("read_stats"), stats]), ("a",))
    with pytest.raises(LedgerUnavailableError):
        await cache.read_facts()
    assert await cache.read_facts() == {"a": ModelFacts()}
