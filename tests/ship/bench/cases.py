"""The renderings that the bench looks at: values, what the cluster has, and the pools of nodes there."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gleaner.cli.preflight.cluster import Node
from tests.ship.bench.crossings import EVERYTHING
from tests.support import chart

PLACES = ("aws", "gcp", "azure", "onprem")
RESTORE = {
    "backup": {"enabled": True, "destination": "store:ledgers/prod", "fetch": {"enabled": True}},
    "valkey": {"restore": {"enabled": True}},
}
REPLICAS = {"valkey": {"replicas": 2, "minReplicasToWrite": 1, "sameNode": "never"}}
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "default, empty cluster": ({}, (chart.CLUSTER,)),
    "default, every operator": ({}, (*chart.OPERATORS, chart.CLUSTER)),
    "dev": (chart.read_overlay("dev"), (chart.CLUSTER,)),
    "keda off": ({"keda": {"enabled": False}}, chart.OPERATORS),
    "canary": ({"gateway": {"rollout": {"enabled": True, "strategy": "canary"}}}, chart.OPERATORS),
    "blue/green": ({"gateway": {"rollout": {"enabled": True, "strategy": "blueGreen"}}}, chart.OPERATORS),
    "restore": (RESTORE, chart.OPERATORS),
    "replicas": (chart.merge_values(chart.read_overlay("prod"), REPLICAS), chart.OPERATORS),
    "prepull": ({"prepull": {"enabled": True}}, chart.OPERATORS),
    **{
        " + ".join(names): (chart.merge_values(*map(chart.read_overlay, names)), chart.OPERATORS)
        for names in [("staging",), ("prod",), *(("prod", name) for name in PLACES), ("staging", "aws")]
    },
}


def render(case: str) -> list[chart.Manifest]:
    """Render a case; the chart's own check of the cluster would stop at the first gap."""
    values, apis = CASES[case]
    return chart.render_manifests({**values, "preflight": False}, apis)


def taint(key: str, value: str) -> dict[str, str]:
    """Return a taint that keeps pods away."""
    return {"key": key, "value": value, "effect": "NoSchedule"}


GPUS = {**EVERYTHING, "nvidia.com/gpu": Decimal(1)}
GPU = taint("nvidia.com/gpu", "true")
POOLS = {
    "aws": Node("gpu", {"karpenter.sh/capacity-type": "spot"}, (GPU,), GPUS),
    "gcp": Node(
        "gpu", {}, (taint("nvidia.com/gpu", "present"), taint("cloud.google.com/gke-spot", "true")), GPUS
    ),
    "azure": Node("gpu", {}, (GPU, taint("kubernetes.azure.com/scalesetpriority", "spot")), GPUS),
    "onprem": Node("gpu", {}, (GPU,), GPUS),
}  # fmt: skip
"""The GPU pools as the places' pages describe them."""
PLAIN = Node("plain", {}, (), EVERYTHING)


def find_site(case: str) -> str:
    """Return the site of a case; those without one run on premises."""
    return next((site for site in PLACES if case.endswith(site)), "onprem")


def list_pools(case: str) -> list[Node]:
    """Return the pools of a case's site."""
    return [PLAIN, POOLS[find_site(case)]]
