"""Every metric of every process, in one place: name, kind, unit, help, and what to do when it moves.

A process makes its own set on its own registry; nothing registers itself on import.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class GatewayMetrics:
    """What the gateway counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.http_requests = Counter(
            "gleaner_http_requests_total",
            "HTTP requests answered, by route template, method and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.http_seconds = Histogram(
            "gleaner_http_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["route", "method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.store_down = Gauge(
            "gleaner_store_down",
            "1 while the gateway's circuit breaker to the ledger is open: every call is answered 503 at once.",
            registry=registry,
        )
        self.auth_failures = Counter(
            "gleaner_auth_failures_total",
            "Requests refused for their key: missing, bad (unknown, expired, revoked), limited (bad, and too many "
            "from one address), csrf; a jump of bad or limited is somebody guessing, or a key that ran out.",
            ["reason"],
            registry=registry,
        )
        self.limited = Counter(
            "gleaner_limited_total",
            "Requests answered 429 by a limit of their key or tenant, by what was too much.",
            ["measure", "scope"],
            registry=registry,
        )
        self.submitted_documents = Counter(
            "gleaner_submitted_documents_total", "Documents of accepted jobs.", registry=registry
        )


class WorkerMetrics:
    """What a worker counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.documents = Counter(
            "gleaner_documents_total",
            "Documents finished by this worker, by outcome; a rising code other than ok names what to look at.",
            ["status", "code"],
            registry=registry,
        )
        self.jobs = Counter(
            "gleaner_jobs_total", "Jobs whose last shard this worker finished.", ["status"], registry=registry
        )
        self.entities = Counter("gleaner_entities_total", "Entities found.", registry=registry)
        self.windowed = Counter(
            "gleaner_windowed_documents_total", "Documents that took more than one window.", registry=registry
        )
        self.truncated = Counter(
            "gleaner_truncated_documents_total", "Documents cut by request of the client.", registry=registry
        )
        self.queue_wait = Histogram(
            "gleaner_queue_wait_seconds",
            "From a job's creation to the claim of one of its shards; grows when workers are short.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage = Histogram(
            "gleaner_stage_seconds",
            "Time in one stage of a micro-batch or a shard.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.microbatch_windows = Histogram(
            "gleaner_microbatch_windows",
            "Windows in one forward pass.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.microbatch_jobs = Histogram(
            "gleaner_microbatch_jobs",
            "Different jobs in one forward pass.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.microbatch_tokens = Counter(
            "gleaner_microbatch_tokens_total",
            "Tokens through the model: real, and padded as the device pays for them; their ratio is the fill.",
            ["kind"],
            registry=registry,
        )
        self.leases_lost = Counter(
            "gleaner_leases_lost_total",
            "Shards whose lease this worker lost while it ran them; above zero means stalls or outages.",
            registry=registry,
        )
        self.oom = Counter(
            "gleaner_oom_total",
            "Out-of-memory events by what was done; repeated `split` asks for a smaller token budget.",
            ["action"],
            registry=registry,
        )
        self.ready = Gauge("gleaner_model_ready", "1 once the model is loaded and warm.", registry=registry)
        self.load_seconds = Gauge(
            "gleaner_model_load_seconds", "Time to load and warm the model at start.", registry=registry
        )


class WebhookMetrics:
    """What a courier counts about webhooks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "gleaner_webhook_attempts_total",
            "Attempts at deliveries by what came of them: delivered, retry (tried again later), failed (given up).",
            ["outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "gleaner_webhook_seconds",
            "Time of one attempt; near 15 means receivers that do not answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.delay = Histogram(
            "gleaner_webhook_first_attempt_delay_seconds",
            "From the end of a job to the first attempt; grows when couriers are short.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.disabled = Gauge(
            "gleaner_webhook_endpoints_disabled",
            "Endpoints that get no events, by their owner's wish or after failures.",
            registry=registry,
        )


class UpkeepMetrics:
    """What upkeep counts, in the courier or a gateway that stands in for it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.republished = Counter(
            "gleaner_republished_total",
            "Shards published again by upkeep, by cause; steady growth of message_lost or lease_lost is trouble.",
            ["cause"],
            registry=registry,
        )
        self.repairs = Counter(
            "gleaner_ledger_repairs_total", "Facts that upkeep's audit mended; should stay 0.", registry=registry
        )
        self.seconds = Histogram(
            "gleaner_upkeep_seconds", "Time of one upkeep tick.", buckets=_SECONDS, registry=registry
        )
