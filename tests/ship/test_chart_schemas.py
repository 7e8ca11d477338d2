from __future__ import annotations

import copy
import functools
import json
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
from kubernetes_validate import utils

from tests.support import chart

VERSIONS = [f"1.{minor}" for minor in range(30, 37)]


def _behind_sentinel(**sentinel: Any) -> dict[str, Any]:
    watched = {"addresses": ["s-0.data:26379"], "master": "gleaner"} | sentinel
    return {"valkey": {"enabled": False}, "store": {"networks": ["10.9.0.0/24"], "sentinel": watched}}


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "external store": {
        "valkey": {"enabled": False},
        "store": {
            "address": "redis.example.com:6380",
            "networks": ["10.9.0.0/24"],
            "port": 6380,
            "tls": True,
            "kedaSecret": "store-keda",
        },
    },
    "sentinel": _behind_sentinel(),
    "split models": {
        "models": {"one": {}, "two": {}},
        "defaultModel": "one",
        "modelSplits": {"one": {"one": 9, "two": 1}},
    },
    "canary": {"gateway": {"rollout": {"enabled": True, "prometheusAddress": "http://prometheus:9090"}}},
    "blue and green": {"gateway": {"rollout": {"enabled": True, "strategy": "blueGreen"}}},
    "gateway api": {"gatewayApi": {"enabled": True, "parentRefs": [{"name": "edge", "namespace": "gateways"}]}},
    "two models": {"models": {"gleaner-small": {}, "Acme/NER v2": {"cache": "models", "source": "s3://acme/ner"}}},
    "shared gpu": {"worker": {"gpu": {"sharedBy": 2}, "resources": {"limits": {"nvidia.com/gpu": 1}}}},
    "no operators": {"keda": {"enabled": False}, "flower": {"enabled": False}, "networkPolicy": {"enabled": False}},
    "requests a second": {"gateway": {"autoscaling": {"requestsPerSecond": 50}}},
    "canary by a Gateway": {
        "gateway": {"rollout": {"enabled": True, "trafficRouting": "gatewayApi"}},
        "gatewayApi": {"enabled": True, "parentRefs": [{"name": "edge", "namespace": "gateways"}]},
    },
    "certificate of the store": {
        "valkey": {"tls": {"enabled": True, "issuerRef": {"name": "vault", "kind": "ClusterIssuer"}}}
    },
    "restore": {"valkey": {"restore": {"enabled": True}, "tls": {"enabled": True}}},
    "external secrets": {
        "externalSecrets": {"enabled": True, "store": {"name": "vault"}, "encryptionRemote": "gleaner/encryption"},
        "secrets": {"encryptionSecret": "gleaner-encryption"},
    },
}
CASES = OPTIONS | {
    **{f"overlay {name}": chart.read_overlay(name) for name in chart.OVERLAYS},
    **{
        f"prod on {cloud}": chart.merge_values(chart.read_overlay("prod"), chart.read_overlay(cloud))
        for cloud in ("aws", "gcp", "azure", "onprem")
    },
}

every_case = pytest.mark.parametrize("case", CASES)


@functools.cache
def _render(case: str) -> list[chart.Manifest]:
    """Return a case's manifests, rendered once for all tests: only read them."""
    return chart.render_manifests(CASES[case])


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_manifest(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each overlay and option passes the strict schema of each Kubernetes version that is promised."""
    read_once = functools.cache(utils.schema_contents)  # or it parses all definitions again for every manifest
    monkeypatch.setattr(utils, "schema_contents", read_once)
    for document, label in _different().values():
        try:
            chart.validate_manifest(document, version)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{label}: {document['kind']} {document['metadata']['name']}: {error.message}")


@every_case
def test_operators_take_every_manifest(case: str) -> None:
    """The CRDs of KEDA, Argo, cert-manager and the other operators accept the manifests meant for them."""
    chart.require_schemas()
    for document in _render(case):
        if not chart.is_core(document):
            chart.validate_manifest(document, "1.34")


@every_case
def test_keda_knows_every_trigger_parameter(case: str) -> None:
    """A misspelt trigger parameter passes KEDA's CRD and is ignored: the scalers' own list refuses it."""
    for document in chart.select_kinds(_render(case), "ScaledObject"):
        for trigger in document["spec"]["triggers"]:
            assert set(trigger["metadata"]) <= chart.keda_parameters(trigger["type"])
            assert all(isinstance(value, str) for value in trigger["metadata"].values())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "pollingIntervall"), 5),
        (("spec", "triggers"), None),
        (("spec", "minReplicaCount"), "0"),
        (("spec", "minReplicaCount"), 99),
    ],
)
def test_the_validator_refuses_what_keda_refuses(path: tuple[str, str], value: Any) -> None:
    """An unknown field, a missing one, a wrong type, and KEDA's own CEL rule (min above max) are all found."""
    chart.require_schemas()
    [good, *_] = chart.select_kinds(chart.render_manifests(), "ScaledObject")
    broken = copy.deepcopy(good)
    if value is None:
        del broken[path[0]][path[1]]
    else:
        broken[path[0]][path[1]] = value
    chart.validate_manifest(good, "1.34")
    with pytest.raises(jsonschema.ValidationError):
        chart.validate_manifest(broken, "1.34")


@every_case
def test_helm_lints_clean(case: str) -> None:
    """`helm lint --strict` has no error."""
    linted = helm.lint(str(chart.CHART), CASES[case], strict=True)
    assert [message for message in linted["messages"] if message["severity"] >= 3] == []
    assert not linted["errors"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gatway": {}}, "gatway"),
        ({"gateway": {"replicas": "two"}}, "integer"),
        ({"settings": {"lease_seconds": 3}}, "lease_seconds"),
        ({"worker": {"settings": {"max_labels": 3}}}, "max_labels"),
        ({"models": {"gleaner-small": {"minReplicas": 1}}}, "minReplicas"),
        ({"courier": {"autoscaling": {"minReplicas": 0}}}, "minimum"),
        ({"defaultModel": "none"}, "add it there"),
        ({"valkey": {"enabled": False}}, "store.networks"),
        ({"models": {"gleaner-small": {"source": "urchade/gliner_medium-v2.1"}}}, "pin it"),
        ({"models": {"gleaner-small": {}, "a" * 40: {}}}, "too long"),
        ({"worker": {"gpu": {"sharedBy": 2}}}, "nvidia.com/gpu to 1"),
        ({"worker": {"gpu": {"sharedBy": 0}}}, "minimum"),
        ({"externalSecrets": {"enabled": True}}, "store.name"),
        ({"backup": {"enabled": True}}, "destination"),
        (_behind_sentinel(master=""), "store.sentinel.master"),
        (_behind_sentinel(addresses=["s-0"]), "host:port"),
        (_behind_sentinel(auth=True), "store.kedaSecret"),
        ({"gateway": {"https": "redirect"}, "ingress": {"enabled": True}}, "gateway.trustedProxies"),
        ({"gateway": {"https": "on"}}, "https"),
        ({"valkey": {"maxmemory": "a lot"}}, "1400mb or 8gb"),
        (chart.merge_values(_behind_sentinel(), {"store": {"address": "s:1"}}), "set one of them"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], words: str) -> None:
    """A misspelt key, a wrong type, and combinations that would not work end in a message that names them."""
    with pytest.raises(helm.HelmError, match=words):
        chart.render_templates(values)


@functools.cache
def _different() -> dict[str, tuple[dict[str, Any], str]]:
    """Kubernetes' own kinds among all cases' manifests, equal ones once, each with the case it is from."""
    return {
        json.dumps(document, sort_keys=True): (document, label)
        for label in CASES
        for document in _render(label)
        if chart.is_core(document)
    }
