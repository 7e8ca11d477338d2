"""KEDA and the autoscaler, by their metrics."""

from __future__ import annotations

from alerts.model import CELL, Alert, Case, Group, in_cells, move_namespace

_HPA = "kube_horizontalpodautoscaler"
_HPA_NAME = 'namespace="a",horizontalpodautoscaler="keda-hpa-extraction-worker-m-2-06a54f"'
_MODEL = {"namespace": "a", "model": "m.2"}
_SLUG = {'gleaner_model_slug_info{namespace="a",model="m.2",slug="m-2-06a54f"}': "1x90"}
_ERRORS = (
    'keda_scaler_detail_errors_total{namespace="keda",exported_namespace="a",scaledObject="extraction-worker-m-2"}'
)
_CELL_A = {'gleaner_store_up{namespace="a"}': "1x30"}


def _replicas(metric: str) -> str:
    """Return an expression on a metric of the models' autoscalers, per model.

    A model's autoscaler ends in its slug, whatever the release is called; one of our metrics maps slugs to models.
    """
    selector = f'{_HPA}_{metric}{{horizontalpodautoscaler=~".+-worker-.+"}}'
    slugs = f'label_replace({move_namespace(selector)}, "slug", "$1", "horizontalpodautoscaler", ".+-worker-(.+)")'
    return f"""max by ({CELL}, model) ({slugs} * on ({CELL}, slug) group_left (model)
      max by ({CELL}, slug, model) (gleaner_model_slug_info))"""


def _errors(metric: str) -> str:
    return move_namespace(f'increase({metric}{{scaledObject=~".+-worker-.+|.+-courier"}}[10m])')


def _workers(current: int, maximum: int, lowest: int = 1) -> dict[str, str]:
    """Return the series of a model's autoscaler."""
    return {
        **_SLUG,
        f"{_HPA}_status_current_replicas{{{_HPA_NAME}}}": f"{current}x90",
        f"{_HPA}_spec_max_replicas{{{_HPA_NAME}}}": f"{maximum}x90",
        f"{_HPA}_spec_min_replicas{{{_HPA_NAME}}}": f"{lowest}x90",
        'gleaner_live_workers{namespace="a",model="m.2"}': f"{current}x90",
    }


GROUP = Group(
    "gleaner-scaling",
    (
        Alert(
            name="GleanerAutoscalerAtMax",
            expr="gleaner:workers:current >= gleaner:workers:max",
            after="30m",
            severity="ticket",
            team="platform",
            summary="The workers of {{ $labels.model }} have been at their maximum for half an hour.",
            description="All {{ $value | humanize }} workers run. If the backlog does not shrink, raise the maximum.",
            board="queue",
            fires=Case(_workers(8, 8), "35m", _MODEL, "8"),
            quiet=Case(_workers(7, 8), "35m"),
        ),
        Alert(
            name="GleanerKedaFailing",
            expr=in_cells(
                f"sum by ({CELL}, scaledObject) ({_errors('keda_scaler_detail_errors_total')} "
                f"or {_errors('keda_scaler_errors_total')}) > 2"
            ),
            after="5m",
            severity="page",
            team="platform",
            summary="KEDA cannot read the queue for {{ $labels.scaledObject }}.",
            description="{{ $value | humanize }} errors in 10 minutes: workers are not scaled, not even from zero.",
            board="queue",
            of_store=True,
            fires=Case(
                {_ERRORS: "0+1x30", **_CELL_A},
                "20m",
                {"namespace": "a", "scaledObject": "extraction-worker-m-2"},
                "10",
            ),
            quiet=Case({_ERRORS: "3x30", **_CELL_A}, "20m"),
        ),
        Alert(
            name="GleanerWorkersNotScaledDown",
            expr=f"""max by ({CELL}, model) (gleaner_live_workers) > gleaner:workers:min
              and max by ({CELL}, model) (max_over_time(gleaner_open_shards[30m])) == 0""",
            after="15m",
            severity="ticket",
            team="platform",
            summary="Idle workers of {{ $labels.model }} are not stopped.",
            description="{{ $value | humanize }} workers run, although nothing has been open for more than half an hour. "
            "KEDA falls back to the present number while one of its triggers fails.",
            board="queue",
            fires=Case(
                {**_workers(8, 8), 'gleaner_open_shards{namespace="a",model="m.2"}': "9x10 0x80"},
                "80m",
                _MODEL,
                "8",
            ),
            quiet=Case({**_workers(8, 8), 'gleaner_open_shards{namespace="a",model="m.2"}': "9x60 0x30"}, "80m"),
            also=(
                (Case({**_workers(1, 8), 'gleaner_open_shards{namespace="a",model="m.2"}': "0x90"}, "80m"), False),
            ),
        ),
    ),
    {
        "gleaner:workers:current": _replicas("status_current_replicas"),
        "gleaner:workers:max": _replicas("spec_max_replicas"),
        "gleaner:workers:min": _replicas("spec_min_replicas"),
    },
)
