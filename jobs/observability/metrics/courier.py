"""Metrics of webhook deliveries and of upkeep."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from jobs.observability.metrics.common import SECONDS, ended_jobs_counter, start_at_zero


class WebhookMetrics:
    """Metrics of a courier's deliveries."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "gleaner_webhook_attempts_total",
            "Delivery attempts by outcome: delivered, retry (tried again later), failed (given up).",
            ["outcome"],
            registry=registry,
        )
        start_at_zero(self.attempts, "delivered", "retry", "failed")
        self.seconds = Histogram(
            "gleaner_webhook_seconds",
            "Duration of one attempt; near 15 s receivers do not answer.",
            buckets=SECONDS,
            registry=registry,
        )
        self.delay = Histogram(
            "gleaner_webhook_first_attempt_delay_seconds",
            "Time from the end of a job to the first attempt; grows if there are too few couriers.",
            buckets=SECONDS,
            registry=registry,
        )
        self.disabled = Gauge(
            "gleaner_webhook_endpoints_disabled",
            "Endpoints that receive no events, disabled by their owner or after failures.",
            registry=registry,
        )


class UpkeepMetrics:
    """Metrics of upkeep, in the courier or in a gateway on stand-by.

    Args:
        registry: the registry of the process.
        jobs: the process's counter of ended jobs, if it already has one.
    """

    def __init__(self, registry: CollectorRegistry, jobs: Counter | None = None) -> None:
        self.jobs = jobs or ended_jobs_counter(registry)
        self.republished = Counter(
            "gleaner_republished_total",
            "Shards republished by upkeep, by cause; steady growth of message_lost or lease_lost means trouble.",
            ["cause"],
            registry=registry,
        )
        start_at_zero(self.republished, "message_lost", "lease_lost", "deferred", "window")
        self.repairs = Counter(
            "gleaner_ledger_repairs_total", "Values that upkeep's audit repaired; should stay 0.", registry=registry
        )
        self.seconds = Histogram(
            "gleaner_upkeep_seconds", "Duration of one upkeep tick.", buckets=SECONDS, registry=registry
        )
