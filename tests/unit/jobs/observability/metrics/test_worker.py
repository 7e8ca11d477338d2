"""Metrics of a worker: every group is on its one registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from jobs.observability.metrics import WorkerMetrics


def test_every_group_is_registered() -> None:
    """Documents, shards, micro-batches and the model, each once."""
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    metrics.words.inc(7)
    metrics.slots.labels("standard").set(4)
    metrics.microbatch_windows.observe(3)
    metrics.ready.set(1)

    assert registry.get_sample_value("gleaner_words_total") == 7
    assert registry.get_sample_value("gleaner_worker_slots", {"priority": "standard"}) == 4
    assert registry.get_sample_value("gleaner_microbatch_windows_bucket", {"le": "4.0"}) == 1
    assert registry.get_sample_value("gleaner_model_ready") == 1
    assert registry.get_sample_value("gleaner_documents_total", {"status": "succeeded", "code": "ok"}) == 0
