"""Metrics on the registry of a process."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from jobs.observability.metrics.common import SECONDS, MetricFactory


def test_counters_start_at_zero_for_their_known_values() -> None:
    """Prometheus sees an increase only from a sample that was there before; other values appear with an event."""
    registry = CollectorRegistry()
    counter = MetricFactory(registry).counter("gleaner_x_total", "help", ["kind"], start=("a", "b"))
    counter.labels("c").inc()

    assert [registry.get_sample_value("gleaner_x_total", {"kind": kind}) for kind in "abcd"] == [0, 0, 1, None]


def test_metrics_are_on_the_factorys_registry_alone() -> None:
    """A name occurs once per registry, and two processes in one test do not meet."""
    first, second = CollectorRegistry(), CollectorRegistry()
    for registry in (first, second):
        MetricFactory(registry).gauge("gleaner_g", "help").set(1)
    MetricFactory(first).histogram("gleaner_h", "help").observe(0.02)

    assert first.get_sample_value("gleaner_g") == second.get_sample_value("gleaner_g") == 1
    assert second.get_sample_value("gleaner_h_count") is None
    with pytest.raises(ValueError, match="gleaner_g"):
        MetricFactory(first).gauge("gleaner_g", "help")


def test_histograms_have_the_buckets_of_seconds_by_default() -> None:
    """Others are passed where a duration is no request's."""
    registry = CollectorRegistry()
    create = MetricFactory(registry)
    create.histogram("gleaner_h", "help")
    create.histogram("gleaner_sizes", "help", buckets=(1, 2))

    def limits(name: str) -> list[str]:
        [metric] = [metric for metric in registry.collect() if metric.name == name]
        return [sample.labels["le"] for sample in metric.samples if sample.name.endswith("_bucket")]

    assert limits("gleaner_h") == [*(str(float(second)) for second in SECONDS), "+Inf"]
    assert limits("gleaner_sizes") == ["1.0", "2.0", "+Inf"]


def test_ended_jobs_have_every_terminal_status() -> None:
    """Ratios of them have a denominator from the start."""
    registry = CollectorRegistry()
    MetricFactory(registry).ended_jobs_counter()
    statuses = ("succeeded", "partially_succeeded", "failed", "cancelled", "expired")

    assert all(registry.get_sample_value("gleaner_jobs_total", {"status": status}) == 0 for status in statuses)
