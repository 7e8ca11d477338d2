"""Metrics of upkeep and deliveries."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from jobs.observability.metrics import UpkeepMetrics, WebhookMetrics
from jobs.observability.metrics.common import MetricFactory


def test_a_process_with_a_counter_of_jobs_shares_it() -> None:
    """A gateway on stand-by ends jobs by cancel and by upkeep: one counter, and no second one of its name."""
    registry = CollectorRegistry()
    jobs = MetricFactory(registry).ended_jobs_counter()
    upkeep = UpkeepMetrics(registry, jobs)
    jobs.labels("cancelled").inc()
    upkeep.jobs.labels("expired").inc()

    counted = [registry.get_sample_value("gleaner_jobs_total", {"status": s}) for s in ("cancelled", "expired")]
    assert counted == [1, 1]


def test_a_courier_has_both_sets() -> None:
    """On one registry, with causes and outcomes from the start."""
    registry = CollectorRegistry()
    WebhookMetrics(registry)
    assert UpkeepMetrics(registry).jobs is not None

    assert registry.get_sample_value("gleaner_republished_total", {"cause": "message_lost"}) == 0
    assert registry.get_sample_value("gleaner_webhook_attempts_total", {"outcome": "failed"}) == 0
