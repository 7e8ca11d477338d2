"""Workloads of a release: their pods' references, resources and placement, and how many pods there can be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gleaner.cli.preflight.quantities import Amounts, add_amounts, count_surge, parse_amounts

Json = Mapping[str, Any]
_DEFAULT_SURGE = "25%"


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """An object that a pod names; `key`: the entry of a Secret or ConfigMap that it reads, or None for all."""

    kind: str
    name: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Conditions of a pod on its node: labels, terms of required affinity (one must hold), tolerated taints."""

    selector: Mapping[str, str]
    affinity_terms: tuple[Json, ...]
    tolerations: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class PodNeeds:
    """Needs of a pod: objects, images, resources and a node."""

    references: tuple[Reference, ...]
    images: tuple[str, ...]
    pull_secrets: tuple[str, ...]
    requests: Amounts
    limits: Amounts
    placement: Placement


@dataclass(frozen=True, slots=True)
class Workload:
    """A controller of pods, or a single pod.

    Attributes:
        label: kind and name.
        max_pods: pods at its maximum of replicas.
        surge: pods that a rolling update adds.
    """

    label: str
    pod: PodNeeds
    max_pods: int
    surge: int


def list_workloads(documents: Sequence[Json]) -> list[Workload]:
    """Return everything that makes pods, with the limits that HPAs and ScaledObjects set."""
    maxima = dict(_list_maxima(documents))
    rollouts = {(ref["kind"], ref["name"]): rollout for ref, rollout in _list_rollouts(documents)}
    workloads = []
    for document in documents:
        spec = _pod_spec(document)
        if spec is None:
            continue
        kind, name = document["kind"], document["metadata"]["name"]
        owner = rollouts.get((kind, name), document)
        replicas = maxima.get((owner["kind"], owner["metadata"]["name"]), _count_replicas(owner))
        workloads.append(Workload(f"{kind} {name}", _read_pod(spec), replicas, _read_surge(owner, replicas)))
    return workloads


def _list_rollouts(documents: Iterable[Json]) -> Iterator[tuple[Json, Json]]:
    """Yield each Rollout that runs the pods of another object, after a reference to that object."""
    for document in documents:
        if document["kind"] == "Rollout" and "workloadRef" in document["spec"]:
            yield document["spec"]["workloadRef"], document


def _pod_spec(document: Json) -> Json | None:
    """Return the spec of the pods that a manifest makes, or None if it makes none."""
    kind, spec = document["kind"], document.get("spec") or {}
    if kind == "Pod":
        return dict(spec)
    if kind == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template = spec.get("template") or {}
    pod = template.get("spec")
    return dict(pod) if pod and "containers" in pod else None


def _list_maxima(documents: Iterable[Json]) -> Iterator[tuple[tuple[str, str], int]]:
    for document in documents:
        kind, spec = document["kind"], document.get("spec") or {}
        if kind == "HorizontalPodAutoscaler":
            target, most = spec["scaleTargetRef"], spec["maxReplicas"]
        elif kind == "ScaledObject":
            target, most = spec["scaleTargetRef"], spec.get("maxReplicaCount", 100)
        else:
            continue
        yield (target.get("kind", "Deployment"), target["name"]), int(most)


def _count_replicas(document: Json) -> int:
    """Return the pods of a workload that nothing scales; 0 for a DaemonSet, whose number is that of its nodes."""
    if document["kind"] in ("Deployment", "StatefulSet", "ReplicaSet", "Rollout"):
        replicas = document["spec"].get("replicas")
        return 1 if replicas is None else int(replicas)
    return 0 if document["kind"] == "DaemonSet" else 1


def _read_surge(document: Json, replicas: int) -> int:
    spec = document.get("spec") or {}
    if document["kind"] == "Deployment":
        strategy = spec.get("strategy") or {}
        if strategy.get("type") == "Recreate":
            return 0
        return count_surge((strategy.get("rollingUpdate") or {}).get("maxSurge", _DEFAULT_SURGE), replicas)
    if document["kind"] == "Rollout":
        strategy = spec.get("strategy") or {}
        if "blueGreen" in strategy:
            return replicas
        return count_surge((strategy.get("canary") or {}).get("maxSurge", _DEFAULT_SURGE), replicas)
    return 0


def _read_pod(spec: Json) -> PodNeeds:
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    placement = Placement(
        dict(spec.get("nodeSelector") or {}),
        tuple(affinity.get("nodeSelectorTerms") or ()),
        tuple(spec.get("tolerations") or ()),
    )
    return PodNeeds(
        tuple(
            sorted(
                set(_list_references(spec, containers)),
                key=lambda reference: (reference.kind, reference.name, reference.key or ""),
            )
        ),
        tuple(sorted({container["image"] for container in containers})),
        tuple(sorted(entry["name"] for entry in spec.get("imagePullSecrets") or ())),
        _sum_resources(spec, "requests"),
        _sum_resources(spec, "limits"),
        placement,
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


def _list_references(spec: Json, containers: Iterable[Json]) -> Iterator[Reference]:
    """Yield the objects that a pod cannot start without; optional ones are left out."""
    for container in containers:
        yield from _list_environment(container)
    for volume in spec.get("volumes") or ():
        yield from _list_volume(volume)
    for entry in spec.get("imagePullSecrets") or ():
        yield Reference("Secret", entry["name"])
    for field, kind in (
        ("serviceAccountName", "ServiceAccount"),
        ("priorityClassName", "PriorityClass"),
        ("runtimeClassName", "RuntimeClass"),
    ):
        if spec.get(field):
            yield Reference(kind, spec[field])


def _list_environment(container: Json) -> Iterator[Reference]:
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            reference = source.get(field)
            if reference and not reference.get("optional"):
                yield Reference(kind, reference["name"], reference["key"])
    for source in container.get("envFrom") or ():
        for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            reference = source.get(field)
            if reference and not reference.get("optional"):
                yield Reference(kind, reference["name"])


def _list_volume(volume: Json) -> Iterator[Reference]:
    if claim := volume.get("persistentVolumeClaim"):
        yield Reference("PersistentVolumeClaim", claim["claimName"])
    sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
    for source in sources:
        for field, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
            reference = source.get(field)
            if not reference or reference.get("optional"):
                continue
            name = reference.get("secretName") or reference["name"]
            items = [item["key"] for item in reference.get("items") or ()]
            yield from (Reference(kind, name, key) for key in items or (None,))
