from __future__ import annotations

import copy
import re

import pytest

from tests.ship.bench import crossings
from tests.ship.bench.cases import CASES, PLACES, list_pools, render
from tests.ship.bench.checks import CHECKS, Check, Fault, find_all
from tests.support import chart


@pytest.mark.parametrize("case", CASES)
def test_what_refers_to_each_other_fits(case: str) -> None:
    """Selectors, ports, scale targets, quotas, budgets, nodes, flows, checksums and triggers."""
    assert find_all(render(case), list_pools(case)) == []


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
    **{case: {"Gateway edge", "Secret gleaner-backup", DEFAULT_CLASS} for case in ("staging", "prod", "replicas")},
    "restore": {"Secret gleaner-backup", DEFAULT_CLASS},
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


@pytest.mark.parametrize(
    ("check", "fault"),
    [pytest.param(check, fault, id=fault.make.__name__) for check in CHECKS for fault in check.faults],
)
def test_each_check_finds_its_fault(check: Check, fault: Fault) -> None:
    """A broken release: one change, and the check says what no longer works."""
    documents, pools = copy.deepcopy(render("prod + onprem")), list_pools("prod + onprem")
    assert not [line for line in check.find(documents, pools) if fault.words in line]
    fault.make(documents)
    assert [line for line in check.find(documents, pools) if fault.words in line]


def test_a_reference_to_nothing_is_a_need() -> None:
    """A Secret that the chart no longer renders (review A1)."""
    documents = render("default, empty cluster")
    assert "Secret gleaner-keys" not in crossings.list_needs(documents)
    left = [d for d in documents if (d["kind"], d["metadata"]["name"]) != ("Secret", "gleaner-keys")]
    assert "Secret gleaner-keys" in crossings.list_needs(left)
