"""Work that waits too long, is retried again and again, or does not arrive."""

from __future__ import annotations

from alerts.model import CELL, Alert, Case, Group, count_as_absent
from jobs.naming import model_slug

_M = 'model="gleaner-small"'
_MODEL = {"model": "gleaner-small"}
_MAX = f"max by ({CELL}, model)"
_NO_RATE_YET = {
    f"gleaner_backlog_seconds{{{_M}}}": "0+60x20",
    f"gleaner_backlog_characters{{{_M}}}": "0+1000x20",
    f"gleaner_live_workers{{{_M}}}": "1x20",
}


def _growing(model: str, workers: int, maximum: int, minutes: int = 40) -> dict[str, str]:
    """Return the series of a model whose backlog grows, with its workers and their maximum."""
    of = f'{{namespace="a",model="{model}"}}'
    hpa = f'{{namespace="a",horizontalpodautoscaler="keda-hpa-extraction-worker-{model_slug(model)}"}}'
    return {
        f"gleaner_backlog_seconds{of}": f"3600x{minutes}",
        f"gleaner_backlog_characters{of}": f"0+1000x{minutes}",
        f"gleaner_live_workers{of}": f"{workers}x{minutes}",
        f'gleaner_model_slug_info{{namespace="a",model="{model}",slug="{model_slug(model)}"}}': f"1x{minutes}",
        f"kube_horizontalpodautoscaler_status_current_replicas{hpa}": f"{workers}x{minutes}",
        f"kube_horizontalpodautoscaler_spec_max_replicas{hpa}": f"{maximum}x{minutes}",
    }


def _waiting(namespace: str, open_shards: str, workers: str) -> dict[str, str]:
    """Return the series of an installation with open shards and workers, per minute in promtool's notation."""
    of = f'{{namespace="{namespace}",{_M}}}'
    return {f"gleaner_open_shards{of}": open_shards, f"gleaner_live_workers{of}": workers}


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
            expr=f"{_MAX} (gleaner_open_shards) > 0 and {_MAX} (gleaner_live_workers) == 0",
            after="20m",  # above the longest start from zero: a node, the image, the model; the chart computes it
            severity="page",
            team="platform",
            summary="Work waits for {{ $labels.model }}, but no worker is alive.",
            description="{{ $value | humanize }} shards are open. Workers crash, cannot be scheduled, or were not "
            "scaled up from zero.",
            board="queue",
            of_store=True,
            fires=Case(  # next to an idle installation
                {**_waiting("a", "500x40", "0x40"), **_waiting("b", "0x40", "3x40")},
                "35m",
                {**_MODEL, "namespace": "a"},
                "500",
            ),
            quiet=Case(_waiting("a", "0x40", "0x40"), "35m"),
            also=((Case(_waiting("a", "4x40", "0x10 1x30"), "35m"), False),),  # a start from zero of ten minutes
        ),
        Alert(
            name="GleanerBacklogGrowing",
            expr=f"""({_MAX} (gleaner_backlog_seconds) > 1800
                and {_MAX} (deriv(gleaner_backlog_characters[15m])) > 0
              or {_MAX} (gleaner_backlog_seconds)
                and {_MAX} (delta(gleaner_backlog_characters[10m])) > 0
                unless {_MAX} (max_over_time(gleaner_model_info[10m])
                  and on ({CELL}, job, instance) increase(gleaner_documents_total[10m]) > 0))
              and {_MAX} (gleaner_live_workers) > 0
              unless gleaner:workers:current < gleaner:workers:max""",
            after="10m",
            severity="page",
            team="platform",
            summary="The backlog of {{ $labels.model }} grows and workers are at their maximum.",
            description="At the measured rate it takes {{ $value | humanizeDuration }}; if nothing was finished for ten "
            "minutes, this is the age of its oldest job. Raise the maximum of workers, or accept fewer jobs.",
            board="queue",
            of_store=True,
            fires=Case(  # another model of the installation has workers to spare
                {**_growing("gliner-medium-v2.1", 2, 2, 180), **_growing("gleaner-small", 1, 20, 180)},
                "180m",
                {"namespace": "a", "model": "gliner-medium-v2.1"},
                "1h 0m 0s",
            ),
            quiet=Case(_growing("gliner-medium-v2.1", 3, 8), "30m"),
            also=(
                (  # a new deployment: no rate was measured yet, and nothing is finished
                    Case({**_NO_RATE_YET, **_busy_worker("other")}, "14m", _MODEL, "14m 0s"),
                    True,
                ),
                (Case({**_NO_RATE_YET, **_busy_worker("gleaner-small")}, "14m"), False),
                # Without a live worker it is GleanerNoWorker's.
                (
                    Case(
                        {
                            **_growing("gleaner-small", 8, 8),
                            'gleaner_live_workers{namespace="a",model="gleaner-small"}': "0x40",
                        },
                        "30m",
                    ),
                    False,
                ),
            ),
        ),
        Alert(
            name="GleanerOldestShardTooOld",
            expr=f"{_MAX} (gleaner_oldest_open_seconds) > 4 * 3600",
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
            expr=f'sum by ({CELL}) (increase(gleaner_republished_total{{cause=~"message_lost|lease_lost"}}[15m])) > 20',
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
            expr=f"sum by ({CELL}) (increase(gleaner_ledger_repairs_total[1h])) > 0",
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
            expr=f"""sum by ({CELL}) (increase(gleaner_submitted_jobs_total[1h])) == 0
              and sum by ({CELL}) (increase(gleaner_submitted_jobs_total[1h] offset 1w)) > 20""",
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
            expr=count_as_absent("gleaner_webhook_endpoints_disabled"),
            after="3m",
            severity="page",
            team="platform",
            summary="No courier is running.",
            description="Webhooks are not delivered; a gateway does the upkeep meanwhile.",
            board="webhooks",
            fires=Case(
                {
                    'gleaner_webhook_endpoints_disabled{namespace="a"}': "0x3 stale",
                    'gleaner_webhook_endpoints_disabled{namespace="b"}': "0x10",
                },
                "8m",
                {"namespace": "a"},
            ),
            quiet=Case({'gleaner_webhook_endpoints_disabled{job="kubernetes-pods",namespace="a"}': "0x10"}, "8m"),
        ),
    ),
    reads=("scaling",),
)
