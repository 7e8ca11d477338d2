"""Checks of what crosses files of a release: manifests -> problems. Valid files may not fit each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from gleaner.cli.preflight.cluster import ClusterFacts, Node
from gleaner.cli.preflight.requirements import list_requirements
from gleaner.cli.preflight.verdicts import check_placement, sum_demand

Manifest = Mapping[str, Any]
NAMESPACE = "gleaner"
EVERYTHING = {"cpu": Decimal(64), "memory": Decimal(2**39), "ephemeral-storage": Decimal(2**39)}
MAKERS = ("Deployment", "StatefulSet", "DaemonSet", "Rollout", "Pod", "CronJob", "Job")


def list_needs(documents: Sequence[Manifest]) -> set[str]:
    """Return the objects that the release names and does not bring, as kind and name."""
    return {f"{need.kind} {need.name}".strip() for need in list_requirements(documents, NAMESPACE).objects}


def find_dangling_selectors(documents: Sequence[Manifest]) -> Iterator[str]:
    """Yield Services, budgets, policies and monitors that select nothing, and autoscalers of nothing."""
    labels = [pod["labels"] for pod in list_pods(documents)]
    services = [document["metadata"]["labels"] for document in documents if document["kind"] == "Service"]
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    for document in documents:
        kind, spec, label = document["kind"], document.get("spec") or {}, describe(document)
        if kind in ("HorizontalPodAutoscaler", "ScaledObject"):
            target = spec["scaleTargetRef"]
            if (target.get("kind", "Deployment"), target["name"]) not in names:
                yield f"{label} scales {target['name']}, which is not there"
        selector, candidates = _selector(kind, spec), services if kind == "ServiceMonitor" else labels
        if selector is not None and not any(matches(selector, candidate) for candidate in candidates):
            yield f"{label} selects nothing"


def _selector(kind: str, spec: Manifest) -> Manifest | None:
    if kind == "Service":
        return {"matchLabels": spec["selector"]}
    if kind in ("PodDisruptionBudget", "PodMonitor", "ServiceMonitor"):
        return dict(spec["selector"])
    return dict(spec["podSelector"]) if kind == "NetworkPolicy" else None


def find_unknown_ports(documents: Sequence[Manifest]) -> Iterator[str]:
    """Yield Services whose target is no port of the pods that they select."""
    for service in documents:
        if service["kind"] != "Service":
            continue
        selector = {"matchLabels": service["spec"]["selector"]}
        pods = [pod for pod in list_pods(documents) if matches(selector, pod["labels"])]
        offered = {port for pod in pods for port in pod["ports"]}
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if target not in offered:
                yield f"{describe(service)} sends to port {target}, which no pod has"


def find_small_quotas(documents: Sequence[Manifest]) -> Iterator[str]:
    """Yield quotas below the maximum of replicas with a rolling update: an update at peak load would never end."""
    requirements = list_requirements(documents, NAMESPACE)
    demand = sum_demand(requirements.workloads)
    for quota in requirements.quotas:
        for name, limit in quota.hard.items():
            if demand.get(name, Decimal(0)) > limit:
                yield f"ResourceQuota {quota.name} has {limit} {name}, but {demand[name]} are needed"


def find_blocked_drains(documents: Sequence[Manifest]) -> Iterator[str]:
    """Yield budgets that let no pod go: no node drains, and some clouds refuse to upgrade the cluster."""
    for budget in documents:
        if budget["kind"] != "PodDisruptionBudget":
            continue
        spec = budget["spec"]
        replicas = max(
            (pod["replicas"] for pod in list_pods(documents) if matches(spec["selector"], pod["labels"])), default=0
        )
        allowed = spec.get("maxUnavailable", replicas - int(spec.get("minAvailable", 0)))
        if allowed in (0, "0%") or (isinstance(allowed, int) and allowed < 0):
            yield f"{describe(budget)} lets none of {replicas} pods go"


def find_homeless_pods(documents: Sequence[Manifest], pools: Iterable[Node]) -> Iterator[str]:
    """Yield workloads that no pool can run."""
    facts = ClusterFacts(nodes=tuple(pools))
    for workload in list_requirements(documents, NAMESPACE).workloads:
        finding = check_placement(workload, facts)
        if finding.grade != "good":
            yield finding.what


def find_blocked_flows(documents: Sequence[Manifest], flows: Iterable[tuple[str, str, int]]) -> Iterator[str]:
    """Yield flows that a NetworkPolicy drops: component, component, port.

    A pod without a policy of a direction may do everything in it, as in Kubernetes.
    """
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    pods = {pod["labels"].get("app.kubernetes.io/component"): pod for pod in list_pods(documents)}
    for source, target, port in flows:
        if source not in pods or target not in pods:
            continue
        sender, receiver = pods[source], pods[target]
        names = {name for name, number in receiver["ports"].items() if number == port} | {port}
        if not _allows(policies, "Egress", sender["labels"], receiver["labels"], names):
            yield f"{source} may not send to {target}:{port}"
        if not _allows(policies, "Ingress", receiver["labels"], sender["labels"], names):
            yield f"{target}:{port} does not accept {source}"


def find_missing_checksums(documents: Sequence[Manifest]) -> Iterator[str]:
    """Yield workloads whose pods read a ConfigMap at their start and stay as they are when it changes."""
    for document in documents:
        if document["kind"] not in ("Deployment", "StatefulSet"):
            continue
        template = document["spec"]["template"]
        annotations = template["metadata"].get("annotations") or {}
        for volume in template["spec"].get("volumes") or ():
            if "configMap" in volume and "checksum/config" not in annotations:
                yield f"{describe(document)} does not notice a change of ConfigMap {volume['configMap']['name']}"


def find_wrong_triggers(documents: Sequence[Manifest]) -> Iterator[str]:
    """Yield triggers that cannot log in to the release's Valkey, and those that are not the ledger's."""
    scripts = [d["data"]["start.sh"] for d in documents if d["kind"] == "ConfigMap" and "start.sh" in d["data"]]
    users = set(re.findall(r"^user (\S+) ", "\n".join(scripts), re.MULTILINE))
    for document in documents:
        if document["kind"] == "TriggerAuthentication" and users:
            for entry in document["spec"]["secretTargetRef"]:
                if entry["parameter"] == "password" and entry["key"].removesuffix("-password") not in users:
                    yield f"{describe(document)} reads {entry['key']}, which Valkey does not"
        for trigger in document["spec"]["triggers"] if document["kind"] == "ScaledObject" else ():
            user = trigger["metadata"].get("username")
            if trigger["type"] == "redis" and users and user not in users:
                yield f"{describe(document)} logs in as user {user}, whom Valkey does not have"
            if trigger["type"] not in ("redis", "redis-sentinel"):
                yield f"{describe(document)} has a trigger {trigger['type']}, whose failure keeps all replicas"


def _allows(policies: Sequence[Manifest], direction: str, pod: Manifest, peer: Manifest, ports: set[Any]) -> bool:
    ours = [
        policy for policy in policies if direction in policy["policyTypes"] and matches(policy["podSelector"], pod)
    ]
    rules = [rule for policy in ours for rule in policy.get(direction.lower()) or ()]
    return not ours or any(
        _rule_allows(rule, "to" if direction == "Egress" else "from", peer, ports) for rule in rules
    )


def _rule_allows(rule: Manifest, side: str, peer: Manifest, ports: set[Any]) -> bool:
    if rule.get("ports") and not any(entry.get("port") in ports for entry in rule["ports"]):
        return False
    peers = rule.get(side) or ()
    return not peers or any("podSelector" in entry and matches(entry["podSelector"], peer) for entry in peers)


def matches(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Return True if a label selector selects the labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or ():
        value, values = labels.get(expression["key"]), expression.get("values") or ()
        holds = {"In": value in values, "NotIn": value not in values, "Exists": value is not None}
        if not holds.get(expression["operator"], value is None):
            return False
    return True


def list_pods(documents: Sequence[Manifest]) -> list[dict[str, Any]]:
    """Return labels, replicas and ports (by name and number) of the pods that each manifest makes."""
    pods = []
    for document in documents:
        if document["kind"] not in MAKERS or "workloadRef" in document["spec"]:
            continue
        spec = document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]
        template = document if document["kind"] == "Pod" else spec["template"]
        ports = {}
        for container in template["spec"]["containers"]:
            for port in container.get("ports") or ():
                ports[port["containerPort"]] = port["containerPort"]
                ports[port.get("name")] = port["containerPort"]
        labels = (template["metadata"].get("labels")) or {}
        replicas = spec.get("replicas", 1)
        names: list[dict[str, str]] = [{}]
        if document["kind"] == "StatefulSet":
            prefix = f"{document['metadata']['name']}-"
            names = [{"statefulset.kubernetes.io/pod-name": f"{prefix}{index}"} for index in range(replicas)]
        pods += [{"labels": {**labels, **name}, "replicas": replicas, "ports": ports} for name in names]
    return pods


def describe(document: Manifest) -> str:
    """Return kind and name."""
    return f"{document['kind']} {document['metadata']['name']}"
