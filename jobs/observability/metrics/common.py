"""Metrics that several kinds of process have, and their histogram buckets."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector

from jobs.observability.metrics.gpu import GpuCollector

OTHER_LABEL = "other"
"""Replaces every entity label that the settings do not name: users' strings must not become metric labels."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
JOB_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)


def register_process_metrics(registry: CollectorRegistry, usage: Collector | None = None) -> None:
    """Register the metrics of a process: CPU, memory, files, interpreter, and the GPUs it can see.

    Args:
        registry: the registry of the process.
        usage: collector of CPU, memory and files, if not those of this process alone.
    """
    registry.register(usage or ProcessCollector(registry=None))
    for collector in (PlatformCollector, GCCollector):
        collector(registry=registry)
    with contextlib.suppress(Exception):  # no NVML library, no driver or no device
        registry.register(GpuCollector())


def start_at_zero(counter: Counter, *values: str) -> Counter:
    """Create these values of the one label at once: otherwise the first event is not seen as an increase."""
    for value in values:
        counter.labels(value)
    return counter


def ended_jobs_counter(registry: CollectorRegistry) -> Counter:
    """Return the counter of jobs that this process ended; shared where a process ends jobs in two ways."""
    jobs = Counter("gleaner_jobs_total", "Jobs that this process ended, by status.", ["status"], registry=registry)
    return start_at_zero(jobs, "succeeded", "partially_succeeded", "failed", "cancelled", "expired")
