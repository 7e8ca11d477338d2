"""Pods of a release: how many, how large, and where."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gleaner.cli.preflight.workloads import find_values, list_workloads
from tests.unit.gleaner.cli.preflight.manifests import Json, make_deployment, need_of


def test_a_rollout_runs_the_pods_of_its_deployment() -> None:
    """Blue/green doubles them; the Deployment's own number, 0, says nothing."""
    worker = make_deployment()
    worker["spec"]["replicas"] = 0
    rollout = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "r"},
               "spec": {"workloadRef": {"kind": "Deployment", "name": "worker"},
                        "strategy": {"blueGreen": {}}}}  # fmt: skip
    hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
           "spec": {"scaleTargetRef": {"kind": "Rollout", "name": "r"}, "maxReplicas": 6}}  # fmt: skip
    [workload] = need_of(worker, rollout, hpa).workloads
    assert (workload.max_pods, workload.surge) == (6, 6)


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("Deployment", {"replicas": 4}, (4, 1)),
        ("Deployment", {"replicas": 0}, (0, 0)),
        ("Deployment", {}, (1, 1)),
        ("Deployment", {"replicas": 4, "strategy": {"type": "Recreate"}}, (4, 0)),
        ("Deployment", {"replicas": 4, "strategy": {"rollingUpdate": {"maxSurge": 3}}}, (4, 3)),
        ("StatefulSet", {"replicas": 3}, (3, 0)),
        ("DaemonSet", {}, (0, 0)),
        ("Job", {}, (1, 0)),
        ("Rollout", {"replicas": 4, "strategy": {"canary": {"maxSurge": "50%"}}}, (4, 2)),
        ("Rollout", {"replicas": 4, "strategy": {"blueGreen": {}}}, (4, 4)),
    ],
)
def test_pods_at_most(kind: str, spec: Json, expected: tuple[int, int]) -> None:
    """Replicas, and what a rolling update adds by the controller's own rules."""
    template = make_deployment()["spec"]["template"]
    document = {"kind": kind, "metadata": {"name": "w"}, "spec": {**spec, "template": template}}
    [workload] = list_workloads([document])
    assert (workload.max_pods, workload.surge) == expected


@pytest.mark.parametrize(
    "scaler",
    [
        {"kind": "ScaledObject", "spec": {"scaleTargetRef": {"name": "worker"}}},
        {"kind": "ScaledObject", "spec": {"scaleTargetRef": {"name": "worker"}, "maxReplicaCount": 100}},
        {"kind": "HorizontalPodAutoscaler",
         "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "worker"}, "maxReplicas": 100}},
    ],
)  # fmt: skip
def test_an_autoscaler_sets_the_maximum(scaler: Json) -> None:
    """KEDA's default is 100."""
    [workload] = list_workloads([make_deployment(), {**scaler, "metadata": {"name": "s"}}])
    assert workload.max_pods == 100


def test_pods_of_other_kinds_are_found() -> None:
    """A Pod, and the pods of a CronJob; kinds without pods make none."""
    pod = make_deployment()["spec"]["template"]["spec"]
    job = {"template": {"spec": pod}}
    documents: list[Any] = [
        {"kind": "Pod", "metadata": {"name": "p"}, "spec": pod},
        {
            "kind": "CronJob",
            "metadata": {"name": "c"},
            "spec": {"jobTemplate": {"spec": job}},
        },
        {"kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {}}},
        {"kind": "ConfigMap", "metadata": {"name": "m"}},
    ]
    assert [workload.label for workload in list_workloads(documents)] == ["Pod p", "CronJob c"]


def test_a_pod_takes_the_larger_of_its_containers_and_each_init_container() -> None:
    """Init containers run alone, before the others; a limit is the default of the request."""
    containers = [
        {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}},
        {"resources": {"limits": {"cpu": "500m"}}},
        {},
    ]
    init = [{"resources": {"requests": {"cpu": "1200m", "memory": "2Gi"}}}]
    pod = {
        "containers": [{"image": "i", **container} for container in containers],
        "initContainers": [{"image": "i", **container} for container in init],
    }
    [workload] = need_of(make_deployment(**pod)).workloads
    assert workload.pod.requests == {"cpu": Decimal("1.5"), "memory": Decimal(2**31)}
    assert workload.pod.limits == {"cpu": Decimal("0.5"), "memory": Decimal(2**30)}


JSON = st.recursive(
    st.none() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=8,
)


@settings(max_examples=40)
@given(JSON, st.sampled_from(["a", "a.a", "b", "a.b"]))
def test_a_path_leads_through_any_json(node: Any, path: str) -> None:
    """Missing fields and other types lead nowhere; lists are followed; no None is found."""
    values = list(find_values(node, path))
    assert not any(value is None or isinstance(value, list) for value in values)
    assert list(find_values([node, {"x": node}], path)) == values
    assert list(find_values({"x": [node]}, f"x.{path}")) == values
