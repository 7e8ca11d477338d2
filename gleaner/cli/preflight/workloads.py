"""Workloads of a release: their pods' resources and placement, and how many pods there can be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gleaner.cli.preflight.quantities import Amounts, add_amounts, count_surge, parse_amounts

Json = Mapping[str, Any]
_DEFAULT_SURGE = "25%"
_POD_SPECS = {"Pod": "spec", "CronJob": "spec.jobTemplate.spec.template.spec"}
_NODE_TERMS = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod's manifest, its resources, and its conditions on a node.

    Attributes:
        selector: labels that the node must have.
        affinity_terms: terms of required affinity, one of which must hold.
        tolerations: tolerated taints.
    """

    spec: Json
    requests: Amounts
    limits: Amounts
    selector: Mapping[str, str]
    affinity_terms: tuple[Json, ...]
    tolerations: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """A controller of pods, or a single pod.

    Attributes:
        label: kind and name.
        max_pods: pods at its maximum of replicas.
        surge: pods that a rolling update adds.
    """

    label: str
    pod: Pod
    max_pods: int
    surge: int


def find_values(node: Any, path: str) -> Iterator[Any]:
    """Yield what a path of fields, such as `spec.tls.secretName`, leads to; every item of a list is followed."""
    if isinstance(node, list):
        for item in node:
            yield from find_values(item, path)
    elif not path:
        yield from () if node is None else (node,)
    elif isinstance(node, Mapping):
        field, _, rest = path.partition(".")
        yield from find_values(node.get(field), rest)


def list_workloads(documents: Sequence[Json]) -> list[Workload]:
    """Return everything that makes pods, with the limits that HPAs and ScaledObjects set."""
    maxima = dict(_list_maxima(documents))
    # A Rollout may run the pods of another object, to which it refers.
    rollouts = {
        (target["kind"], target["name"]): document
        for document in documents
        if document["kind"] == "Rollout"
        for target in find_values(document, "spec.workloadRef")
    }
    workloads = []
    for document in documents:
        kind, name = document["kind"], document.get("metadata", {}).get("name")
        for spec in find_values(document, _POD_SPECS.get(kind, "spec.template.spec")):
            if "containers" in spec:
                owner = rollouts.get((kind, name), document)
                replicas = maxima.get((owner["kind"], owner["metadata"]["name"]), _count_replicas(owner))
                surge = _read_surge(owner, replicas)
                workloads.append(Workload(f"{kind} {name}", _read_pod(spec), replicas, surge))
    return workloads


def _list_maxima(documents: Iterable[Json]) -> Iterator[tuple[tuple[str, str], int]]:
    for document in documents:
        if document["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            spec = document["spec"]
            is_keda = document["kind"] == "ScaledObject"
            most = spec.get("maxReplicaCount", 100) if is_keda else spec["maxReplicas"]
            target = spec["scaleTargetRef"]
            yield (target.get("kind", "Deployment"), target["name"]), int(most)


def _count_replicas(document: Json) -> int:
    """Return the pods of a workload that nothing scales; 0 for a DaemonSet, whose number is that of its nodes."""
    if document["kind"] in ("Deployment", "StatefulSet", "ReplicaSet", "Rollout"):
        replicas = document["spec"].get("replicas")
        return 1 if replicas is None else int(replicas)
    return 0 if document["kind"] == "DaemonSet" else 1


def _read_surge(document: Json, replicas: int) -> int:
    strategy = (document.get("spec") or {}).get("strategy") or {}
    match document["kind"]:
        case "Deployment" if strategy.get("type") != "Recreate":
            update = strategy.get("rollingUpdate")
        case "Rollout" if "blueGreen" in strategy:
            return replicas
        case "Rollout":
            update = strategy.get("canary")
        case _:
            return 0
    return count_surge((update or {}).get("maxSurge", _DEFAULT_SURGE), replicas)


def _read_pod(spec: Json) -> Pod:
    return Pod(
        spec,
        _sum_resources(spec, "requests"),
        _sum_resources(spec, "limits"),
        dict(spec.get("nodeSelector") or {}),
        tuple(find_values(spec, _NODE_TERMS)),
        tuple(find_values(spec, "tolerations")),
    )


def _sum_resources(spec: Json, which: str) -> dict[str, Decimal]:
    """Return a pod's requests or limits: the larger of all containers together and each init container."""

    def read(container: Json) -> dict[str, Decimal]:
        resources = container.get("resources") or {}
        amounts = parse_amounts(resources.get("limits")) if which == "requests" else {}  # the default of requests
        return {**amounts, **parse_amounts(resources.get(which))}

    total = add_amounts(read(container) for container in spec["containers"])
    for container in spec.get("initContainers") or ():
        for name, amount in read(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    return total
