"""Metrics of the gateway."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from jobs.observability.metrics.common import MetricFactory


class GatewayMetrics:
    """Metrics of a gateway process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        create = MetricFactory(registry)
        self.jobs = create.ended_jobs_counter()
        self.http_requests = create.counter(
            "gleaner_http_requests_total",
            "HTTP requests answered, by route template, method and status.",
            ["route", "method", "status"],
        )
        self.http_seconds = create.histogram(
            "gleaner_http_request_seconds",
            "Time from the end of a request's head to the end of its response.",
            ["route", "method"],
        )
        self.store_down = create.gauge(
            "gleaner_store_down",
            "1 while the circuit breaker to the ledger is open: every call fails with 503 at once.",
            multiprocess_mode="livemax",
        )
        self.keys_file_ok = create.gauge(
            "gleaner_keys_file_ok",
            "1 while the keys file can be read; at 0 the keys last read stay valid, even revoked ones.",
            multiprocess_mode="livemin",
        )
        self.keys_file_ok.set(1)
        self.keys_file_stale = create.gauge(
            "gleaner_keys_file_stale_seconds",
            "Age of the last readable keys file; above GLEANER_KEYS_MAX_STALE_S every key is refused.",
            multiprocess_mode="livemax",
        )
        self.auth_failures = create.counter(
            "gleaner_auth_failures_total",
            "Requests refused because of their key: missing, bad (unknown, expired, revoked), limited (many bad "
            "keys from one address), csrf, closed (the keys file cannot be read). A jump of bad or limited means "
            "guessing or an expired key.",
            ["reason"],
        )
        self.limited = create.counter(
            "gleaner_limited_total",
            "Requests answered 429, by the limit that was exceeded and its scope: key, tenant or address.",
            ["measure", "scope"],
        )
        self.submitted_jobs = create.counter(
            "gleaner_submitted_jobs_total", "Jobs accepted; if there are none for long, check whether clients fail."
        )
        self.submitted_documents = create.counter(
            "gleaner_submitted_documents_total", "Documents of accepted jobs."
        )


class ProcessesMetrics:
    """Metrics of the parent of several gateway processes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        create = MetricFactory(registry)
        self.serving = create.gauge(
            "gleaner_gateway_processes",
            "Gateway processes that serve the API, if GLEANER_GATEWAY_PROCESSES is above 1.",
            multiprocess_mode="livesum",
        )
        self.ended = create.counter(
            "gleaner_gateway_processes_ended_total",
            "Gateway processes that were restarted: died, or stalled (killed because the event loop stood still); "
            "should stay 0.",
            ["reason"],
            start=("died", "stalled"),
        )
