"""Requirements and facts of a cluster -> findings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal

from gleaner.cli.preflight.cluster import ClusterFacts
from gleaner.cli.preflight.quantities import add_amounts, format_quantity
from gleaner.cli.preflight.requirements import DEFAULT_CLASS, ApiNeed, ObjectNeed, Requirements
from gleaner.cli.preflight.scheduling import explain_rejection
from gleaner.cli.preflight.workloads import Workload
from gleaner.cli.printing import Finding

_REMEDIES = {
    "Secret": "create it; the deployment page lists each Secret and its keys",  # nosec B105  # pragma: allowlist secret
    "ConfigMap": "create it",
    "PersistentVolumeClaim": "create it",
    "PriorityClass": "kubectl apply -f deploy/priority-classes.yaml, or clear the priorityClassName values",
    "StorageClass": "create it, or set storageClassName to one that exists",
    "IngressClass": "install its controller, or set the class to one that exists",
}
_OPERATORS = {
    "keda.sh": "install KEDA",
    "monitoring.coreos.com": "install the Prometheus operator, or turn off the monitoring values",
    "cert-manager.io": "install cert-manager, or bring your own certificate",
    "external-secrets.io": "install External Secrets, or create the Secrets yourself",
    "gateway.networking.k8s.io": "install the Gateway API and a controller for it",
    "argoproj.io": "install Argo Rollouts, or turn rollout.enabled off",
}


def list_needs(requirements: Requirements) -> Iterator[Finding]:
    """Yield everything that must exist, without a cluster to compare it with."""
    for api in requirements.apis:
        yield Finding("needed", _describe_api(api), _OPERATORS.get(api.group, ""))
    for need in requirements.objects:
        yield Finding(
            "needed", f"{_describe_object(need)}, for {', '.join(need.used_by)}", _REMEDIES.get(need.kind, "")
        )
    for workload in requirements.workloads:
        if conditions := _describe_placement(workload):
            yield Finding("needed", f"a node for {workload.label}: {conditions}")
    for name, amount in sorted(sum_demand(requirements.workloads).items()):
        yield Finding("needed", f"at most {name} {format_quantity(amount)}, in quotas and on nodes")
    for image in requirements.images:
        secret = f" with {', '.join(image.pull_secrets)}" if image.pull_secrets else ""
        yield Finding("needed", f"image {image.image}{secret}")


def check_release(requirements: Requirements, facts: ClusterFacts) -> Iterator[Finding]:
    """Yield a finding for each requirement, except for images."""
    for api in requirements.apis:
        yield _check_api(api, facts)
    for need in requirements.objects:
        yield _check_object(need, facts)
    yield from _check_quotas(requirements, facts)
    for workload in requirements.workloads:
        yield check_placement(workload, facts)


def _describe_api(api: ApiNeed) -> str:
    return f"{api.kind} of {api.group}/{api.version} (CustomResourceDefinition)"


def _check_api(api: ApiNeed, facts: ClusterFacts) -> Finding:
    if (api.group, api.version, api.kind) in facts.apis:
        return Finding("good", f"the cluster serves {api.kind} of {api.group}/{api.version}")
    served = sorted(version for group, version, kind in facts.apis if (group, kind) == (api.group, api.kind))
    versions = f"; it serves {', '.join(served)}" if served else ""
    return Finding(
        "bad", f"the cluster does not serve {_describe_api(api)}{versions}", _OPERATORS.get(api.group, "")
    )


def _describe_object(need: ObjectNeed) -> str:
    location = f" in {need.namespace}" if need.namespace else ""
    keys = f" with the keys {', '.join(need.keys)}" if need.keys else ""
    if need.kind == "StorageClass" and need.name == DEFAULT_CLASS:
        return "a default StorageClass"
    return f"{need.kind} {need.name}{location}{keys}"


def _check_object(need: ObjectNeed, facts: ClusterFacts) -> Finding:
    if need.kind in facts.unreadable:
        reason = facts.unreadable[need.kind]
        return Finding("warning", f"{_describe_object(need)}: not checked ({reason})", "check it by hand")
    keys = facts.objects.get((need.kind, need.namespace, need.name))
    remedy = _REMEDIES.get(need.kind, "create it")
    if keys is None:
        return Finding("bad", f"missing: {_describe_object(need)}, for {', '.join(need.used_by)}", remedy)
    if absent := [key for key in need.keys if key not in keys]:
        where = f"{need.kind} {need.name} in {need.namespace}"
        return Finding("bad", f"{where} lacks the keys {', '.join(absent)}, for {', '.join(need.used_by)}", remedy)
    return Finding("good", f"{_describe_object(need)} exists")


def sum_demand(workloads: Iterable[Workload]) -> dict[str, Decimal]:
    """Return what all pods may take at the maximum of replicas during an update, by a quota's resource names."""
    demands = []
    for workload in workloads:
        pod, pods = workload.pod, workload.max_pods + workload.surge
        demand = {"pods": Decimal(1)} | {f"requests.{name}": amount for name, amount in pod.requests.items()}
        for name in ("cpu", "memory"):
            demand |= {f"limits.{name}": pod.limits[name]} if name in pod.limits else {}
            demand |= {name: pod.requests[name]} if name in pod.requests else {}
        demands.append({name: amount * pods for name, amount in demand.items()})
    return add_amounts(demands)


def _check_quotas(requirements: Requirements, facts: ClusterFacts) -> Iterator[Finding]:
    """Yield a finding per quota: the release's, and those of the namespace that it does not replace."""
    quotas = {quota.name: quota for quota in (*facts.quotas, *requirements.quotas)}
    demand = sum_demand(requirements.workloads)
    for quota in quotas.values():
        short = [
            f"{name}: {format_quantity(demand[name])} of {format_quantity(limit)}"
            for name, limit in sorted(quota.hard.items())
            if demand.get(name, Decimal(0)) > limit
        ]
        if short:
            yield Finding(
                "bad",
                f"ResourceQuota {quota.name} is too small for the maximum of replicas and a rolling update: "
                + "; ".join(short),
                "raise the quota, or lower maxReplicas or maxSurge: an update at peak load would stop half-way",
            )
        else:
            yield Finding("good", f"ResourceQuota {quota.name} has room for the maximum of replicas and an update")


def _describe_placement(workload: Workload) -> str:
    pod = workload.pod
    parts = [f"label {key}={value}" for key, value in sorted(pod.selector.items())]
    parts += ["required node affinity"] if pod.affinity_terms else []
    parts += [f"{name} {format_quantity(amount)}" for name, amount in sorted(pod.requests.items())]
    tolerated = [str(toleration.get("key", "all")) for toleration in pod.tolerations]
    return ", ".join([*parts, *([f"taints may be {', '.join(tolerated)}"] if tolerated else [])])


def check_placement(workload: Workload, facts: ClusterFacts) -> Finding:
    """Return whether a node of the cluster could run a pod of the workload, if it were empty."""
    if "Node" in facts.unreadable:
        return Finding("warning", f"nodes for {workload.label}: not checked ({facts.unreadable['Node']})")
    rejections = [explain_rejection(workload.pod, node) for node in facts.nodes]
    fitting = rejections.count(None)
    if fitting:
        return Finding("good", f"{workload.label}: {fitting} of {len(rejections)} nodes can run it")
    reasons = "; ".join(f"{count} x {reason}" for reason, count in Counter(filter(None, rejections)).most_common())
    problem = f"{workload.label}: none of {len(rejections)} nodes can run it" + (f" ({reasons})" if reasons else "")
    if any("/" in name for name in workload.pod.requests) or workload.pod.selector:
        remedy = (
            "compare the labels and taints of your pools; ignore this only if a fitting pool has scaled to zero"
        )
        return Finding("warning", problem, remedy)
    return Finding("bad", problem, "add nodes, or adapt nodeSelector, tolerations and resources in the values")
