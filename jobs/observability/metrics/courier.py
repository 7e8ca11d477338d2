"""Metrics of webhook deliveries and of upkeep."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from jobs.observability.metrics.common import MetricFactory


class WebhookMetrics:
    """Metrics of a courier's deliveries."""

    def __init__(self, registry: CollectorRegistry) -> None:
        create = MetricFactory(registry)
        self.attempts = create.counter(
            "gleaner_webhook_attempts_total",
            "Delivery attempts by outcome: delivered, retry (tried again later), failed (given up).",
            ["outcome"],
            start=("delivered", "retry", "failed"),
        )
        self.seconds = create.histogram(
            "gleaner_webhook_seconds", "Duration of one attempt; near 15 s receivers do not answer."
        )
        self.delay = create.histogram(
            "gleaner_webhook_first_attempt_delay_seconds",
            "Time from the end of a job to the first attempt; grows if there are too few couriers.",
        )
        self.disabled = create.gauge(
            "gleaner_webhook_endpoints_disabled",
            "Endpoints that receive no events, disabled by their owner or after failures.",
        )


class UpkeepMetrics:
    """Metrics of upkeep, in the courier or in a gateway on stand-by.

    Args:
        registry: the registry of the process.
        jobs: the process's counter of ended jobs, if it already has one.
    """

    def __init__(self, registry: CollectorRegistry, jobs: Counter | None = None) -> None:
        create = MetricFactory(registry)
        self.jobs = jobs or create.ended_jobs_counter()
        self.republished = create.counter(
            "gleaner_republished_total",
            "Shards republished by upkeep, by cause; steady growth of message_lost or lease_lost means trouble.",
            ["cause"],
            start=("message_lost", "lease_lost", "deferred", "window"),
        )
        self.repairs = create.counter(
            "gleaner_ledger_repairs_total", "Values that upkeep's audit repaired; should stay 0."
        )
        self.seconds = create.histogram("gleaner_upkeep_seconds", "Duration of one upkeep tick.")
