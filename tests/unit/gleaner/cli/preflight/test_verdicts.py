"""Requirements and facts become findings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gleaner.cli.preflight.cluster import ClusterFacts, Node
from gleaner.cli.preflight.requirements import Quota, Requirements
from gleaner.cli.preflight.verdicts import check_release, list_needs, sum_demand
from tests.unit.gleaner.cli.preflight.manifests import ROOM, make_deployment, need_of


def grades(needs: Requirements, facts: ClusterFacts) -> dict[str, list[str]]:
    """Return the findings by grade."""
    by_grade: dict[str, list[str]] = {}
    for finding in check_release(needs, facts):
        by_grade.setdefault(finding.grade, []).append(finding.what)
    return by_grade


def test_a_secret_is_checked_with_its_keys() -> None:
    """Missing, without the key, and complete; a kind that may not be listed is a warning and not a pass."""
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    needs = need_of(make_deployment(container={"env": env}))
    nodes = (Node("n", {}, (), ROOM),)
    secret = ("Secret", "ns", "s")
    assert (
        "missing: Secret s in ns with the keys k, for Deployment worker"
        in grades(needs, ClusterFacts(nodes=nodes))["bad"]
    )
    other = ClusterFacts(objects={secret: frozenset({"other"})}, nodes=nodes)
    assert grades(needs, other)["bad"] == ["Secret s in ns lacks the keys k, for Deployment worker"]
    assert "bad" not in grades(needs, ClusterFacts(objects={secret: frozenset({"k"})}, nodes=nodes))
    unreadable = grades(needs, ClusterFacts(nodes=nodes, unreadable={"Secret": "forbidden"}))
    assert unreadable["warning"] == ["Secret s in ns with the keys k: not checked (forbidden)"]


def test_a_kind_is_served_in_its_version() -> None:
    """A CustomResourceDefinition of another version does not serve the manifest."""
    needs = need_of({"apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": {"name": "t"}})
    served = ClusterFacts(frozenset({("keda.sh", "v1alpha1", "TriggerAuthentication")}))
    assert "bad" not in grades(needs, served)
    old = ClusterFacts(frozenset({("keda.sh", "v1", "TriggerAuthentication")}))
    assert grades(needs, old)["bad"][0].endswith("it serves v1")


@pytest.mark.parametrize(
    ("maximum", "surge", "hard", "fits"), [(8, 1, 8, False), (8, 0, 8, True), (7, "15%", 8, False), (7, 1, 8, True)]
)
def test_a_quota_has_room_for_an_update_at_peak(maximum: int, surge: Any, hard: int, fits: bool) -> None:
    """Eight GPUs, eight replicas and a surge of one never finish a rolling update."""
    worker = make_deployment(container={"resources": {"limits": {"nvidia.com/gpu": 1}}})
    worker["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": surge}}
    scaled = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "x"},
              "spec": {"scaleTargetRef": {"name": "worker"}, "maxReplicaCount": maximum}}  # fmt: skip
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gleaner"},
             "spec": {"hard": {"requests.nvidia.com/gpu": hard}}}  # fmt: skip
    rendered = [
        what for what in grades(need_of(worker, scaled, quota), ClusterFacts()).get("bad", ()) if "Quota" in what
    ]
    assert (rendered == []) is fits
    facts = ClusterFacts(quotas=(Quota("other", {"requests.nvidia.com/gpu": Decimal(hard)}),))
    assert has_room(need_of(worker, scaled), facts) is fits


def has_room(needs: Requirements, facts: ClusterFacts) -> bool:
    """Return True if no quota is reported as too small."""
    return not [what for what in grades(needs, facts).get("bad", ()) if "Quota" in what]


def test_a_pool_that_may_have_scaled_to_zero_is_a_warning() -> None:
    """A GPU pool without nodes may still appear; a pod that fits no ordinary node will never run."""
    gpu = need_of(make_deployment(container={"resources": {"limits": {"nvidia.com/gpu": 1}}}))
    assert grades(gpu, ClusterFacts(nodes=(Node("n", {}, (), ROOM),)))["warning"][0].endswith(
        "none of 1 nodes can run it (1 x nvidia.com/gpu none of 1 requested)"
    )
    large = need_of(make_deployment(container={"resources": {"requests": {"cpu": 9}}}))
    assert "bad" in grades(large, ClusterFacts(nodes=(Node("n", {}, (), ROOM),)))


def test_everything_that_is_checked_is_listed_offline() -> None:
    """Both ways start from the same requirements."""
    needs = need_of(
        make_deployment(priorityClassName="high", container={"envFrom": [{"secretRef": {"name": "s"}}]})
    )
    listed = " ".join(finding.what for finding in list_needs(needs))
    for need in needs.objects:
        assert need.name in listed


def test_demand_counts_every_pod_of_an_update() -> None:
    """By the names that quotas use; limits count for cpu and memory only."""
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": 1}}
    demand = sum_demand(need_of(make_deployment(container={"resources": resources})).workloads)
    assert demand == {
        "pods": 3, "cpu": 3, "requests.cpu": 3, "limits.cpu": 6, "memory": 3 * 2**30, "requests.memory": 3 * 2**30,
        "limits.memory": 3 * 2**30, "requests.nvidia.com/gpu": 3,
    }  # fmt: skip


def test_a_default_class_and_unread_nodes_have_their_sentences() -> None:
    """The default StorageClass has no name; nodes that may not be listed are a warning."""
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "p"}, "spec": {}}
    facts = ClusterFacts(unreadable={"Node": "forbidden"})
    by_grade = grades(need_of(claim, make_deployment()), facts)
    assert by_grade["bad"] == ["missing: a default StorageClass, for PersistentVolumeClaim p"]
    assert by_grade["warning"] == ["nodes for Deployment worker: not checked (forbidden)"]


def test_conditions_of_a_node_are_listed_offline() -> None:
    """Labels, taints and sizes: what somebody needs who creates the pools."""
    pod = make_deployment(
        nodeSelector={"pool": "gpu"},
        tolerations=[{"key": "sku"}, {"operator": "Exists"}],
        container={"resources": {"requests": {"cpu": "500m"}}},
    )
    listed = [finding.what for finding in list_needs(need_of(pod))]
    assert "a node for Deployment worker: label pool=gpu, cpu 0.5, taints may be sku, all" in listed
    assert "at most cpu 1.5, in quotas and on nodes" in listed
