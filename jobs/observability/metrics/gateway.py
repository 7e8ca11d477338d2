"""Metrics of the gateway."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from jobs.observability.metrics.common import SECONDS, ended_jobs_counter, start_at_zero


class GatewayMetrics:
    """Metrics of a gateway process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = ended_jobs_counter(registry)
        self.http_requests = Counter(
            "gleaner_http_requests_total",
            "HTTP requests answered, by route template, method and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.http_seconds = Histogram(
            "gleaner_http_request_seconds",
            "Time from the end of a request's head to the end of its response.",
            ["route", "method"],
            buckets=SECONDS,
            registry=registry,
        )
        self.store_down = Gauge(
            "gleaner_store_down",
            "1 while the circuit breaker to the ledger is open: every call fails with 503 at once.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.keys_file_ok = Gauge(
            "gleaner_keys_file_ok",
            "1 while the keys file can be read; at 0 the keys last read stay valid, even revoked ones.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.keys_file_ok.set(1)
        self.keys_file_stale = Gauge(
            "gleaner_keys_file_stale_seconds",
            "Age of the last readable keys file; above GLEANER_KEYS_MAX_STALE_S every key is refused.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.auth_failures = Counter(
            "gleaner_auth_failures_total",
            "Requests refused because of their key: missing, bad (unknown, expired, revoked), limited (many bad "
            "keys from one address), csrf, closed (the keys file cannot be read). A jump of bad or limited means "
            "guessing or an expired key.",
            ["reason"],
            registry=registry,
        )
        self.limited = Counter(
            "gleaner_limited_total",
            "Requests answered 429, by the limit that was exceeded and its scope: key, tenant or address.",
            ["measure", "scope"],
            registry=registry,
        )
        self.submitted_jobs = Counter(
            "gleaner_submitted_jobs_total",
            "Jobs accepted; if there are none for long, check whether clients fail.",
            registry=registry,
        )
        self.submitted_documents = Counter(
            "gleaner_submitted_documents_total", "Documents of accepted jobs.", registry=registry
        )


class ProcessesMetrics:
    """Metrics of the parent of several gateway processes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.serving = Gauge(
            "gleaner_gateway_processes",
            "Gateway processes that serve the API, if GLEANER_GATEWAY_PROCESSES is above 1.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.ended = Counter(
            "gleaner_gateway_processes_ended_total",
            "Gateway processes that were restarted: died, or stalled (killed because the event loop stood still); "
            "should stay 0.",
            ["reason"],
            registry=registry,
        )
        start_at_zero(self.ended, "died", "stalled")
