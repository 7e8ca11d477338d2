"""Kubernetes' decisions about the pods of a workload, as pure functions: the pods that are there -> changes.

Sources: pkg/controller/deployment/rolling.go, pkg/controller/replicaset, pkg/controller/statefulset and
pkg/controller/disruption.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gleaner.cli.preflight.quantities import count_surge

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class PodState:
    """A pod that is not being deleted.

    Attributes:
        is_new: it was made from the present template.
        created: grows with its youth.
    """

    name: str
    is_new: bool
    is_ready: bool
    created: float


@dataclass(frozen=True)
class Change:
    """Pods to create from the present template, and to delete."""

    create: int = 0
    delete: tuple[str, ...] = ()


def plan_deployment(spec: Manifest, pods: Sequence[PodState], terminating: int) -> Change:
    """Return the next step of a Deployment.

    Args:
        spec: of the Deployment.
        pods: without those that are being deleted.
        terminating: number of pods that are being deleted.
    """
    replicas = int(spec.get("replicas", 1))
    strategy = spec.get("strategy") or {}
    new, old = [p for p in pods if p.is_new], [p for p in pods if not p.is_new]
    if strategy.get("type") == "Recreate" and old:
        return Change(delete=tuple(pod.name for pod in old))
    if strategy.get("type") == "Recreate" and terminating and len(new) < replicas:
        return Change()
    if len(new) > replicas:
        return Change(delete=tuple(pod.name for pod in choose_victims(new, len(new) - replicas)))
    rolling = strategy.get("rollingUpdate") or {}
    surge, unavailable = resolve_bounds(rolling, replicas)
    create = max(0, min(replicas - len(new), replicas + surge - len(pods)))
    return Change(create, tuple(pod.name for pod in _choose_old(new, old, replicas - unavailable)))


def _choose_old(new: Sequence[PodState], old: Sequence[PodState], min_available: int) -> list[PodState]:
    """Return the old pods that may go now: those that are not ready first, then ready ones above the minimum."""
    not_ready_new = sum(not pod.is_ready for pod in new)
    cleanable = len(new) + len(old) - min_available - not_ready_new
    broken = [pod for pod in old if not pod.is_ready][: max(0, cleanable)]
    ready_old = [pod for pod in old if pod.is_ready]
    surplus = sum(pod.is_ready for pod in (*new, *old)) - min_available
    return [*broken, *choose_victims(ready_old, min(len(ready_old), max(0, surplus)))]


def choose_victims(pods: Iterable[PodState], count: int) -> list[PodState]:
    """Return the pods that a ReplicaSet deletes: those that are not ready first, then the youngest."""
    return sorted(pods, key=lambda pod: (pod.is_ready, -pod.created))[:count]


def resolve_bounds(rolling: Manifest, replicas: int) -> tuple[int, int]:
    """Return maxSurge and maxUnavailable as numbers; if both come to 0, one pod may be unavailable."""
    surge = count_surge(rolling.get("maxSurge", "25%"), replicas)
    unavailable = count_unavailable(rolling.get("maxUnavailable", "25%"), replicas)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def count_unavailable(value: object, replicas: int) -> int:
    """Return maxUnavailable as a number; percentages are rounded down."""
    text = str(value)
    return math.floor(replicas * int(text.removesuffix("%")) / 100) if text.endswith("%") else int(text)


def plan_stateful_set(names: Sequence[str], pods: Sequence[PodState], terminating: Iterable[str]) -> Change:
    """Return the next step of a StatefulSet with ordered pods.

    Args:
        names: of the pods that it should have, in order.
        pods: without those that are being deleted.
        terminating: names of pods that are being deleted.

    Returns:
        a Change whose `create` is the 1-based position of the pod to create.
    """
    present = {pod.name: pod for pod in pods}
    ending = set(terminating)
    surplus = sorted(set(present) - set(names), reverse=True)
    if surplus:
        return Change(delete=(surplus[0],)) if not ending else Change()
    for position, name in enumerate(names, 1):
        if name in ending:
            return Change()
        if name not in present:
            return Change(create=position)
        if not present[name].is_ready and present[name].is_new:
            return Change()
    old = [name for name in reversed(names) if not present[name].is_new]
    return Change(delete=(old[0],)) if old and not ending else Change()


def count_disruptions(budget: Manifest, expected: int, healthy: int) -> int:
    """Return the pods that a budget lets go now.

    Args:
        budget: spec of the PodDisruptionBudget.
        expected: replicas that the workloads behind it want.
        healthy: ready pods.
    """
    if "maxUnavailable" in budget:
        # The disruption controller rounds percentages up, unlike a Deployment.
        unavailable = count_surge(budget["maxUnavailable"], expected)
        return max(0, healthy - max(0, expected - unavailable))
    return max(0, healthy - count_surge(budget.get("minAvailable", 1), expected))
