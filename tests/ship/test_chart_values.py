"""What operators set beyond the defaults: every workload takes it in one way, and it arrives."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from tests.conftest import ROOT
from tests.support import chart

WORKLOADS = {
    "gateway": ("Deployment", "gleaner-gateway"),
    "worker": ("Deployment", "gleaner-worker-gleaner-small"),
    "courier": ("Deployment", "gleaner-courier"),
    "flower": ("Deployment", "gleaner-flower"),
    "valkey": ("StatefulSet", "gleaner-valkey"),
}
HATCHES: dict[str, Any] = {
    "podLabels": {"team": "ner"},
    "podAnnotations": {"reloader.stakater.com/auto": "true"},
    "podSecurityContext": {"runAsUser": 20002},
    "securityContext": {"privileged": False},
    "serviceAccountName": "ours",
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "nodeSelector": {"pool": "ner"},
    "tolerations": [{"key": "ner", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/ca/ca.crt"}],
    "extraEnvFrom": [{"secretRef": {"name": "proxy"}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "initContainers": [{"name": "wait", "image": "busybox"}],
    "sidecars": [{"name": "proxy", "image": "envoy"}],
    "probes": {"readiness": {"periodSeconds": 17}},
    "terminationGracePeriodSeconds": 300,
    "podSpec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["models"]}]},
}
"""A value of each key of `pods`."""


def _template(documents: list[chart.Manifest], component: str) -> dict[str, Any]:
    template: dict[str, Any] = chart.find_manifest(documents, *WORKLOADS[component])["spec"]["template"]
    return template


def _deployment(values: dict[str, Any], component: str = "gateway") -> dict[str, Any]:
    """Return the spec of a component's first pod template."""
    spec: dict[str, Any] = _template(chart.render_manifests(values), component)["spec"]
    return spec


def test_every_value_of_pods_is_tried_here() -> None:
    """A new key of `pods` gets its line in HATCHES."""
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    assert set(values["pods"]) - {"serviceAccountAnnotations"} == set(HATCHES)


@pytest.mark.parametrize("component", WORKLOADS)
@pytest.mark.parametrize("level", ["pods", "own"])
def test_each_workload_takes_each_value(component: str, level: str) -> None:
    """For all pods or for one component's: the value is in the pod, and what the chart needs is there, too."""
    plain = _template(chart.render_manifests(), component)
    template = _template(chart.render_manifests({"pods" if level == "pods" else component: HATCHES}), component)
    spec, [main, *beside] = template["spec"], template["spec"]["containers"]
    metadata = template["metadata"]
    assert metadata["labels"]["team"] == "ner"
    assert metadata["annotations"]["reloader.stakater.com/auto"] == "true"
    assert spec["securityContext"] == plain["spec"]["securityContext"] | {"runAsUser": 20002}
    assert main["securityContext"]["privileged"] is False
    assert main["securityContext"]["readOnlyRootFilesystem"] is True
    for field in ("priorityClassName", "runtimeClassName", "nodeSelector", "tolerations", "affinity"):
        assert spec[field] == HATCHES[field]
    assert spec["serviceAccountName"] == "ours"
    assert spec["topologySpreadConstraints"] == HATCHES["topologySpreadConstraints"]
    before = plain["spec"]["containers"][0]
    assert main["env"] == before["env"] + HATCHES["extraEnv"]
    assert main["envFrom"] == HATCHES["extraEnvFrom"]
    assert main["volumeMounts"] == before["volumeMounts"] + HATCHES["extraVolumeMounts"]
    assert spec["volumes"] == plain["spec"]["volumes"] + HATCHES["extraVolumes"]
    assert spec["initContainers"] == HATCHES["initContainers"]
    assert beside == HATCHES["sidecars"]
    assert main["readinessProbe"] == before["readinessProbe"] | {"periodSeconds": 17}
    assert main["livenessProbe"] == before["livenessProbe"]
    assert spec["terminationGracePeriodSeconds"] == 300
    assert spec["hostAliases"] == HATCHES["podSpec"]["hostAliases"]


def test_openshift_may_choose_the_user() -> None:
    """`null` leaves a field of the security context out, everywhere."""
    values = {"pods": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}}
    for label, spec in chart.pod_specs(chart.render_manifests(values)):
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(spec["securityContext"]), label
        assert spec["securityContext"]["runAsNonRoot"] is True, label


def test_an_account_that_is_named_is_not_created() -> None:
    """The chart's own accounts exist for the others only."""
    documents = chart.render_manifests({"worker": {"serviceAccountName": "ours"}})
    accounts = {account["metadata"]["name"] for account in chart.select_kinds(documents, "ServiceAccount")}
    assert "gleaner-worker" not in accounts
    assert "gleaner-gateway" in accounts


def test_lists_of_worker_and_model_add_up() -> None:
    """A model's false, zero and map entries win over the worker's; equal list entries appear once."""
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists"}
    spot = {"key": "spot", "operator": "Exists"}
    values = {
        "worker": {"tolerations": [gpu, spot], "nodeSelector": {"a": "1", "b": "1"}},
        "models": {
            "gleaner-small": {
                "tolerations": [gpu], "nodeSelector": {"b": "2"}, "autoscaling": {"enabled": False},
            }
        },
    }  # fmt: skip
    documents = chart.render_manifests(values)
    spec = _template(documents, "worker")["spec"]
    assert spec["tolerations"] == [gpu, spot]
    assert spec["nodeSelector"] == {"a": "1", "b": "2"}
    assert "gleaner-worker-gleaner-small" not in {
        scaled["metadata"]["name"] for scaled in chart.select_kinds(documents, "ScaledObject")
    }


def test_labels_and_objects_of_yours() -> None:
    """`commonLabels` are on every object and pod; `extraObjects` may contain templates."""
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-mine"}}
    documents = chart.render_manifests({"commonLabels": {"cost-centre": "7"}, "extraObjects": [extra]})
    assert chart.find_manifest(documents, "ConfigMap", "gleaner-mine")
    for document in documents:
        if document["metadata"]["name"] != "gleaner-mine":
            assert document["metadata"]["labels"]["cost-centre"] == "7"


# Updates, drains, settings


def test_a_drain_may_move_the_ledger_and_a_value_forbids_it() -> None:
    """With no eviction allowed AKS refuses upgrades, and no node with the ledger can be drained."""
    for values, allowed in (({}, 1), ({"valkey": {"pdb": {"maxUnavailable": 0}}}, 0)):
        budget = chart.find_manifest(chart.render_manifests(values), "PodDisruptionBudget", "gleaner-valkey")
        assert budget["spec"]["maxUnavailable"] == allowed
    off = chart.render_manifests(chart.read_overlay("dev") | {"valkey": {"pdb": {"enabled": False}}})
    assert chart.select_kinds(off, "PodDisruptionBudget") == [
        budget
        for budget in chart.select_kinds(off, "PodDisruptionBudget")
        if not budget["metadata"]["name"].endswith("valkey")
    ]


GPU: dict[str, Any] = {"resources": {"limits": {"memory": "8Gi", "nvidia.com/gpu": 1}}}


def test_a_gpu_model_is_updated_without_another_gpu() -> None:
    """At the peak there is none: the update takes one away first. CPU models add one first."""
    values = {"models": {"gleaner-small": {}, "gpu": GPU, "own": GPU | {"rollingUpdate": {"maxSurge": 2}}}}
    documents = chart.render_manifests(values)
    updates = {
        name: chart.find_manifest(documents, "Deployment", f"gleaner-worker-{name}")["spec"]["strategy"]
        for name in values["models"]
    }
    assert updates["gleaner-small"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert updates["gpu"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert updates["own"]["rollingUpdate"] == {"maxSurge": 2}


@pytest.mark.parametrize(
    ("surge", "quota", "refused"), [(0, 8, False), (1, 8, True), ("50%", 11, True), ("50%", 12, False)]
)
def test_a_quota_that_stops_updates_is_refused(surge: Any, quota: int, refused: bool) -> None:
    """All GPUs of maxReplicas and of the update's extra pods must fit."""
    model = GPU | {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1}}
    values = {"models": {"gleaner-small": model}, "quota": {"hard": {"requests.nvidia.com/gpu": str(quota)}}}
    if refused:
        with pytest.raises(helm.HelmError, match="an update would never end"):
            chart.render_manifests(values)
    else:
        assert chart.render_manifests(values)


@pytest.mark.parametrize(
    ("device", "shared_by"), [("mig-1g.10gb", 1), ("mig-1g.10gb.shared", 2), ("gpu.shared", 2)]
)
def test_a_quota_counts_the_devices_that_are_asked_for(device: str, shared_by: int) -> None:
    """MIG slices and parts of a shared GPU are updated and counted as whole ones; other quotas do not matter."""
    name = f"nvidia.com/{device.removesuffix('.shared')}"
    model = {"resources": {"limits": {"memory": "8Gi", name: 1}}, "gpu": {"sharedBy": shared_by}}
    hard = {f"requests.nvidia.com/{device}": "8"}
    values: dict[str, Any] = {"models": {"gleaner-small": model}, "quota": {"hard": hard}}
    worker = chart.find_manifest(chart.render_manifests(values), "Deployment", "gleaner-worker-gleaner-small")
    assert worker["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    values["quota"]["hard"] = {f"requests.nvidia.com/{device}": "7", "requests.nvidia.com/other": "1"}
    with pytest.raises(helm.HelmError, match=f"7 of nvidia.com/{device}.*may need 8"):
        chart.render_manifests(values)


@pytest.mark.parametrize(
    "values",
    [
        {"valkey": {"appendfsync": "always"}},
        {"valkey": {"maxmemory": "1700mb"}},
        {"valkey": {"extraConfig": "timeout 0"}},
    ],
)
def test_settings_of_the_store_reach_it_with_an_upgrade(values: dict[str, Any]) -> None:
    """Another configuration is another pod template; without a change the template stays the same."""
    before, again = (_template(chart.render_manifests(), "valkey") for _ in range(2))
    assert before == again
    after = _template(chart.render_manifests(values), "valkey")
    assert (
        after["metadata"]["annotations"]["checksum/config"] != before["metadata"]["annotations"]["checksum/config"]
    )


def test_the_volume_grows_by_a_script() -> None:
    """Its commands name the claim and the StatefulSet that the chart renders; a size that is none is refused."""
    stateful = chart.find_manifest(chart.render_manifests(), "StatefulSet", "gleaner-valkey")
    [claim] = stateful["spec"]["volumeClaimTemplates"]
    name = stateful["metadata"]["name"]
    script = str(ROOT / "deploy" / "valkey" / "grow-volume.sh")
    command = ["bash", script, "ner", "gleaner", name]
    environment = os.environ | {"DRY_RUN": "1"}
    run = subprocess.run([*command, "64Gi", "-f", "v.yaml"], env=environment, capture_output=True, text=True)
    rehearsal, patch, _, delete, upgrade = run.stdout.splitlines()
    assert rehearsal.startswith(upgrade.partition(" --wait")[0])
    assert "--dry-run=server" in rehearsal
    assert f"patch pvc {claim['metadata']['name']}-{name}-0 " in patch
    assert delete.endswith(f"delete statefulset {name} --cascade=orphan")
    assert "-f v.yaml --set valkey.storage.size=64Gi" in upgrade
    assert subprocess.run([*command, "64"], env=environment, capture_output=True).returncode == 2


def test_a_set_that_cannot_be_created_again_is_not_deleted(tmp_path: Path) -> None:
    """If helm refuses the upgrade, kubectl is not called."""
    for program, status in (("helm", 1), ("kubectl", 0)):
        (tmp_path / program).write_text(f'#!/bin/sh\necho "{program} $*" >> {tmp_path}/calls\nexit {status}\n')
        (tmp_path / program).chmod(0o755)
    script = str(ROOT / "deploy" / "valkey" / "grow-volume.sh")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = subprocess.run(["bash", script, "ner", "gleaner", "gleaner-valkey", "64Gi"], env=environment, check=False)
    assert run.returncode == 1
    assert "kubectl" not in (tmp_path / "calls").read_text()


def test_pods_know_the_passwords_they_started_with() -> None:
    """Their checksum is in the template, so that an upgrade after a rotation replaces exactly those pods."""
    documents = chart.render_manifests(apis=(chart.CLUSTER,))
    sums = [
        _template(documents, component)["metadata"]["annotations"].get("checksum/secrets")
        for component in WORKLOADS
    ]
    assert sums[-1] is None  # Valkey reads them again by itself
    assert len(set(sums)) == len(sums)
    assert "checksum/secrets" not in _template(chart.render_manifests(), "gateway")["metadata"]["annotations"]


def test_threads_follow_the_request() -> None:
    """A worker without a CPU limit computes on the cores that its pod asks for; the setting wins."""
    env = chart.read_environment(_deployment({}, "worker"))
    assert env["GLEANER_CPUS"]["resourceFieldRef"]["resource"] == "requests.cpu"
    for values in ({"worker": {"settings": {"cpus": 3}}}, {"settings": {"cpus": 3}}):
        assert chart.read_environment(_deployment(values, "worker"))["GLEANER_CPUS"] == "3"


def test_a_start_does_not_wait_for_the_ledger() -> None:
    """A ledger that is away restarts no gateway and no courier; a worker has started when its model is loaded."""
    for component, path in (("gateway", "/livez"), ("courier", "/livez"), ("worker", "/readyz")):
        container = _deployment({}, component)["containers"][0]
        assert container["startupProbe"]["httpGet"]["path"] == path
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize(
    ("values", "seconds"), [({}, 5), (chart.read_overlay("aws"), 15), (chart.read_overlay("gcp"), 15)]
)
def test_a_gateway_leaves_as_slowly_as_its_balancer_learns_it(values: dict[str, Any], seconds: int) -> None:
    """The pause before SIGTERM, and the grace that contains it."""
    spec = _deployment(values)
    assert spec["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": seconds}}
    assert spec["terminationGracePeriodSeconds"] == 60 + 20 + seconds


# Ways in


def test_an_ingress_of_any_kind() -> None:
    """Several hosts, TLS off or by the controller, and nginx' annotations only for nginx."""
    values = {"ingress": {"enabled": True, "className": "alb", "extraHosts": ["b.example.com"], "tlsSecret": ""}}
    ingress = chart.find_manifest(chart.render_manifests(values), "Ingress", "gleaner-gateway")
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["gleaner.example.com", "b.example.com"]
    assert ingress["spec"]["tls"] == [{"hosts": ["gleaner.example.com", "b.example.com"]}]
    assert "annotations" not in ingress["metadata"]
    nginx = {"ingress": {"enabled": True, "className": "nginx", "tls": False, "readTimeout": 600}}
    ingress = chart.find_manifest(chart.render_manifests(nginx), "Ingress", "gleaner-gateway")
    assert "tls" not in ingress["spec"]
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "600"
    assert "nginx.ingress.kubernetes.io/limit-rps" not in annotations


@pytest.mark.parametrize(
    ("timeout", "rendered"), [(None, {"request": "0s"}), ("300s", {"request": "300s"}), ("", None)]
)
def test_a_gateway_cuts_no_stream(timeout: str | None, rendered: dict[str, str] | None) -> None:
    """No limit for a whole request by default; another one, or none for Gateways that do not know the field."""
    route = {"enabled": True, "parentRefs": [{"name": "edge"}]}
    values = {"gatewayApi": route if timeout is None else route | {"requestTimeout": timeout}}
    [rule] = chart.find_manifest(chart.render_manifests(values), "HTTPRoute", "gleaner-gateway")["spec"]["rules"]
    assert rule.get("timeouts") == rendered


def test_a_service_may_be_a_load_balancer_with_limits() -> None:
    """Any field of the Service's spec."""
    values = {"service": {"type": "LoadBalancer", "spec": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}}
    service = chart.find_manifest(chart.render_manifests(values), "Service", "gleaner-gateway")
    assert service["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]


@pytest.mark.parametrize("monitored", [True, False])
def test_flower_lets_in_who_scrapes_it(monitored: bool) -> None:
    """A ServiceMonitor without a rule in the policy would always be down."""
    documents = chart.render_manifests({"monitoring": {"serviceMonitors": monitored}})
    policy = chart.find_manifest(documents, "NetworkPolicy", "gleaner-flower")
    assert ("ingress" in policy["spec"]) is monitored


# Canary


def _rollout(**values: Any) -> list[chart.Manifest]:
    rollout = {"enabled": True, "prometheusAddress": "http://prometheus:9090"} | values
    route = {"enabled": True, "parentRefs": [{"name": "edge"}]}
    return chart.render_manifests(
        {"gateway": {"rollout": rollout}, "gatewayApi": route}, (*chart.OPERATORS, chart.CLUSTER)
    )


def test_a_rollout_takes_over_a_running_deployment() -> None:
    """The Deployment and its pods stay until the Rollout's are ready; a new one starts without pods."""
    documents = _rollout()
    rollout = chart.find_manifest(documents, "Rollout", "gleaner-gateway")["spec"]
    assert rollout["workloadRef"] == {
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "gleaner-gateway", "scaleDown": "onsuccess",
    }  # fmt: skip
    assert not {"template", "selector"} & set(rollout)
    assert chart.find_manifest(documents, "Deployment", "gleaner-gateway")["spec"]["replicas"] == 0
    scaler = chart.find_manifest(documents, "HorizontalPodAutoscaler", "gleaner-gateway")
    assert scaler["spec"]["scaleTargetRef"]["kind"] == "Rollout"


def test_a_canary_is_judged_by_its_own_pods() -> None:
    """By a label that Argo gives them and that their metrics have; without requests there is no success."""
    documents = _rollout()
    canary = chart.find_manifest(documents, "Rollout", "gleaner-gateway")["spec"]["strategy"]["canary"]
    assert canary["canaryMetadata"] == {"labels": {"gleaner.io/role": "canary"}}
    monitor = chart.find_manifest(documents, "PodMonitor", "gleaner")
    assert "gleaner.io/role" in monitor["spec"]["podTargetLabels"]
    [metric] = chart.find_manifest(documents, "AnalysisTemplate", "gleaner-gateway")["spec"]["metrics"]
    assert metric["provider"]["prometheus"]["query"].count('gleaner_io_role="canary"') == 2
    assert metric["successCondition"].startswith("len(result) > 0")


def test_a_share_of_requests_needs_a_route() -> None:
    """The HTTPRoute has both Services for Argo's plugin; without a route the value is refused."""
    documents = _rollout(trafficRouting="gatewayApi")
    canary = chart.find_manifest(documents, "Rollout", "gleaner-gateway")["spec"]["strategy"]["canary"]
    assert canary["trafficRouting"]["plugins"]["argoproj-labs/gatewayAPI"]["httpRoute"] == "gleaner-gateway"
    [rule] = chart.find_manifest(documents, "HTTPRoute", "gleaner-gateway")["spec"]["rules"]
    services = {service["metadata"]["name"] for service in chart.select_kinds(documents, "Service")}
    assert {backend["name"] for backend in rule["backendRefs"]} == {
        canary["stableService"],
        canary["canaryService"],
    }
    assert {canary["stableService"], canary["canaryService"]} <= services
    with pytest.raises(helm.HelmError, match=r"set ingress\.enabled"):
        _rollout(trafficRouting="ingress")


# KEDA


def test_scaling_takes_other_triggers_and_fields() -> None:
    """A cron trigger, a formula, another fallback or none, and any other field of the spec."""
    cron = {
        "type": "cron",
        "name": "morning",
        "metadata": {"timezone": "UTC", "start": "0 7 * * *", "end": "0 8 * * *"},
    }
    formula = {"formula": "max([open_shards, morning])", "target": "32", "metricType": "AverageValue"}
    auto = {
        "extraTriggers": [cron], "scalingModifiers": formula, "fallback": None,
        "scaledObject": {"initialCooldownPeriod": 60},
    }  # fmt: skip
    documents = chart.render_manifests({"worker": {"autoscaling": auto}})
    spec = chart.find_manifest(documents, "ScaledObject", "gleaner-worker-gleaner-small")["spec"]
    assert [trigger["name"] for trigger in spec["triggers"]] == ["open_shards", "morning"]
    assert spec["advanced"]["scalingModifiers"] == formula
    assert spec["initialCooldownPeriod"] == 60
    assert "fallback" not in spec
    chart.require_schemas()
    for scaled in chart.select_kinds(documents, "ScaledObject"):
        chart.validate_manifest(scaled, "1.34")
