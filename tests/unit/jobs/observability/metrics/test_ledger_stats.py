"""The ledger's statistics as metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from jobs.ledger import LedgerStats, LedgerUnavailableError, ModelStats
from jobs.observability.metrics import LedgerStatsCollector

MODEL = ModelStats("gleaner-small", 2, 8, "rev", None, 3, 5, 600, 300.0, 40.0, None, ())
STATS = LedgerStats(
    (MODEL,),
    memory_used=100,
    memory_max=200,
    append_only=True,
    durable=False,
    replicas=2,
    upkeep_silent_s=1.0,
    stored=(("t1", 7),),
)


def test_the_statistics_at_a_scrape() -> None:
    """A sample per model and measure; the largest tenants by name."""
    registry = CollectorRegistry()
    registry.register(LedgerStatsCollector(lambda: STATS))
    model = {"model": "gleaner-small"}
    assert registry.get_sample_value("gleaner_store_up") == 1
    assert registry.get_sample_value("gleaner_store_durable") == 0
    assert registry.get_sample_value("gleaner_store_replicas") == 2
    assert registry.get_sample_value("gleaner_open_shards", model) == 5
    assert registry.get_sample_value("gleaner_backlog_seconds", model) == 2
    assert registry.get_sample_value("gleaner_model_trouble", model) == 0
    assert registry.get_sample_value("gleaner_tenant_stored_bytes", {"tenant": "t1"}) == 7


def test_a_ledger_that_does_not_answer_is_down_and_no_error_of_the_scrape() -> None:
    """All other metrics of the process are still shown."""

    def fail() -> LedgerStats:
        raise LedgerUnavailableError("down")

    registry = CollectorRegistry()
    registry.register(LedgerStatsCollector(fail))
    assert registry.get_sample_value("gleaner_store_up") == 0
    assert registry.get_sample_value("gleaner_store_memory_bytes") is None


def test_a_stand_by_shows_nothing() -> None:
    """Another process shows the same values; a sum over both would be double."""
    registry = CollectorRegistry()
    registry.register(LedgerStatsCollector(lambda: STATS, is_active=lambda: False))
    assert list(registry.collect()) == []
