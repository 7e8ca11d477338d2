"""The bench's static checks, each with a fault that it must find: one change to a rendering that has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gleaner.cli.preflight.cluster import Node
from tests.ship.bench import crossings
from tests.support.chart import Manifest

Find = Callable[[list[Manifest], list[Node]], Iterable[str]]
Break = Callable[[list[Manifest]], None]
FLOWS = [
    *((source, "valkey", 6379) for source in ("gateway", "worker", "courier", "flower", "backup")),
    ("test", "gateway", 8000),
]
"""Flows inside a release; none exists where one of its ends does not."""
REPLICA_FLOWS = [
    *((source, "sentinel", 26379) for source in ("gateway", "worker", "courier", "flower", "backup")),
    *((source, "sentinel", 26379) for source in ("valkey", "sentinel")),
    *((source, "valkey", 6379) for source in ("valkey", "sentinel")),
]
"""Further flows of a release whose store has replicas."""


def find_blocked_flows(documents: list[Manifest]) -> Iterable[str]:
    """Yield the flows of a release that a NetworkPolicy drops."""
    replicated = any(document["metadata"]["name"] == "gleaner-sentinel" for document in documents)
    return crossings.find_blocked_flows(documents, [*FLOWS, *(REPLICA_FLOWS if replicated else ())])


@dataclass(frozen=True)
class Fault:
    """A change that breaks a release, and words of the problem that a check must then report."""

    make: Break
    words: str


@dataclass(frozen=True)
class Check:
    """A check of a whole rendering, with its samples of faults in the rendering "prod + onprem".

    Attributes:
        name: the column in the bench's table.
    """

    name: str
    find: Find
    faults: tuple[Fault, ...]


def find_manifest(documents: list[Manifest], kind: str, part: str = "") -> Any:
    """Return the first manifest of a kind whose name contains a text."""
    return next(d for d in documents if d["kind"] == kind and part in d["metadata"]["name"])


def lower_quota(documents: list[Manifest]) -> None:
    """Give the namespace as many GPUs as replicas, with a surge of one (review A4)."""
    for document in documents:
        if document["kind"] == "Deployment" and "-worker-" in document["metadata"]["name"]:
            document["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    find_manifest(documents, "ResourceQuota")["spec"]["hard"]["requests.nvidia.com/gpu"] = 8


def drop_tolerations(documents: list[Manifest]) -> None:
    """Let the model's tolerations replace those of the place (review A2.3)."""
    find_manifest(documents, "Deployment", "-worker-")["spec"]["template"]["spec"]["tolerations"] = []


def block_drain(documents: list[Manifest]) -> None:
    """Let no pod of the store go (review A3)."""
    find_manifest(documents, "PodDisruptionBudget", "valkey")["spec"] |= {"maxUnavailable": 0}


def rename_component(documents: list[Manifest]) -> None:
    """Give the gateway's pods another label than everything that selects them."""
    labels = find_manifest(documents, "Deployment", "gateway")["spec"]["template"]["metadata"]["labels"]
    labels["app.kubernetes.io/component"] = "api"


def rename_target(documents: list[Manifest]) -> None:
    """Scale a Deployment by the name that it had before."""
    find_manifest(documents, "ScaledObject", "worker")["spec"]["scaleTargetRef"]["name"] = "gleaner-worker"


def rename_port(documents: list[Manifest]) -> None:
    """Send to a port that the container does not name."""
    find_manifest(documents, "Service", "gateway")["spec"]["ports"][0]["targetPort"] = "web"


def close_egress(documents: list[Manifest]) -> None:
    """Forget the worker's way to the store."""
    _find_policy(documents, "worker")["egress"] = []


def close_ingress(documents: list[Manifest]) -> None:
    """Let nobody reach the store."""
    _find_policy(documents, "valkey")["ingress"] = []


def _find_policy(documents: list[Manifest], component: str) -> Any:
    for document in documents:
        selector = document["spec"].get("podSelector", {}) if document["kind"] == "NetworkPolicy" else {}
        if selector.get("matchLabels", {}).get("app.kubernetes.io/component") == component:
            return document["spec"]
    raise LookupError(component)


def forget_checksum(documents: list[Manifest]) -> None:
    """Let changed settings of Valkey reach no pod (review A6)."""
    del find_manifest(documents, "StatefulSet", "valkey")["spec"]["template"]["metadata"]["annotations"][
        "checksum/config"
    ]


def rename_user(documents: list[Manifest]) -> None:
    """Let KEDA log in as a user whom Valkey does not have."""
    trigger = find_manifest(documents, "ScaledObject", "worker")["spec"]["triggers"][0]
    trigger["metadata"]["username"] = "scaler"


def rename_password(documents: list[Manifest]) -> None:
    """Let KEDA read a password that no Secret has."""
    find_manifest(documents, "TriggerAuthentication")["spec"]["secretTargetRef"][0]["key"] = "password"


def watch_prometheus(documents: list[Manifest]) -> None:
    """Scale by a Prometheus that the place does not have, whose failure pins the fleet (review A2.2)."""
    find_manifest(documents, "ScaledObject", "worker")["spec"]["triggers"].append(
        {"type": "prometheus", "metadata": {"serverAddress": "http://prometheus-operated.monitoring.svc:9090"}}
    )


CHECKS = (
    Check(
        "references",
        lambda documents, _: crossings.find_dangling_selectors(documents),
        (
            Fault(rename_component, "Service gleaner-gateway selects nothing"),
            Fault(rename_target, "scales gleaner-worker, which is not there"),
        ),
    ),
    Check(
        "ports",
        lambda documents, _: crossings.find_unknown_ports(documents),
        (Fault(rename_port, "port web, which no pod has"),),
    ),
    Check(
        "quotas",
        lambda documents, _: crossings.find_small_quotas(documents),
        (Fault(lower_quota, "9 are needed"),),
    ),
    Check(
        "budgets",
        lambda documents, _: crossings.find_blocked_drains(documents),
        (Fault(block_drain, "lets none of 1 pods go"),),
    ),
    Check(
        "nodes",
        crossings.find_homeless_pods,
        (Fault(drop_tolerations, "untolerated taint nvidia.com/gpu=true"),),
    ),
    Check(
        "flows",
        lambda documents, _: find_blocked_flows(documents),
        (
            Fault(close_egress, "worker may not send to valkey:6379"),
            Fault(close_ingress, "valkey:6379 does not accept gateway"),
        ),
    ),
    Check(
        "checksums",
        lambda documents, _: crossings.find_missing_checksums(documents),
        (Fault(forget_checksum, "gleaner-valkey does not notice a change of ConfigMap gleaner-valkey"),),
    ),
    Check(
        "triggers",
        lambda documents, _: crossings.find_wrong_triggers(documents),
        (
            Fault(rename_user, "user scaler, whom Valkey does not have"),
            Fault(rename_password, "reads password, which Valkey does not"),
            Fault(watch_prometheus, "whose failure keeps all replicas"),
        ),
    ),
)  # fmt: skip


def find_all(documents: list[Manifest], pools: list[Node]) -> list[str]:
    """Return the problems that any check finds."""
    return [problem for check in CHECKS for problem in check.find(documents, pools)]
