"""Panels of the dashboards: titles, expressions and units. Pure data; `alerts.boards` turns it into Grafana's JSON."""

from __future__ import annotations

from alerts.slo import SLOS
from alerts.widgets import INTERVAL as _I
from alerts.widgets import Board, Panel, query_models, query_quantiles, query_rate

_BACKLOG_S = Panel(
    "Backlog",
    "s",
    query_models("gleaner_backlog_seconds"),
    "Duration of the open work at the measured rate.",
    limit=1800,
)
_OPEN = Panel(
    "Open shards",
    "short",
    query_models("gleaner_open_shards"),
    "KEDA scales by it: shards waiting, published or running.",
)
_OLDEST = Panel(
    "Oldest open job",
    "s",
    query_models("gleaner_oldest_open_seconds"),
    "Grows if a shard is retried again and again.",
    limit=4 * 3600,
)
_WORKERS = Panel("Live workers", "short", query_models("gleaner_live_workers"), "As recorded in the ledger.")
_DOCUMENTS = Panel(
    "Documents", "ops", query_rate("gleaner_documents_total", "status"), "Finished documents per second."
)
_JOBS = Panel("Jobs ended", "ops", query_rate("gleaner_jobs_total", "status"), "By status.")
_REQUESTS = Panel("Requests", "reqps", query_rate("gleaner_http_requests_total", "status"), "By status.")
_ERRORS = Panel(
    "5xx share",
    "percentunit",
    {
        f'(sum(rate(gleaner_http_requests_total{{status=~"5.."}}{_I})) or vector(0)) '
        f"/ sum(rate(gleaner_http_requests_total{_I}))": "5xx"
    },
    "Above 5 % somebody is paged.",
    limit=0.05,
)
_STORE = Panel("Redis answers", "bool_yes_no", {"max(gleaner_store_up)": "up"}, "Read by the courier.", single=True)
_FAILED = Panel(
    "Documents by code",
    "ops",
    query_rate("gleaner_documents_total", "status, code"),
    "Look up codes other than ok in the error reference.",
)

BOARDS: tuple[Board, ...] = (
    Board("overview", "Overview", (_STORE, _WORKERS, _BACKLOG_S, _OLDEST, _DOCUMENTS, _JOBS, _REQUESTS, _ERRORS)),
    Board(
        "queue",
        "Jobs and queue",
        (
            _OPEN,
            Panel(
                "Backlog in characters",
                "short",
                query_models("gleaner_backlog_characters"),
                "Characters not finished.",
            ),
            _BACKLOG_S,
            _OLDEST,
            Panel("Open jobs", "short", query_models("gleaner_open_jobs"), "Jobs not finished."),
            Panel(
                "Drain rate", "short", query_models("gleaner_drain_characters_per_second"), "Characters per second."
            ),
            _WORKERS,
            Panel(
                "Wait for a worker",
                "s",
                query_quantiles("gleaner_queue_wait_seconds"),
                "From creation to the first claim.",
            ),
            Panel(
                "Accepted to finished",
                "s",
                query_quantiles("gleaner_job_seconds", "priority"),
                "The time that clients wait; two SLOs depend on it.",
            ),
            Panel(
                "Slots in use",
                "percentunit",
                {
                    "sum by (priority) (gleaner_worker_shards) / sum by (priority) (gleaner_worker_slots)": "{{priority}}"
                },
                "Near 1 while the priority has a backlog; priorities do not share slots.",
            ),
            Panel(
                "Republished", "ops", query_rate("gleaner_republished_total", "cause"), "Lost messages and leases."
            ),
            Panel("Upkeep tick", "s", query_quantiles("gleaner_upkeep_seconds"), "Duration of one tick."),
            Panel(
                "Workers and their maximum",
                "short",
                {
                    "max by (model) (gleaner:workers:current)": "now {{model}}",
                    "max by (model) (gleaner:workers:max)": "maximum {{model}}",
                },
                "From kube-state-metrics.",
                elsewhere=True,
            ),
        ),
    ),
    Board(
        "model",
        "Model and micro-batches",
        (
            Panel(
                "Stage durations",
                "s",
                query_quantiles("gleaner_stage_seconds", "stage"),
                "The forward pass should dominate.",
            ),
            Panel(
                "Windows per micro-batch",
                "short",
                query_quantiles("gleaner_microbatch_windows"),
                "Few: little work, or long windows.",
            ),
            Panel(
                "Jobs per micro-batch",
                "short",
                query_quantiles("gleaner_microbatch_jobs"),
                "Above one: jobs share micro-batches.",
            ),
            Panel(
                "Padding",
                "percentunit",
                {
                    f'1 - sum(rate(gleaner_microbatch_tokens_total{{kind="real"}}{_I})) '
                    f'/ sum(rate(gleaner_microbatch_tokens_total{{kind="padded"}}{_I}))': "padding"
                },
                "Share of padding in the model's work.",
            ),
            Panel(
                "Fill",
                "percentunit",
                {
                    f'sum(rate(gleaner_microbatch_tokens_total{{kind="padded"}}{_I})) '
                    f"/ (sum(rate(gleaner_microbatch_windows_count{_I})) * avg(gleaner_microbatch_budget_tokens > 0))": "fill"
                },
                "Share of the token budget; low despite a backlog: windows of very different lengths.",
            ),
            Panel(
                "Tokens",
                "short",
                query_rate("gleaner_microbatch_tokens_total", "kind"),
                "Tokens through the model per second.",
            ),
            Panel(
                "Out of memory",
                "ops",
                query_rate("gleaner_oom_total", "action"),
                "If there are any, reduce the token budget.",
            ),
            Panel("Ready", "short", {"sum(gleaner_model_ready)": "ready"}, "Workers with a warm model."),
            Panel("Load and warm-up", "s", {"max(gleaner_model_load_seconds)": "slowest"}, "Duration of a start."),
            Panel(
                "Mean score",
                "percentunit",
                {
                    f"sum by (label) (rate(gleaner_entity_scores_total{_I})) "
                    f"/ sum by (label) (rate(gleaner_entities_total{_I}))": "{{label}}"
                },
                "A drift of 15 % against the last three days opens a ticket.",
            ),
            Panel(
                "Entities per 1,000 words",
                "short",
                {
                    f"1000 * sum by (label) (rate(gleaner_entities_total{_I})) "
                    f"/ on () group_left () sum(rate(gleaner_words_total{_I}))": "{{label}}"
                },
                "A drift of 50 % against the last three days opens a ticket.",
            ),
            Panel(
                "Long texts",
                "ops",
                {
                    f"sum(rate(gleaner_windowed_documents_total{_I}))": "windowed",
                    f"sum(rate(gleaner_truncated_documents_total{_I}))": "truncated",
                },
                "Documents of several windows, and documents truncated on request.",
            ),
            Panel(
                "Result cache",
                "ops",
                query_rate("gleaner_result_cache_documents_total", "outcome"),
                "Documents looked up; unread: Redis is slow or refuses. None if the cache is off.",
            ),
            Panel(
                "Answered from the cache",
                "percentunit",
                {
                    f'sum(rate(gleaner_result_cache_documents_total{{outcome="hit"}}{_I})) '
                    f"/ sum(rate(gleaner_result_cache_documents_total{_I}))": "hits"
                },
                "Share of the documents looked up; below a few percent the cache is not worth its memory.",
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
                query_rate("gleaner_http_requests_total", "route"),
                "By route template.",
            ),
            Panel(
                "Submission time",
                "s",
                query_quantiles("gleaner_http_request_seconds", where='{route="/v1/jobs",method="POST"}'),
                "Includes the wait for Redis' disk.",
            ),
            Panel(
                "Time by route",
                "s",
                query_quantiles("gleaner_http_request_seconds", "route"),
                "Long polls wait by design.",
            ),
            Panel(
                "Accepted",
                "ops",
                {
                    f"sum(rate(gleaner_submitted_jobs_total{_I}))": "jobs",
                    f"sum(rate(gleaner_submitted_documents_total{_I}))": "documents",
                },
                "Jobs and documents per second.",
            ),
            Panel(
                "Circuit breaker open",
                "short",
                {"max(gleaner_store_down)": "open"},
                "1: every call fails with 503 at once.",
            ),
            Panel(
                "Gateway processes",
                "short",
                {"sum by (instance) (gleaner_gateway_processes)": "{{instance}}"},
                "Processes that serve, if several share one port.",
                elsewhere=True,
            ),
            Panel(
                "Gateway processes restarted",
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
                "Attempts",
                "ops",
                query_rate("gleaner_webhook_attempts_total", "outcome"),
                "retry: tried again later.",
            ),
            Panel(
                "Attempt duration", "s", query_quantiles("gleaner_webhook_seconds"), "An attempt fails after 15 s."
            ),
            Panel(
                "Delay of the first attempt",
                "s",
                query_quantiles("gleaner_webhook_first_attempt_delay_seconds"),
                "From the end of the job; grows if there are too few couriers.",
            ),
            Panel(
                "Endpoints disabled",
                "short",
                {"max(gleaner_webhook_endpoints_disabled)": "disabled"},
                "Endpoints that receive no events.",
            ),
        ),
    ),
    Board(
        "resources",
        "Resources",
        (
            Panel("CPU", "short", query_rate("process_cpu_seconds_total", "job, instance"), "Cores in use."),
            Panel(
                "Memory",
                "bytes",
                {"max by (job, instance) (process_resident_memory_bytes)": "{{job}} {{instance}}"},
                "Resident; a worker's grows with its largest micro-batch.",
            ),
            Panel(
                "Open files",
                "short",
                {"max by (job, instance) (process_open_fds)": "{{job}} {{instance}}"},
                "Steady growth is a leak.",
            ),
            Panel(
                "Starts",
                "short",
                {"sum by (job, instance) (changes(process_start_time_seconds[1h]))": "{{job}} {{instance}}"},
                "Starts within the last hour.",
            ),
            Panel(
                "Redis memory",
                "bytes",
                {
                    "max(gleaner_store_memory_bytes)": "used",
                    "max(gleaner_store_memory_limit_bytes)": "limit (0: none)",
                },
                "From 70 % on new jobs are refused.",
            ),
            Panel(
                "Redis durable",
                "bool_yes_no",
                {"max(gleaner_store_durable)": "durable"},
                "The append-only file is on and the last writes succeeded.",
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
                "GPU temperature",
                "celsius",
                {"gleaner_gpu_temperature_celsius": "{{instance}} {{gpu}}"},
                "",
                elsewhere=True,
                limit=87,
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
                "Leases lost",
                "ops",
                {f"sum(rate(gleaner_leases_lost_total{_I}))": "lost"},
                "Caused by stalls or outages.",
            ),
            Panel("Republished", "ops", query_rate("gleaner_republished_total", "cause"), "By cause."),
            Panel("Ledger repairs", "short", {"sum(gleaner_ledger_repairs_total)": "facts"}, "Should stay 0."),
            Panel(
                "Model trouble",
                "short",
                query_models("gleaner_model_trouble"),
                "1: the model's workers cannot start.",
            ),
            Panel(
                "Out of memory", "ops", query_rate("gleaner_oom_total", "action"), "Micro-batches that did not fit."
            ),
        ),
    ),
    Board(
        "slo",
        "SLOs",
        tuple(
            Panel(
                slo.title,
                "percentunit",
                {
                    slo.ratio_name("1h"): "{{namespace}} bad, 1 h",
                    slo.ratio_name("3d"): "{{namespace}} bad, 3 d",
                    f"vector({slo.budget:g})": "budget",
                },
                slo.promise,
            )
            for slo in SLOS
        ),
    ),
)
