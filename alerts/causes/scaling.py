"""KEDA and the autoscaler, by their metrics."""

from __future__ import annotations

from alerts.model import Alert, Case, Group

_HPA = "kube_horizontalpodautoscaler"
_WORKERS = 'horizontalpodautoscaler=~".*gleaner.*worker.*"'
_HPA_NAME = 'horizontalpodautoscaler="keda-hpa-gleaner-worker"'

GROUP = Group(
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
            description="All {{ $value | humanize }} workers run. If the backlog does not shrink, raise the maximum.",
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
            description="{{ $value | humanize }} errors in 10 minutes: workers are not scaled, not even from zero.",
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
