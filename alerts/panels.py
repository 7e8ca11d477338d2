"""What the dashboards show: titles, expressions and their units. Pure data; `alerts.boards` makes Grafana's JSON of it."""

from __future__ import annotations

from dataclasses import dataclass

from alerts.slo import SLOS

_I = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        queries: expression to legend.
        says: what it means when it moves.
        elsewhere: shows what only some deployments have (GPUs, Kubernetes).
        single: one large number instead of lines.
    """

    title: str
    unit: str
    queries: dict[str, str]
    says: str
    elsewhere: bool = False
    single: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def _quantiles(metric: str, by: str = "", where: str = "") -> dict[str, str]:
    grouped = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return {
        f"histogram_quantile({q}, sum by ({grouped}) (rate({metric}_bucket{where}{_I})))": f"p{round(q * 100)}{legend}"
        for q in (0.5, 0.95)
    }


def _rate(metric: str, by: str) -> dict[str, str]:
    legend = " ".join(f"{{{{{name}}}}}" for name in by.split(", "))
    return {f"sum by ({by}) (rate({metric}{_I}))": legend}


def _now(metric: str) -> dict[str, str]:
    return {f"max by (model) ({metric})": "{{model}}"}


_BACKLOG_S = Panel(
    "Backlog", "s", _now("gleaner_backlog_seconds"), "How long what is open takes at the measured rate."
)
_OPEN = Panel(
    "Open shards", "short", _now("gleaner_open_shards"), "What KEDA scales by: waiting, published, running."
)
_OLDEST = Panel("Oldest open job", "s", _now("gleaner_oldest_open_seconds"), "Grows where a shard goes round.")
_WORKERS = Panel("Live workers", "short", _now("gleaner_live_workers"), "By the ledger's own list.")
_DOCUMENTS = Panel("Documents", "ops", _rate("gleaner_documents_total", "status"), "Finished documents a second.")
_JOBS = Panel("Jobs ended", "ops", _rate("gleaner_jobs_total", "status"), "By what came of them.")
_REQUESTS = Panel("Requests", "reqps", _rate("gleaner_http_requests_total", "status"), "By status.")
_ERRORS = Panel(
    "5xx share",
    "percentunit",
    {
        f'(sum(rate(gleaner_http_requests_total{{status=~"5.."}}{_I})) or vector(0)) '
        f"/ sum(rate(gleaner_http_requests_total{_I}))": "5xx"
    },
    "Above 5 % pages.",
)
_STORE = Panel(
    "Store answers", "bool_yes_no", {"max(gleaner_store_up)": "up"}, "The courier's own read.", single=True
)
_FAILED = Panel(
    "Documents by code",
    "ops",
    _rate("gleaner_documents_total", "status, code"),
    "A code other than ok says what to see.",
)

BOARDS: tuple[Board, ...] = (
    Board("overview", "Overview", (_STORE, _WORKERS, _BACKLOG_S, _OLDEST, _DOCUMENTS, _JOBS, _REQUESTS, _ERRORS)),
    Board(
        "queue",
        "Jobs and queue",
        (
            _OPEN,
            Panel("Backlog in characters", "short", _now("gleaner_backlog_characters"), "Characters not finished."),
            _BACKLOG_S,
            _OLDEST,
            Panel("Open jobs", "short", _now("gleaner_open_jobs"), "Jobs not finished."),
            Panel("Drain rate", "short", _now("gleaner_drain_characters_per_second"), "Characters a second."),
            _WORKERS,
            Panel(
                "Wait for a worker",
                "s",
                _quantiles("gleaner_queue_wait_seconds"),
                "From creation to the first claim.",
            ),
            Panel(
                "Accepted to finished",
                "s",
                _quantiles("gleaner_job_seconds", "priority"),
                "What clients wait for; two SLOs are on it.",
            ),
            Panel(
                "Held of slots",
                "percentunit",
                {
                    "sum by (priority) (gleaner_worker_shards) / sum by (priority) (gleaner_worker_slots)": "{{priority}}"
                },
                "Near 1 while the priority has a backlog; neither takes the other's slots.",
            ),
            Panel(
                "Published again", "ops", _rate("gleaner_republished_total", "cause"), "Lost messages and leases."
            ),
            Panel("Upkeep's tick", "s", _quantiles("gleaner_upkeep_seconds"), "Seconds of one round of repairs."),
            Panel(
                "Workers of their maximum",
                "short",
                {
                    "max by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_current_replicas{"
                    'horizontalpodautoscaler=~".*gleaner.*"})': "now {{horizontalpodautoscaler}}",
                    "max by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_spec_max_replicas{"
                    'horizontalpodautoscaler=~".*gleaner.*"})': "most {{horizontalpodautoscaler}}",
                },
                "kube-state-metrics' view.",
                elsewhere=True,
            ),
        ),
    ),
    Board(
        "model",
        "Model and micro-batches",
        (
            Panel("Time of stages", "s", _quantiles("gleaner_stage_seconds", "stage"), "Forward should dominate."),
            Panel(
                "Windows a micro-batch",
                "short",
                _quantiles("gleaner_microbatch_windows"),
                "Few: little work, or long.",
            ),
            Panel(
                "Jobs a micro-batch", "short", _quantiles("gleaner_microbatch_jobs"), "More than one: fair company."
            ),
            Panel(
                "Padding",
                "percentunit",
                {
                    f'1 - sum(rate(gleaner_microbatch_tokens_total{{kind="real"}}{_I})) '
                    f'/ sum(rate(gleaner_microbatch_tokens_total{{kind="padded"}}{_I}))': "padding"
                },
                "Share of the model's work that is padding.",
            ),
            Panel(
                "Fill",
                "percentunit",
                {
                    f'sum(rate(gleaner_microbatch_tokens_total{{kind="padded"}}{_I})) '
                    f"/ (sum(rate(gleaner_microbatch_windows_count{_I})) * avg(gleaner_microbatch_budget_tokens > 0))": "fill"
                },
                "Of the token budget; low while there is a backlog means windows that do not fit together.",
            ),
            Panel(
                "Tokens", "short", _rate("gleaner_microbatch_tokens_total", "kind"), "Through the model a second."
            ),
            Panel("Out of memory", "ops", _rate("gleaner_oom_total", "action"), "Any asks for a smaller budget."),
            Panel("Ready", "short", {"sum(gleaner_model_ready)": "ready"}, "Workers with a warm model."),
            Panel(
                "Load and warm-up", "s", {"max(gleaner_model_load_seconds)": "slowest"}, "How long a start takes."
            ),
            Panel(
                "Mean score",
                "percentunit",
                {
                    f"sum by (label) (rate(gleaner_entity_scores_total{_I})) "
                    f"/ sum by (label) (rate(gleaner_entities_total{_I}))": "{{label}}"
                },
                "Drift of 15 % against three days is a ticket.",
            ),
            Panel(
                "Entities per 1,000 words",
                "short",
                {
                    f"1000 * sum by (label) (rate(gleaner_entities_total{_I})) "
                    f"/ on () group_left () sum(rate(gleaner_words_total{_I}))": "{{label}}"
                },
                "Drift of half against three days is a ticket.",
            ),
            Panel(
                "Long texts",
                "ops",
                {
                    f"sum(rate(gleaner_windowed_documents_total{_I}))": "windowed",
                    f"sum(rate(gleaner_truncated_documents_total{_I}))": "truncated",
                },
                "Documents of several windows, and those cut by request.",
            ),
            Panel(
                "Result cache",
                "ops",
                _rate("gleaner_result_cache_documents_total", "outcome"),
                "Documents looked up; unread: the store is slow or refuses. None where it is off.",
            ),
            Panel(
                "Answered from the cache",
                "percentunit",
                {
                    f'sum(rate(gleaner_result_cache_documents_total{{outcome="hit"}}{_I})) '
                    f"/ sum(rate(gleaner_result_cache_documents_total{_I}))": "hits"
                },
                "Of the documents looked up; below a few percent it is not worth its memory.",
            ),
        ),
    ),
    Board(
        "api",
        "API",
        (
            _REQUESTS,
            _ERRORS,
            Panel(
                "Requests by route",
                "reqps",
                _rate("gleaner_http_requests_total", "route"),
                "Templates, never paths.",
            ),
            Panel(
                "Time of submitting",
                "s",
                _quantiles("gleaner_http_request_seconds", where='{route="/v1/jobs",method="POST"}'),
                "Waits for the store's disk.",
            ),
            Panel(
                "Time by route",
                "s",
                _quantiles("gleaner_http_request_seconds", "route"),
                "Long polls wait on purpose.",
            ),
            Panel(
                "Accepted",
                "ops",
                {
                    f"sum(rate(gleaner_submitted_jobs_total{_I}))": "jobs",
                    f"sum(rate(gleaner_submitted_documents_total{_I}))": "documents",
                },
                "Jobs and documents a second.",
            ),
            Panel(
                "Breaker open",
                "short",
                {"max(gleaner_store_down)": "open"},
                "1: every call is answered 503 at once.",
            ),
            Panel(
                "Gateway processes",
                "short",
                {"sum by (instance) (gleaner_gateway_processes)": "{{instance}}"},
                "That serve now, of several behind one port.",
                elsewhere=True,
            ),
            Panel(
                "Gateway processes started anew",
                "short",
                {
                    "sum by (instance, reason) (increase(gleaner_gateway_processes_ended_total[15m]))": "{{instance}} {{reason}}"
                },
                "Within 15 minutes; more than two raise an alert.",
                elsewhere=True,
            ),
        ),
    ),
    Board(
        "webhooks",
        "Webhooks",
        (
            Panel(
                "Attempts", "ops", _rate("gleaner_webhook_attempts_total", "outcome"), "retry comes again later."
            ),
            Panel("Time of an attempt", "s", _quantiles("gleaner_webhook_seconds"), "At 15 s it counts as failed."),
            Panel(
                "First attempt after",
                "s",
                _quantiles("gleaner_webhook_first_attempt_delay_seconds"),
                "From a job's end; grows when couriers are short.",
            ),
            Panel(
                "Endpoints disabled",
                "short",
                {"max(gleaner_webhook_endpoints_disabled)": "disabled"},
                "Get nothing.",
            ),
        ),
    ),
    Board(
        "resources",
        "Resources",
        (
            Panel("Processor", "short", _rate("process_cpu_seconds_total", "job, instance"), "Cores in use."),
            Panel(
                "Memory",
                "bytes",
                {"max by (job, instance) (process_resident_memory_bytes)": "{{job}} {{instance}}"},
                "Resident; a worker's grows with the micro-batch, then stays.",
            ),
            Panel(
                "Open files",
                "short",
                {"max by (job, instance) (process_open_fds)": "{{job}} {{instance}}"},
                "Leaks.",
            ),
            Panel(
                "Starts",
                "short",
                {"sum by (job, instance) (changes(process_start_time_seconds[1h]))": "{{job}} {{instance}}"},
                "Restarts within the hour.",
            ),
            Panel(
                "Store's memory",
                "bytes",
                {
                    "max(gleaner_store_memory_bytes)": "used",
                    "max(gleaner_store_memory_limit_bytes)": "limit (0: none)",
                },
                "From 70 % on new jobs are refused.",
            ),
            Panel(
                "Store durable",
                "bool_yes_no",
                {"max(gleaner_store_durable)": "durable"},
                "Its file is good.",
                single=True,
            ),
            Panel(
                "GPU memory",
                "percentunit",
                {"gleaner_gpu_memory_used_bytes / gleaner_gpu_memory_limit_bytes": "{{instance}} {{gpu}}"},
                "In use by all processes.",
                elsewhere=True,
            ),
            Panel(
                "GPU busy", "percentunit", {"gleaner_gpu_busy_ratio": "{{instance}} {{gpu}}"}, "", elsewhere=True
            ),
            Panel(
                "GPU heat",
                "celsius",
                {"gleaner_gpu_temperature_celsius": "{{instance}} {{gpu}}"},
                "",
                elsewhere=True,
            ),
        ),
    ),
    Board(
        "errors",
        "Errors",
        (
            _FAILED,
            _ERRORS,
            Panel(
                "Leases lost", "ops", {f"sum(rate(gleaner_leases_lost_total{_I}))": "lost"}, "Stalls or outages."
            ),
            Panel("Published again", "ops", _rate("gleaner_republished_total", "cause"), "By cause."),
            Panel("Books mended", "short", {"sum(gleaner_ledger_repairs_total)": "facts"}, "Should stay 0."),
            Panel("Model trouble", "short", _now("gleaner_model_trouble"), "1: its workers cannot start."),
            Panel("Out of memory", "ops", _rate("gleaner_oom_total", "action"), "Micro-batches that did not fit."),
        ),
    ),
    Board(
        "slo",
        "SLOs",
        tuple(
            Panel(
                slo.title,
                "percentunit",
                {slo.ratio("1h"): "bad, 1 h", slo.ratio("3d"): "bad, 3 d", f"vector({slo.budget:g})": "budget"},
                slo.says,
            )
            for slo in SLOS
        ),
    ),
)
