"""Alerts on causes: what is wrong, and where to look, before or while a promise breaks."""

from __future__ import annotations

from alerts.model import Alert, Case, Group

_M = 'model="gleaner-small"'
_MODEL = {"model": "gleaner-small"}
_HPA = "kube_horizontalpodautoscaler"
_WORKERS = 'horizontalpodautoscaler=~".*gleaner.*worker.*"'
_HPA_NAME = 'horizontalpodautoscaler="keda-hpa-gleaner-worker"'
_5XX = 'gleaner_http_requests_total{route!~"/livez|/readyz",status=~"5.."}'
_ALL = 'gleaner_http_requests_total{route!~"/livez|/readyz"}'
_202 = 'gleaner_http_requests_total{route="/v1/jobs",method="POST",status="202"}'
_503 = 'gleaner_http_requests_total{route="/v1/jobs",method="POST",status="503"}'
_SUBMIT = 'gleaner_http_request_seconds_bucket{route="/v1/jobs",method="POST"'

QUEUE = Group(
    "gleaner-queue",
    (
        Alert(
            name="GleanerNoWorker",
            expr="max by (model) (gleaner_open_shards) > 0 and max by (model) (gleaner_live_workers) == 0",
            after="5m",
            severity="page",
            team="platform",
            summary="Work waits for {{ $labels.model }}, and no worker is there.",
            description="{{ $value | humanize }} shards are open. Workers crash, cannot be scheduled, or were not "
            "scaled up from zero.",
            board="queue",
            of_store=True,
            fires=Case(
                {f"gleaner_open_shards{{{_M}}}": "4x10", f"gleaner_live_workers{{{_M}}}": "0x10"}, "7m", _MODEL, "4"
            ),
            quiet=Case({f"gleaner_open_shards{{{_M}}}": "0x10", f"gleaner_live_workers{{{_M}}}": "0x10"}, "7m"),
        ),
        Alert(
            name="GleanerBacklogGrowing",
            expr=f"""max by (model) (gleaner_backlog_seconds) > 1800
              and max by (model) (deriv(gleaner_backlog_characters[15m])) > 0
              unless on () (max({_HPA}_status_current_replicas{{{_WORKERS}}})
                < max({_HPA}_spec_max_replicas{{{_WORKERS}}}))""",
            after="10m",
            severity="page",
            team="platform",
            summary="The backlog of {{ $labels.model }} grows and no more workers will come.",
            description="At the measured rate it takes {{ $value | humanizeDuration }}. Raise the workers' maximum, or "
            "lower what is accepted.",
            board="queue",
            of_store=True,
            fires=Case(
                {
                    f"gleaner_backlog_seconds{{{_M}}}": "3600x40",
                    f"gleaner_backlog_characters{{{_M}}}": "0+1000x40",
                    f"{_HPA}_status_current_replicas{{{_HPA_NAME}}}": "8x40",
                    f"{_HPA}_spec_max_replicas{{{_HPA_NAME}}}": "8x40",
                },
                "30m",
                _MODEL,
                "1h 0m 0s",
            ),
            quiet=Case(
                {
                    f"gleaner_backlog_seconds{{{_M}}}": "3600x40",
                    f"gleaner_backlog_characters{{{_M}}}": "0+1000x40",
                    f"{_HPA}_status_current_replicas{{{_HPA_NAME}}}": "3x40",
                    f"{_HPA}_spec_max_replicas{{{_HPA_NAME}}}": "8x40",
                },
                "30m",
            ),
        ),
        Alert(
            name="GleanerOldestShardTooOld",
            expr="max by (model) (gleaner_oldest_open_seconds) > 4 * 3600",
            after="5m",
            severity="page",
            team="platform",
            summary="A job of {{ $labels.model }} has been open for more than four hours.",
            description="It is {{ $value | humanizeDuration }} old. Either it is huge, or a shard of it goes round.",
            board="queue",
            of_store=True,
            fires=Case({f"gleaner_oldest_open_seconds{{{_M}}}": "18000x10"}, "8m", _MODEL, "5h 0m 0s"),
            quiet=Case({f"gleaner_oldest_open_seconds{{{_M}}}": "3000x10"}, "8m"),
        ),
        Alert(
            name="GleanerUpkeepRepublishing",
            expr='sum(increase(gleaner_republished_total{cause=~"message_lost|lease_lost"}[15m])) > 20',
            after="5m",
            severity="ticket",
            team="platform",
            summary="Upkeep keeps publishing shards that were lost.",
            description="{{ $value | humanize }} in 15 minutes: workers die, stall, or lose the store.",
            board="queue",
            of_store=True,
            fires=Case({'gleaner_republished_total{cause="lease_lost"}': "0+10x40"}, "30m", value="150"),
            quiet=Case({'gleaner_republished_total{cause="deferred"}': "0+10x40"}, "30m"),
        ),
        Alert(
            name="GleanerLedgerRepaired",
            expr="sum(increase(gleaner_ledger_repairs_total[1h])) > 0",
            after="0m",
            severity="ticket",
            team="platform",
            summary="Upkeep's audit found the ledger's books wrong and mended them.",
            description="{{ $value | humanize }} facts in an hour. This should never happen: it is a bug or lost writes.",
            board="queue",
            fires=Case({"gleaner_ledger_repairs_total": "0x10 2x60"}, "30m", value="2"),
            quiet=Case({"gleaner_ledger_repairs_total": "2x60"}, "30m"),
        ),
        Alert(
            name="GleanerNoSubmissions",
            expr="""sum(increase(gleaner_submitted_jobs_total[1h])) == 0
              and sum(increase(gleaner_submitted_jobs_total[1h] offset 1w)) > 20""",
            after="15m",
            severity="ticket",
            team="integration",
            summary="No job for an hour, where a week ago there were some.",
            description="Callers may be unable to reach the gateway, or fail before it.",
            board="overview",
            fires=Case({"gleaner_submitted_jobs_total": "0+10x20 200x1100"}, "10200m", step=10),
            quiet=Case({"gleaner_submitted_jobs_total": "0+10x1100"}, "10200m", step=10),
        ),
        Alert(
            name="GleanerCourierDown",
            expr='sum(up{job=~".*gleaner-courier.*"}) == 0 or absent(up{job=~".*gleaner-courier.*"})',
            after="3m",
            severity="page",
            team="platform",
            summary="No courier runs.",
            description="Webhooks are not delivered; a gateway does upkeep meanwhile.",
            board="webhooks",
            fires=Case({'up{job="gleaner-courier"}': "0x10"}, "5m"),
            quiet=Case({'up{job="gleaner-courier"}': "1x10"}, "5m"),
        ),
    ),
)

WORKERS = Group(
    "gleaner-workers",
    (
        Alert(
            name="GleanerWorkerNotReady",
            expr="gleaner_model_ready == 0",
            after="10m",
            severity="ticket",
            team="ml",
            summary="Worker {{ $labels.instance }} is not ready.",
            description="Its model is still loading or warming up, or it does not end its drain.",
            board="model",
            fires=Case({'gleaner_model_ready{instance="a:9102"}': "0x20"}, "12m", {"instance": "a:9102"}),
            quiet=Case({'gleaner_model_ready{instance="a:9102"}': "0x3 1x20"}, "12m"),
        ),
        Alert(
            name="GleanerModelReloadLoop",
            expr="max by (model) (gleaner_model_trouble) > 0",
            after="2m",
            severity="page",
            team="ml",
            summary="Workers of {{ $labels.model }} cannot load their model.",
            description="They end, are started again, and end. `gleaner models` says why.",
            board="model",
            of_store=True,
            fires=Case({f"gleaner_model_trouble{{{_M}}}": "1x10"}, "4m", _MODEL),
            quiet=Case({f"gleaner_model_trouble{{{_M}}}": "0x10"}, "4m"),
        ),
        Alert(
            name="GleanerWorkerRestarting",
            expr='sum by (instance) (changes(process_start_time_seconds{job=~".*gleaner-worker.*"}[15m])) > 2',
            after="0m",
            severity="ticket",
            team="ml",
            summary="Worker {{ $labels.instance }} starts again and again.",
            description="{{ $value | humanize }} times in 15 minutes: killed for memory, hung model calls, or a document "
            "that kills it.",
            board="resources",
            fires=Case(
                {'process_start_time_seconds{job="gleaner-worker",instance="a"}': "100x2 200x2 300x2 400x2"},
                "11m",
                {"instance": "a"},
                "3",
            ),
            quiet=Case({'process_start_time_seconds{job="gleaner-worker",instance="a"}': "100x5 200x9"}, "11m"),
        ),
        Alert(
            name="GleanerLeasesLost",
            expr="sum(increase(gleaner_leases_lost_total[15m])) > 5",
            after="0m",
            severity="ticket",
            team="platform",
            summary="Workers lose shards they are working on.",
            description="{{ $value | humanize }} in 15 minutes: they stall longer than a lease, or cannot reach the store.",
            board="queue",
            of_store=True,
            fires=Case({"gleaner_leases_lost_total": "0+1x30"}, "20m", value="15"),
            quiet=Case({"gleaner_leases_lost_total": "3x30"}, "20m"),
        ),
        Alert(
            name="GleanerPoisonDocuments",
            expr="""sum by (code) (increase(gleaner_documents_total{
              code=~"worker_lost|inference_failed|out_of_memory"}[15m])) > 2""",
            after="0m",
            severity="ticket",
            team="ml",
            summary="Documents fail in the model with {{ $labels.code }}.",
            description="{{ $value | humanize }} in 15 minutes. Each failed alone; find what they have in common.",
            board="errors",
            fires=Case(
                {'gleaner_documents_total{status="failed",code="worker_lost"}': "0+1x30"},
                "20m",
                {"code": "worker_lost"},
                "15",
            ),
            quiet=Case({'gleaner_documents_total{status="failed",code="empty_text"}': "0+9x30"}, "20m"),
        ),
        Alert(
            name="GleanerOutOfMemoryLadder",
            expr="sum by (action) (increase(gleaner_oom_total[15m])) > 3",
            after="0m",
            severity="ticket",
            team="ml",
            summary="Micro-batches do not fit the device's memory ({{ $labels.action }}).",
            description="{{ $value | humanize }} times in 15 minutes. Each is repeated in halves; the budget is too large.",
            board="model",
            fires=Case({'gleaner_oom_total{action="split"}': "0+1x30"}, "20m", {"action": "split"}, "15"),
            quiet=Case({'gleaner_oom_total{action="split"}': "2x30"}, "20m"),
        ),
        Alert(
            name="GleanerGpuMemoryHigh",
            expr="max by (instance, gpu) (gleaner_gpu_memory_used_bytes / gleaner_gpu_memory_limit_bytes) > 0.95",
            after="10m",
            severity="ticket",
            team="ml",
            summary="GPU {{ $labels.gpu }} of {{ $labels.instance }} is nearly full.",
            description="{{ $value | humanizePercentage }} of its memory is in use; the next long text may not fit.",
            board="resources",
            fires=Case(
                {
                    'gleaner_gpu_memory_used_bytes{instance="a",gpu="0"}': "97x20",
                    'gleaner_gpu_memory_limit_bytes{instance="a",gpu="0"}': "100x20",
                },
                "12m",
                {"instance": "a", "gpu": "0"},
                "97%",
            ),
            quiet=Case(
                {
                    'gleaner_gpu_memory_used_bytes{instance="a",gpu="0"}': "80x20",
                    'gleaner_gpu_memory_limit_bytes{instance="a",gpu="0"}': "100x20",
                },
                "12m",
            ),
        ),
        Alert(
            name="GleanerGpuHot",
            expr="max by (instance, gpu) (gleaner_gpu_temperature_celsius) > 87",
            after="5m",
            severity="page",
            team="platform",
            summary="GPU {{ $labels.gpu }} of {{ $labels.instance }} is hot.",
            description="{{ $value | humanize }} degrees: it slows itself down, and may switch off.",
            board="resources",
            fires=Case(
                {'gleaner_gpu_temperature_celsius{instance="a",gpu="0"}': "90x9"},
                "7m",
                {"instance": "a", "gpu": "0"},
                "90",
            ),
            quiet=Case({'gleaner_gpu_temperature_celsius{instance="a",gpu="0"}': "75x9"}, "7m"),
        ),
    ),
)

STORE = Group(
    "gleaner-store",
    (
        Alert(
            name="GleanerRedisDown",
            expr="max(gleaner_store_up) == 0 or max(gleaner_store_down) == 1",
            after="1m",
            severity="page",
            team="platform",
            summary="The ledger's Redis does not answer.",
            description="Nothing is accepted (503), nothing is read, nothing runs. No accepted job is lost.",
            board="overview",
            fires=Case({"gleaner_store_up": "0x5"}, "3m"),
            quiet=Case({"gleaner_store_up": "1x5", "gleaner_store_down": "0x5"}, "3m"),
        ),
        Alert(
            name="GleanerRedisMemoryHigh",
            expr="max(gleaner_store_memory_bytes / (gleaner_store_memory_limit_bytes > 0)) > 0.8",
            after="5m",
            severity="page",
            team="platform",
            summary="The ledger's Redis is nearly full.",
            description="{{ $value | humanizePercentage }} of maxmemory. From 70 % on new jobs are refused with 503.",
            board="resources",
            fires=Case(
                {"gleaner_store_memory_bytes": "85x10", "gleaner_store_memory_limit_bytes": "100x10"},
                "7m",
                value="85%",
            ),
            quiet=Case({"gleaner_store_memory_bytes": "85x10", "gleaner_store_memory_limit_bytes": "0x10"}, "7m"),
        ),
        Alert(
            name="GleanerAofFailing",
            expr="max(gleaner_store_durable) == 0",
            after="5m",
            severity="page",
            team="platform",
            summary="Redis keeps no good append-only file.",
            description="It is off, or the last write or rewrite failed: a crash of the server would lose accepted jobs.",
            board="resources",
            fires=Case({"gleaner_store_durable": "0x10"}, "7m"),
            quiet=Case({"gleaner_store_durable": "1x10"}, "7m"),
        ),
    ),
)

HTTP = Group(
    "gleaner-api",
    (
        Alert(
            name="GleanerGatewayDown",
            expr='sum(up{job=~".*gleaner-gateway.*"}) == 0 or absent(up{job=~".*gleaner-gateway.*"})',
            after="2m",
            severity="page",
            team="platform",
            summary="No gateway runs.",
            description="Nobody can submit or read. Jobs that were accepted go on.",
            board="api",
            fires=Case({'up{job="gleaner-gateway"}': "0x10"}, "4m"),
            quiet=Case({'up{job="gleaner-gateway"}': "1x10"}, "4m"),
        ),
        Alert(
            name="GleanerErrorRatioHigh",
            expr=f"""(sum(rate({_5XX}[5m])) / sum(rate({_ALL}[5m]))) > 0.05
              and sum(rate({_ALL}[5m])) > 0.1""",
            after="5m",
            severity="page",
            team="platform",
            summary="More than one request in twenty fails.",
            description="{{ $value | humanizePercentage }} of requests are answered with 5xx.",
            board="api",
            of_store=True,
            fires=Case({_503: "0+10x20", _202: "0+90x20"}, "12m", value="10%"),
            quiet=Case({_503: "0+1x20", _202: "0+99x20"}, "12m"),
        ),
        Alert(
            name="GleanerLatencySpike",
            expr='histogram_quantile(0.95, sum by (le) (rate(gleaner_http_request_seconds_bucket{route="/v1/jobs",'
            'method="POST"}[5m]))) > 1',
            after="5m",
            severity="ticket",
            team="platform",
            summary="Submitting takes more than a second.",
            description="95 % of submissions take up to {{ $value | humanizeDuration }}: the store's disk, large bodies, or "
            "a gateway short of processor.",
            board="api",
            of_store=True,
            fires=Case(
                {
                    f'{_SUBMIT},le="1.0"}}': "0x20",
                    f'{_SUBMIT},le="2.5"}}': "0+60x20",
                    f'{_SUBMIT},le="+Inf"}}': "0+60x20",
                },
                "12m",
                value="2.425s",
            ),
            quiet=Case({f'{_SUBMIT},le="1.0"}}': "0+60x20", f'{_SUBMIT},le="+Inf"}}': "0+60x20"}, "12m"),
        ),
        Alert(
            name="GleanerCertificateExpiry",
            expr="""(certmanager_certificate_expiration_timestamp_seconds{name=~".*gleaner.*"}
              or probe_ssl_earliest_cert_expiry{job=~".*gleaner.*"}) - time() < 14 * 86400""",
            after="1h",
            severity="ticket",
            team="platform",
            summary="A certificate of Gleaner ends within two weeks.",
            description="It lasts {{ $value | humanizeDuration }}; its renewal should have come.",
            board="overview",
            fires=Case(
                {'probe_ssl_earliest_cert_expiry{job="gleaner-tls"}': "864000x70"},
                "65m",
                {"job": "gleaner-tls"},
                "9d 22h 55m 0s",
            ),
            quiet=Case({'probe_ssl_earliest_cert_expiry{job="gleaner-tls"}': "8640000x70"}, "65m"),
        ),
    ),
)

_GIVEN = 'gleaner_webhook_attempts_total{outcome="retry"}'
_DELIVERED = 'gleaner_webhook_attempts_total{outcome="delivered"}'
_SLOW = "gleaner_webhook_seconds_bucket"

WEBHOOKS = Group(
    "gleaner-webhooks",
    (
        Alert(
            name="GleanerWebhookFailureRatioHigh",
            expr="""sum(rate(gleaner_webhook_attempts_total{outcome=~"retry|failed"}[10m]))
              / sum(rate(gleaner_webhook_attempts_total[10m])) > 0.5
              and sum(increase(gleaner_webhook_attempts_total[10m])) > 10""",
            after="5m",
            severity="ticket",
            team="integration",
            summary="More than half of the webhook attempts fail.",
            description="{{ $value | humanizePercentage }} of attempts. Each is tried again for days; receivers are told "
            "apart in GET /v1/webhook-endpoints.",
            board="webhooks",
            fires=Case({_GIVEN: "0+9x30", _DELIVERED: "0+1x30"}, "20m", value="90%"),
            quiet=Case({_GIVEN: "0+1x30", _DELIVERED: "0+9x30"}, "20m"),
        ),
        Alert(
            name="GleanerWebhookReceiversSlow",
            expr=f"""histogram_quantile(0.9, sum by (le) (rate({_SLOW}[10m]))) > 5
              and sum(increase(gleaner_webhook_seconds_count[10m])) > 5""",
            after="5m",
            severity="ticket",
            team="integration",
            summary="Webhook receivers take long to answer.",
            description="One attempt in ten takes {{ $value | humanizeDuration }} or more; at 15 s it counts as failed.",
            board="webhooks",
            fires=Case(
                {
                    f'{_SLOW}{{le="5.0"}}': "0x30",
                    f'{_SLOW}{{le="10.0"}}': "0+9x30",
                    f'{_SLOW}{{le="+Inf"}}': "0+9x30",
                    "gleaner_webhook_seconds_count": "0+9x30",
                },
                "20m",
                value="9.5s",
            ),
            quiet=Case(
                {
                    f'{_SLOW}{{le="5.0"}}': "0+9x30",
                    f'{_SLOW}{{le="+Inf"}}': "0+9x30",
                    "gleaner_webhook_seconds_count": "0+9x30",
                },
                "20m",
            ),
        ),
        Alert(
            name="GleanerWebhookEndpointsDisabled",
            expr="max(gleaner_webhook_endpoints_disabled) > max(gleaner_webhook_endpoints_disabled offset 1h)",
            after="0m",
            severity="ticket",
            team="integration",
            summary="Webhook endpoints were disabled within the last hour.",
            description="{{ $value | humanize }} get nothing now, for days of failures, a 410, or by their owner's wish.",
            board="webhooks",
            fires=Case({"gleaner_webhook_endpoints_disabled": "0x60 2x30"}, "80m", value="2"),
            quiet=Case({"gleaner_webhook_endpoints_disabled": "2x90"}, "80m"),
        ),
    ),
)

_FOUND, _SCORES, _WORDS = "gleaner_entities_total", "gleaner_entity_scores_total", "gleaner_words_total"
_END = 4 * 24 * 60
"""Minutes of a drift test's history: the averages look back for days."""
_ALL_STEPS, _LAST = _END // 10, 18
"""Its steps of ten minutes, and how many of them at the end are different."""
_FIRST = _ALL_STEPS - _LAST

QUALITY = Group(
    "gleaner-quality",
    (
        Alert(
            name="GleanerScoreDrift",
            expr="""abs(gleaner:entity_score:mean_1h / (avg_over_time(gleaner:entity_score:mean_1h[3d] offset 6h)) - 1)
              > 0.15 and on (label) sum by (label) (increase(gleaner_entities_total[1h])) > 100""",
            after="30m",
            severity="ticket",
            team="ml",
            summary="Scores of {{ $labels.label }} are not what they were.",
            description="Their mean moved by {{ $value | humanizePercentage }} against three days: another model, other "
            "texts, or a broken one.",
            board="model",
            fires=Case(
                {
                    f'{_FOUND}{{label="other"}}': f"0+100x{_ALL_STEPS}",
                    f'{_SCORES}{{label="other"}}': f"0+80x{_FIRST} {80 * _FIRST + 40}+40x{_LAST}",
                },
                f"{_END}m",
                {"label": "other"},
                "50%",
                step=10,
            ),
            quiet=Case(
                {
                    f'{_FOUND}{{label="other"}}': f"0+100x{_ALL_STEPS}",
                    f'{_SCORES}{{label="other"}}': f"0+80x{_ALL_STEPS}",
                },
                f"{_END}m",
                step=10,
            ),
        ),
        Alert(
            name="GleanerEntityRateDrift",
            expr="""abs(gleaner:entities_per_1000_words:1h
                / (avg_over_time(gleaner:entities_per_1000_words:1h[3d] offset 6h)) - 1) > 0.5
              and on () sum(increase(gleaner_words_total[1h])) > 10000""",
            after="30m",
            severity="ticket",
            team="ml",
            summary="{{ $labels.label }} is found much more or less often than it was.",
            description="Entities per 1,000 words moved by {{ $value | humanizePercentage }} against three days.",
            board="model",
            fires=Case(
                {
                    f'{_FOUND}{{label="other"}}': f"0+200x{_FIRST} {200 * _FIRST + 20}+20x{_LAST}",
                    _WORDS: f"0+10000x{_ALL_STEPS}",
                },
                f"{_END}m",
                {"label": "other"},
                "90%",
                step=10,
            ),
            quiet=Case(
                {f'{_FOUND}{{label="other"}}': f"0+200x{_ALL_STEPS}", _WORDS: f"0+10000x{_ALL_STEPS}"},
                f"{_END}m",
                step=10,
            ),
        ),
    ),
    {
        "gleaner:entity_score:mean_1h": f"sum by (label) (rate({_SCORES}[1h])) / sum by (label) (rate({_FOUND}[1h]))",
        "gleaner:entities_per_1000_words:1h": f"1000 * sum by (label) (rate({_FOUND}[1h])) "
        f"/ on () group_left () sum(rate({_WORDS}[1h]))",
    },
)

SCALING = Group(
    "gleaner-scaling",
    (
        Alert(
            name="GleanerAutoscalerAtMax",
            expr=f"""max by (horizontalpodautoscaler) ({_HPA}_status_current_replicas{{{_WORKERS}}})
              >= max by (horizontalpodautoscaler) ({_HPA}_spec_max_replicas{{{_WORKERS}}})""",
            after="30m",
            severity="ticket",
            team="platform",
            summary="{{ $labels.horizontalpodautoscaler }} has been at its maximum for half an hour.",
            description="All {{ $value | humanize }} workers run. Fine if the backlog shrinks; else raise the maximum.",
            board="queue",
            fires=Case(
                {
                    f"{_HPA}_status_current_replicas{{{_HPA_NAME}}}": "8x40",
                    f"{_HPA}_spec_max_replicas{{{_HPA_NAME}}}": "8x40",
                },
                "35m",
                {"horizontalpodautoscaler": "keda-hpa-gleaner-worker"},
                "8",
            ),
            quiet=Case(
                {
                    f"{_HPA}_status_current_replicas{{{_HPA_NAME}}}": "7x40",
                    f"{_HPA}_spec_max_replicas{{{_HPA_NAME}}}": "8x40",
                },
                "35m",
            ),
        ),
        Alert(
            name="GleanerKedaFailing",
            expr="""sum by (scaledObject) (increase(
              {__name__=~"keda_scaler_detail_errors_total|keda_scaler_errors_total",scaledObject=~".*gleaner.*"}[10m])) > 2""",
            after="5m",
            severity="page",
            team="platform",
            summary="KEDA cannot read the queue for {{ $labels.scaledObject }}.",
            description="{{ $value | humanize }} errors in 10 minutes: workers are not scaled, from zero either.",
            board="queue",
            of_store=True,
            fires=Case(
                {'keda_scaler_detail_errors_total{scaledObject="gleaner-worker"}': "0+1x30"},
                "20m",
                {"scaledObject": "gleaner-worker"},
                "10",
            ),
            quiet=Case({'keda_scaler_detail_errors_total{scaledObject="gleaner-worker"}': "3x30"}, "20m"),
        ),
    ),
)


def _escalation(level: str, after: str, minutes: int, who: str) -> Alert:
    page = 'ALERTS{alertstate="firing",severity="page",alertname="GleanerRedisDown",level="L2",team="platform"}'
    return Alert(
        name=f"GleanerEscalation{level}",
        expr='max by (team) (ALERTS{alertstate="firing",severity="page",level="L2",alertname=~"Gleaner.*"}) == 1',
        after=after,
        severity="page",
        team="",
        summary=f"Pages have gone on for {after}: {level}.",
        description=f"{who} The alerts that fire say what is wrong.",
        board="overview",
        level=level,
        fires=Case({page: f"1x{minutes + 10}"}, f"{minutes + 5}m", {"team": "platform"}),
        quiet=Case({page: "1x5 stale"}, f"{minutes + 5}m"),
    )


ESCALATION = Group(
    "gleaner-escalation",
    (
        _escalation("L3", "30m", 30, "The second on call and the owner of the service come in."),
        _escalation("L4", "2h", 120, "The incident manager takes over."),
    ),
)

GROUPS = (QUEUE, WORKERS, STORE, HTTP, WEBHOOKS, QUALITY, SCALING, ESCALATION)
