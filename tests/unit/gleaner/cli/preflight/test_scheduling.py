"""The scheduler's rules."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gleaner.cli.preflight.cluster import Node
from gleaner.cli.preflight.scheduling import explain_rejection
from tests.unit.gleaner.cli.preflight.manifests import ROOM, Json, make_deployment, need_of

GPU = {"cpu": Decimal(8), "memory": Decimal(2**35), "nvidia.com/gpu": Decimal(1)}
TAINT = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}
TAINTED = Node("n", {}, (TAINT,), ROOM)
UNTOLERATED = "untolerated taint sku=gpu:NoSchedule"
ASKS_GPU = {"resources": {"limits": {"nvidia.com/gpu": 1}}}


@pytest.mark.parametrize(
    ("pod", "node", "reason"),
    [
        ({}, Node("n", {}, (), ROOM), None),
        ({}, Node("n", {}, (), ROOM, schedulable=False), "cordoned"),
        ({}, TAINTED, UNTOLERATED),
        ({}, Node("n", {}, ({**TAINT, "effect": "PreferNoSchedule"},), ROOM), None),
        ({"tolerations": [{"key": "sku", "operator": "Exists"}]}, TAINTED, None),
        ({"tolerations": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]}, TAINTED, None),
        ({"tolerations": [{"key": "sku", "value": "cpu"}]}, TAINTED, UNTOLERATED),
        ({"tolerations": [{"key": "sku", "operator": "Exists", "effect": "NoExecute"}]}, TAINTED, UNTOLERATED),
        ({"tolerations": [{"operator": "Exists"}]}, TAINTED, None),
        ({"nodeSelector": {"pool": "a"}}, Node("n", {"pool": "b"}, (), ROOM), "no label pool=a"),
        ({"container": {"resources": {"requests": {"cpu": "9"}}}}, Node("n", {}, (), ROOM), "cpu 8 of 9 requested"),
        ({"container": ASKS_GPU}, Node("n", {}, (), ROOM), "nvidia.com/gpu none of 1 requested"),
        ({"container": ASKS_GPU}, Node("n", {}, (), GPU), None),
    ],
)  # fmt: skip
def test_a_pod_is_placed_as_the_scheduler_would(pod: Json, node: Node, reason: str | None) -> None:
    """Taints, tolerations, labels and resources."""
    [workload] = need_of(make_deployment(**pod)).workloads
    assert explain_rejection(workload.pod, node) == reason


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "In", "values": ["c"]}, False),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "other", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "zone", "operator": "Exists"}, True), ({"key": "zone", "operator": "DoesNotExist"}, False),
        ({"key": "cores", "operator": "Gt", "values": ["7"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["8"]}, False),
        ({"key": "other", "operator": "Gt", "values": ["7"]}, False),
    ],
)  # fmt: skip
def test_required_node_affinity_is_honoured(expression: Json, fits: bool) -> None:
    """Each operator of the API."""
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    [workload] = need_of(make_deployment(affinity=affinity)).workloads
    assert (explain_rejection(workload.pod, Node("n", {"zone": "a", "cores": "8"}, (), ROOM)) is None) is fits


def test_one_of_several_terms_suffices_and_an_empty_one_matches_nothing() -> None:
    """The API documents it so; the reason names every term."""
    terms = [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["c"]}]},
        {"matchExpressions": [{"key": "ssd", "operator": "Exists"}, {"key": "zone", "operator": "Exists"}]},
        {},
    ]
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    [workload] = need_of(make_deployment(affinity={"nodeAffinity": affinity})).workloads
    assert explain_rejection(workload.pod, Node("n", {"zone": "a", "ssd": "1"}, (), ROOM)) is None
    reason = explain_rejection(workload.pod, Node("n", {"zone": "a"}, (), ROOM))
    assert reason is not None
    assert reason.startswith("required node affinity (zone In c or ssd Exists and zone Exists")
