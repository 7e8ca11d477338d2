from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from gleaner.cli.preflight.cluster import Node
from tests.ship.bench import crossings
from tests.support import chart

PLACES = ("aws", "gcp", "azure", "onprem")
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "default, empty cluster": ({}, (chart.CLUSTER,)),
    "default, every operator": ({}, (*chart.OPERATORS, chart.CLUSTER)),
    "dev": (chart.read_overlay("dev"), (chart.CLUSTER,)),
    "keda off": ({"keda": {"enabled": False}}, chart.OPERATORS),
    "canary": ({"gateway": {"rollout": {"enabled": True, "strategy": "canary"}}}, chart.OPERATORS),
    "blue/green": ({"gateway": {"rollout": {"enabled": True, "strategy": "blueGreen"}}}, chart.OPERATORS),
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


GPUS = {**crossings.EVERYTHING, "nvidia.com/gpu": Decimal(1)}
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
PLAIN = Node("plain", {}, (), crossings.EVERYTHING)
FLOWS = [
    *((source, "valkey", 6379) for source in ("gateway", "worker", "courier", "flower", "backup")),
    ("test", "gateway", 8000),
]
"""Flows inside a release; none exists where one of its ends does not."""


@pytest.mark.parametrize("case", CASES)
def test_what_refers_to_each_other_fits(case: str) -> None:
    """Selectors, ports, scale targets, quotas, budgets, nodes and flows."""
    documents = render(case)
    site = next((site for site in PLACES if case.endswith(site)), "onprem")
    assert list(find_all(documents, [PLAIN, POOLS[site]])) == []


def find_all(documents: list[chart.Manifest], pools: list[Node]) -> Iterator[str]:
    """Yield the problems of all checks."""
    yield from crossings.find_dangling_selectors(documents)
    yield from crossings.find_unknown_ports(documents)
    yield from crossings.find_small_quotas(documents)
    yield from crossings.find_blocked_drains(documents)
    yield from crossings.find_homeless_pods(documents, pools)
    yield from crossings.find_blocked_flows(documents, FLOWS)


DEFAULT_CLASS = "StorageClass"
IN_A_PLACE = {
    "aws": {"ClusterSecretStore aws-secrets-manager", "IngressClass alb", "StorageClass gp3-encrypted"},
    "gcp": {"ClusterSecretStore gcp-secret-manager", "Gateway external-https", "StorageClass premium-rwo-cmek"},
    "azure": {
        "ClusterSecretStore azure-key-vault",
        "IngressClass azure-application-gateway",
        "StorageClass managed-csi-premium-encrypted",
    },
    "onprem": {"Gateway edge", "PersistentVolumeClaim gleaner-models", "Secret gleaner-backup", DEFAULT_CLASS},
}
NEEDED = {
    **{case: {DEFAULT_CLASS} for case in CASES},
    **{case: {"Gateway edge", "Secret gleaner-backup", DEFAULT_CLASS} for case in ("staging", "prod")},
    **{f"prod + {site}": names for site, names in IN_A_PLACE.items()},
    "staging + aws": IN_A_PLACE["aws"],
}
"""All that must be there before an installation; the rest is rendered, or made from what is rendered."""


@pytest.mark.parametrize("case", NEEDED)
def test_a_release_needs_nothing_else(case: str) -> None:
    """`gleaner preflight` lists exactly this; on an empty cluster it is a default StorageClass."""
    values, apis = CASES[case]
    documents = chart.render_manifests({**values, "preflight": False}, (*apis, chart.CLUSTER))
    assert crossings.list_needs(documents) == NEEDED[case]


@pytest.mark.parametrize("site", PLACES)
def test_the_page_of_a_place_names_what_it_needs(site: str) -> None:
    """Or the general page does."""
    folder = chart.ROOT / "docs" / "how-to"
    text = (folder / f"deployment-{site}.md").read_text() + (folder / "deployment.md").read_text()
    names = {need.partition(" ")[2] for need in IN_A_PLACE[site]} - {""}
    assert {name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)} == set()


Mutation = Callable[[list[Any]], None]


def find(documents: list[Any], kind: str, part: str = "") -> Any:
    """Return the first manifest of a kind whose name contains a text."""
    return next(d for d in documents if d["kind"] == kind and part in d["metadata"]["name"])


def lower_quota(documents: list[Any]) -> None:
    """Give the namespace as many GPUs as replicas, with a surge of one (review A4)."""
    for document in documents:
        if document["kind"] == "Deployment" and "-worker-" in document["metadata"]["name"]:
            document["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    find(documents, "ResourceQuota")["spec"]["hard"]["requests.nvidia.com/gpu"] = 8


def drop_tolerations(documents: list[Any]) -> None:
    """Let the model's tolerations replace those of the place (review A2.3)."""
    find(documents, "Deployment", "-worker-")["spec"]["template"]["spec"]["tolerations"] = []


def block_drain(documents: list[Any]) -> None:
    """Let no pod of the store go (review A3)."""
    find(documents, "PodDisruptionBudget", "valkey")["spec"] |= {"maxUnavailable": 0}


def rename_component(documents: list[Any]) -> None:
    """Give the gateway's pods another label than everything that selects them."""
    labels = find(documents, "Deployment", "gateway")["spec"]["template"]["metadata"]["labels"]
    labels["app.kubernetes.io/component"] = "api"


def rename_target(documents: list[Any]) -> None:
    """Scale a Deployment by the name that it had before."""
    find(documents, "ScaledObject", "worker")["spec"]["scaleTargetRef"]["name"] = "gleaner-worker"


def rename_port(documents: list[Any]) -> None:
    """Send to a port that the container does not name."""
    find(documents, "Service", "gateway")["spec"]["ports"][0]["targetPort"] = "web"


def close_egress(documents: list[Any]) -> None:
    """Forget the worker's way to the store."""
    for policy in documents:
        selector = policy["spec"].get("podSelector", {}) if policy["kind"] == "NetworkPolicy" else {}
        if selector.get("matchLabels", {}).get("app.kubernetes.io/component") == "worker":
            policy["spec"]["egress"] = []


def close_ingress(documents: list[Any]) -> None:
    """Let nobody reach the store."""
    for policy in documents:
        selector = policy["spec"].get("podSelector", {}) if policy["kind"] == "NetworkPolicy" else {}
        if selector.get("matchLabels", {}).get("app.kubernetes.io/component") == "valkey":
            policy["spec"]["ingress"] = []


@pytest.mark.parametrize(
    ("mutation", "problem"),
    [
        (lower_quota, "9 are needed"), (drop_tolerations, "untolerated taint nvidia.com/gpu=true"),
        (block_drain, "lets none of 1 pods go"), (rename_component, "Service gleaner-gateway selects nothing"),
        (rename_target, "scales gleaner-worker, which is not there"),
        (rename_port, "port web, which no pod has"),
        (close_egress, "worker may not send to valkey:6379"),
        (close_ingress, "valkey:6379 does not accept gateway"),
    ],
)  # fmt: skip
def test_each_check_finds_its_fault(mutation: Mutation, problem: str) -> None:
    """A broken release: one change, and the check says what no longer works."""
    documents = copy.deepcopy(render("prod + onprem"))
    pools = [PLAIN, POOLS["onprem"]]
    assert not [line for line in find_all(documents, pools) if problem in line]
    mutation(documents)
    assert [line for line in find_all(documents, pools) if problem in line]


def test_a_reference_to_nothing_is_a_need() -> None:
    """A Secret that the chart no longer renders (review A1)."""
    documents = render("default, empty cluster")
    assert "Secret gleaner-keys" not in crossings.list_needs(documents)
    left = [d for d in documents if (d["kind"], d["metadata"]["name"]) != ("Secret", "gleaner-keys")]
    assert "Secret gleaner-keys" in crossings.list_needs(left)
