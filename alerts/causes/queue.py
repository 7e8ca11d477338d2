"""Work that waits too long, is retried again and again, or does not arrive."""

from __future__ import annotations

from alerts.model import Alert, Case, Group

_M = 'model="gleaner-small"'
_MODEL = {"model": "gleaner-small"}
_HPA = "kube_horizontalpodautoscaler"
_WORKERS = 'horizontalpodautoscaler=~".*gleaner.*worker.*"'
_HPA_NAME = 'horizontalpodautoscaler="keda-hpa-gleaner-worker"'
_NO_RATE_YET = {f"gleaner_backlog_seconds{{{_M}}}": "0+60x20", f"gleaner_backlog_characters{{{_M}}}": "0+1000x20"}


def _busy_worker(model: str) -> dict[str, str]:
    """Return the series of a worker that finishes documents of the model."""
    return {
        'gleaner_documents_total{job="gleaner-worker",instance="a",status="succeeded",code="ok"}': "0+5x20",
        f'gleaner_model_info{{job="gleaner-worker",instance="a",model="{model}",revision="1"}}': "1x20",
    }


GROUP = Group(
    "gleaner-queue",
    (
        Alert(
            name="GleanerNoWorker",
            expr="max by (model) (gleaner_open_shards) > 0 and max by (model) (gleaner_live_workers) == 0",
            after="5m",
            severity="page",
            team="platform",
            summary="Work waits for {{ $labels.model }}, but no worker is alive.",
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
            expr=f"""(max by (model) (gleaner_backlog_seconds) > 1800
                and max by (model) (deriv(gleaner_backlog_characters[15m])) > 0
              or max by (model) (gleaner_backlog_seconds)
                and max by (model) (delta(gleaner_backlog_characters[10m])) > 0
                unless max by (model) (max_over_time(gleaner_model_info[10m])
                  and on (job, instance) increase(gleaner_documents_total[10m]) > 0))
              unless on () (max({_HPA}_status_current_replicas{{{_WORKERS}}})
                < max({_HPA}_spec_max_replicas{{{_WORKERS}}}))""",
            after="10m",
            severity="page",
            team="platform",
            summary="The backlog of {{ $labels.model }} grows and workers are at their maximum.",
            description="At the measured rate it takes {{ $value | humanizeDuration }}; if nothing was finished for ten "
            "minutes, this is the age of its oldest job. Raise the maximum of workers, or accept fewer jobs.",
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
            also=(
                (  # a new deployment: no rate was measured yet, and nothing is finished
                    Case({**_NO_RATE_YET, **_busy_worker("other")}, "14m", _MODEL, "14m 0s"),
                    True,
                ),
                (Case({**_NO_RATE_YET, **_busy_worker("gleaner-small")}, "14m"), False),
            ),
        ),
        Alert(
            name="GleanerOldestShardTooOld",
            expr="max by (model) (gleaner_oldest_open_seconds) > 4 * 3600",
            after="5m",
            severity="page",
            team="platform",
            summary="A job of {{ $labels.model }} has been open for more than four hours.",
            description="It is {{ $value | humanizeDuration }} old. Either it is huge, or one of its shards is retried again and again.",
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
            summary="Upkeep keeps republishing lost shards.",
            description="{{ $value | humanize }} in 15 minutes: workers die, stall, or cannot reach Redis.",
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
            summary="Upkeep's audit found and repaired wrong values in the ledger.",
            description="{{ $value | humanize }} values in an hour. This should never happen: it means a bug or lost writes.",
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
            summary="No jobs for an hour, unlike a week ago.",
            description="Clients may be unable to reach the gateway, or fail before they call it.",
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
            summary="No courier is running.",
            description="Webhooks are not delivered; a gateway does the upkeep meanwhile.",
            board="webhooks",
            fires=Case({'up{job="gleaner-courier"}': "0x10"}, "5m"),
            quiet=Case({'up{job="gleaner-courier"}': "1x10"}, "5m"),
        ),
    ),
)
