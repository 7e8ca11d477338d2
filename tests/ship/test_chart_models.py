from __future__ import annotations

from typing import Any

import helm_python as helm
import pytest

from jobs import naming
from jobs.redis.sentinels import Sentinels
from jobs.routing import Models
from tests.ship.test_chart import ALL_ON, everything
from tests.support import chart

__all__ = ["everything"]  # fixtures


def test_each_model_has_its_own_worker(everything: list[chart.Manifest]) -> None:
    """Deployment, ScaledObject and PDB by the model's slug, the same that the code makes, and its key for KEDA."""
    for model in ALL_ON["models"]:
        slug = naming.model_slug(model)
        spec = chart.find_manifest(everything, "Deployment", f"gleaner-worker-{slug}")["spec"]["template"]["spec"]
        assert chart.read_environment(spec)["GLEANER_MODEL"] == model
        scaled = chart.find_manifest(everything, "ScaledObject", f"gleaner-worker-{slug}")
        assert scaled["spec"]["triggers"][0]["metadata"]["listName"] == f"{{gleaner}}:open:{slug}"
        assert chart.find_manifest(everything, "PodDisruptionBudget", f"gleaner-worker-{slug}")
    gateway = chart.find_manifest(everything, "Deployment", "gleaner-gateway")["spec"]["template"]["spec"]
    assert chart.read_environment(gateway)["GLEANER_MODELS"].split(",")[0] == ALL_ON["defaultModel"]
    assert set(chart.read_environment(gateway)["GLEANER_MODELS"].split(",")) == set(ALL_ON["models"])


def test_a_split_changes_who_gets_jobs_and_nothing_else() -> None:
    """A value moves weights: all processes read the same, each model keeps its worker and scaling."""
    values: dict[str, Any] = {"models": {"gleaner-small": {}, "next": {}, "other": {}}}
    split = {"modelSplits": {"gleaner-small": {"gleaner-small": 90, "next": 10}, "ab": {"next": 1, "other": 1}}}
    plain, canary = chart.render_manifests(values), chart.render_manifests(values | split)
    for name in ("gateway", "courier", "flower", "worker-next"):
        spec = chart.find_manifest(canary, "Deployment", f"gleaner-{name}")["spec"]["template"]["spec"]
        models = Models.parse(chart.read_environment(spec)["GLEANER_MODELS"])
        assert models.names == ("gleaner-small", "ab", "next", "other")
        assert set(models.served) == set(values["models"])
        assert models.splits == split["modelSplits"]
    assert chart.select_kinds(plain, "ScaledObject") == chart.select_kinds(canary, "ScaledObject")
    assert len(chart.select_kinds(canary, "ScaledObject")) == 3 + 1
    by_default = chart.render_manifests(values | split | {"defaultModel": "ab"})
    gateway = chart.find_manifest(by_default, "Deployment", "gleaner-gateway")["spec"]["template"]["spec"]
    assert Models.parse(chart.read_environment(gateway)["GLEANER_MODELS"]).names[0] == "ab"


@pytest.mark.parametrize(
    ("split", "complaint"),
    [
        ({"ab": {"none": 1}}, "not one of models"),
        ({"ab": {"gleaner-small": 0}}, "weight above 0"),
        ({"gleaner-small": {"next": 1}}, "leaves out the model of the same name"),
        ({"ab": {"next": 0.5}}, "integer"),
        ({"a|b": {"next": 1}}, "pattern"),
        ({"ab": {}}, "minProperties"),
    ],
)
def test_a_split_that_cannot_be_meant_is_refused(split: dict[str, dict[str, float]], complaint: str) -> None:
    """Before anything is installed, in a sentence."""
    with pytest.raises(Exception, match=complaint):
        chart.render_manifests({"models": {"gleaner-small": {}, "next": {}}, "modelSplits": split})


def test_workers_that_share_a_gpu_ask_for_a_part_of_it() -> None:
    """By the device plugin's name for parts, and each keeps to its part of the memory; others are as before."""
    gpu = {"resources": {"limits": {"memory": "8Gi", "nvidia.com/gpu": 1}}}
    slices = {"resources": {"limits": {"memory": "8Gi", "nvidia.com/mig-1g.10gb": 1}}, "gpu": {"sharedBy": 2}}
    named = gpu | {"gpu": {"sharedBy": 3, "sharedResource": "acme.com/third"}}
    values: dict[str, Any] = {
        "models": {"gleaner-small": gpu, "shared": gpu | {"gpu": {"sharedBy": 3}}, "slices": slices, "named": named}
    }
    documents = chart.render_manifests(values)
    limits = {}
    for model in values["models"]:
        spec = chart.find_manifest(documents, "Deployment", f"gleaner-worker-{model}")["spec"]["template"]["spec"]
        parts = chart.read_environment(spec).get("GLEANER_GPU_SHARED_BY")
        limits[model] = (spec["containers"][0]["resources"]["limits"], parts)
    assert limits["gleaner-small"] == (gpu["resources"]["limits"], None)
    assert limits["shared"] == ({"memory": "8Gi", "nvidia.com/gpu.shared": 1}, "3")
    assert limits["slices"] == ({"memory": "8Gi", "nvidia.com/mig-1g.10gb.shared": 1}, "2")
    assert limits["named"] == ({"memory": "8Gi", "acme.com/third": 1}, "3")


def test_no_password_is_in_a_manifest(everything: list[chart.Manifest]) -> None:
    """Secrets come by reference; URLs hold the name of a variable where the password goes."""
    assert chart.select_kinds(everything, "Secret") == []
    gateway = chart.find_manifest(everything, "Deployment", "gleaner-gateway")["spec"]["template"]["spec"]
    env = chart.read_environment(gateway)
    assert env["GLEANER_REDIS_URL"].startswith("rediss://gateway:$(VALKEY_PASSWORD)@")
    assert set(env["VALKEY_PASSWORD"]) == {"secretKeyRef"}
    order = [entry["name"] for entry in gateway["containers"][0]["env"]]
    assert order.index("VALKEY_PASSWORD") < order.index("GLEANER_REDIS_URL")  # or it would not be filled in


def test_a_store_behind_sentinel_is_looked_at_through_it() -> None:
    """KEDA's other scaler, the same keys; NetworkPolicies let Sentinels' ports through, too."""
    sentinel = {"addresses": ["s-0.data:26379", "s-1.data:26379"], "master": "gleaner", "auth": True}
    store = {"sentinel": sentinel, "networks": ["10.1.0.0/16"], "tls": True, "kedaSecret": "store-keda"}
    documents = chart.render_manifests({"valkey": {"enabled": False}, "store": store})
    worker = chart.find_manifest(documents, "ScaledObject", "gleaner-worker-gleaner-small")["spec"]["triggers"][0]
    assert (worker["type"], worker["authenticationRef"]) == ("redis-sentinel", {"name": "gleaner-store"})
    assert worker["metadata"] == {
        "addresses": "s-0.data:26379,s-1.data:26379",
        "sentinelMaster": "gleaner",
        "enableTLS": "true",
        "databaseIndex": "1",
        "listName": "{gleaner}:open:gleaner-small",
        "listLength": "32",
        "activationListLength": "0",
    }
    courier = chart.find_manifest(documents, "ScaledObject", "gleaner-courier")["spec"]["triggers"][0]
    assert (courier["type"], courier["metadata"]["databaseIndex"]) == ("redis-sentinel", "0")
    [auth] = chart.select_kinds(documents, "TriggerAuthentication")
    assert [entry["parameter"] for entry in auth["spec"]["secretTargetRef"]] == [
        "username",
        "password",
        "sentinelPassword",
    ]
    for process in ("gateway", "worker", "courier", "flower"):
        egress = chart.find_manifest(documents, "NetworkPolicy", f"gleaner-{process}")["spec"]["egress"][0]
        assert [port["port"] for port in egress["ports"]] == [6379, 26379]


def test_the_charts_own_replicas_are_reached_through_its_sentinels() -> None:
    """Processes and KEDA ask all three, each as its own user at Sentinels and servers."""
    documents = chart.render_manifests({"valkey": {"replicas": 1, "tls": {"enabled": True}}})
    gateway = chart.find_manifest(documents, "Deployment", "gleaner-gateway")["spec"]["template"]["spec"]
    url = chart.read_environment(gateway)["GLEANER_REDIS_URL"].replace("$(VALKEY_PASSWORD)", "secret")
    sentinels = Sentinels.parse(url)
    assert sentinels
    names = [f"gleaner-sentinel-{index}.gleaner.svc" for index in range(3)]
    assert (sentinels.addresses, sentinels.master) == (tuple((name, 26379) for name in names), "gleaner")
    # pragma: allowlist nextline secret
    assert sentinels.redis_options == {"username": "gateway", "password": "secret", "db": 1}
    # pragma: allowlist nextline secret
    assert sentinels.sentinel_options == {"username": "gateway", "password": "secret"}
    assert url.startswith("rediss+sentinel://")

    trigger = chart.find_manifest(documents, "ScaledObject", "gleaner-courier")["spec"]["triggers"][0]
    assert trigger["type"] == "redis-sentinel"
    assert trigger["metadata"].keys() - {"listLength", "listName", "databaseIndex"} == {
        *("addresses", "sentinelMaster", "sentinelUsername", "username", "enableTLS")
    }
    [auth] = chart.select_kinds(documents, "TriggerAuthentication")
    parameters = [entry["parameter"] for entry in auth["spec"]["secretTargetRef"]]
    assert parameters == ["password", "sentinelPassword", "ca"]


def test_each_server_and_sentinel_has_a_name_that_its_certificate_has() -> None:
    """A Service each, also before it is ready: Sentinels look for a server that is gone by its name."""
    values = {"valkey": {"replicas": 2, "tls": {"enabled": True, "issuerRef": {"name": "ca", "kind": "Issuer"}}}}
    documents = chart.render_manifests(values)
    nodes = [
        service
        for service in chart.select_kinds(documents, "Service")
        if "publishNotReadyAddresses" in service["spec"]
    ]
    assert len(nodes) == 3 + 3
    [certificate] = chart.select_kinds(documents, "Certificate")
    assert {f"{service['metadata']['name']}.gleaner.svc" for service in nodes} <= set(
        certificate["spec"]["dnsNames"]
    )


def test_servers_share_no_node_where_it_is_forbidden() -> None:
    """`sameNode: never` for servers and Sentinels alike; a preference otherwise."""
    for choice in ("avoid", "never"):
        documents = chart.render_manifests({"valkey": {"replicas": 1, "sameNode": choice}})
        for name in ("gleaner-valkey", "gleaner-sentinel"):
            spec = chart.find_manifest(documents, "StatefulSet", name)["spec"]["template"]["spec"]
            assert ("affinity" in spec) == (choice == "never")
            assert spec["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"


def test_more_replicas_cannot_be_required_than_there_are() -> None:
    """No write would ever be accepted."""
    with pytest.raises(helm.HelmError, match="minReplicasToWrite"):
        chart.render_manifests({"valkey": {"replicas": 1, "minReplicasToWrite": 2}})


def test_a_snapshot_is_restored_into_one_server() -> None:
    """Its claim can be mounted on one node only; the others copy that server afterwards."""
    documents = chart.render_manifests({"valkey": {"replicas": 2, "restore": {"enabled": True}}})
    assert chart.find_manifest(documents, "StatefulSet", "gleaner-valkey")["spec"]["replicas"] == 1
    assert chart.find_manifest(documents, "StatefulSet", "gleaner-sentinel")["spec"]["replicas"] == 3


def test_only_the_server_gets_its_private_key(everything: list[chart.Manifest]) -> None:
    """Clients mount the authority's certificate alone."""
    for label, spec in chart.pod_specs(everything):
        for volume in spec.get("volumes", ()):
            if volume.get("secret", {}).get("secretName") == "gleaner-valkey-tls" and "valkey" not in label:
                assert [item["key"] for item in volume["secret"]["items"]] == ["ca.crt"], label
