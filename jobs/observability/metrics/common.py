"""Metrics that several kinds of process have, and their histogram buckets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OTHER_LABEL = "other"
"""Replaces every entity label that the settings do not name: users' strings must not become metric labels."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
JOB_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)


class MetricFactory:
    """Creates metrics on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.gauge = partial(Gauge, registry=registry)
        self.histogram = partial(Histogram, registry=registry, buckets=SECONDS)

    def counter(self, name: str, help_: str, labels: Sequence[str] = (), start: Iterable[str] = ()) -> Counter:
        """Create a counter; values of its one label in `start` are at 0 before their first event.

        Without that the first event is not seen as an increase.
        """
        counter = Counter(name, help_, labels, registry=self._registry)
        for value in start:
            counter.labels(value)
        return counter

    def ended_jobs_counter(self) -> Counter:
        """Create the counter of jobs that this process ended; shared where a process ends jobs in two ways."""
        statuses = ("succeeded", "partially_succeeded", "failed", "cancelled", "expired")
        return self.counter("gleaner_jobs_total", "Jobs that this process ended, by status.", ["status"], statuses)
