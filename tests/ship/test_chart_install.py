"""The chart on the first day: an empty cluster, one with every operator, and each place that a page describes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from tests.support import chart

EMPTY = (chart.CLUSTER,)
FULL = (*chart.OPERATORS, chart.CLUSTER)
PLACES = ("aws", "gcp", "azure", "onprem")


def on(*names: str) -> dict[str, Any]:
    """Return the values of these overlays together."""
    return chart.merge_values(*(chart.read_overlay(name) for name in names))


def decoded(secret: chart.Manifest) -> dict[str, str]:
    """Return what the Secret contains."""
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def test_an_empty_cluster_needs_nothing_else() -> None:
    """No custom resource, no named class, and each Secret, ConfigMap and account that a pod names is made."""
    documents = chart.render_manifests(apis=EMPTY)
    assert [document for document in documents if not chart.is_core(document)] == []
    created = {(document["kind"], document["metadata"]["name"]) for document in documents}
    for label, spec in chart.pod_specs(documents):
        assert "priorityClassName" not in spec, label
        assert ("ServiceAccount", spec["serviceAccountName"]) in created, label
        for kind, name in _references(spec):
            assert (kind, name) in created, label
    stateful = chart.find_manifest(documents, "StatefulSet", "gleaner-valkey")
    assert "storageClassName" not in stateful["spec"]["volumeClaimTemplates"][0]["spec"]


def _references(value: Any) -> set[tuple[str, str]]:
    """Return kind and name of every Secret and ConfigMap that a pod's spec names."""
    references = set()
    if isinstance(value, list):
        for item in value:
            references |= _references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("secretKeyRef", "secretRef", "secret"):
                references.add(("Secret", item.get("name") or item.get("secretName")))
            elif key in ("configMapKeyRef", "configMapRef", "configMap"):
                references.add(("ConfigMap", item["name"]))
            else:
                references |= _references(item)
    return references


def test_generated_secrets_are_hooks_that_stay() -> None:
    """No upgrade, rollback or uninstall changes them: hooks are no part of the release, and never deleted."""
    secrets = chart.select_kinds(chart.render_manifests({"secrets": {"encryptionSecret": "e"}}, EMPTY), "Secret")
    assert {secret["metadata"]["name"] for secret in secrets} == {
        "gleaner-keys", "gleaner-test-key", "gleaner-valkey", "gleaner-flower", "e",
    }  # fmt: skip
    for secret in secrets:
        annotations = secret["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert annotations["helm.sh/resource-policy"] == "keep"
        assert "helm.sh/hook-delete-policy" not in annotations


def test_generated_values_are_what_the_processes_take() -> None:
    """The keys file has the test's key, the encryption key 32 bytes, each user of the store its own password."""
    values = {"secrets": {"encryptionSecret": "e", "redactSecret": "r"}}
    secrets = {
        secret["metadata"]["name"]: decoded(secret)
        for secret in chart.select_kinds(chart.render_manifests(values, EMPTY), "Secret")
    }
    key = secrets["gleaner-test-key"]["api-key"]
    [record] = json.loads(secrets["gleaner-keys"]["keys.json"])["keys"]
    assert record["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert (record["role"], len(key)) == ("submitter", 46)
    assert len(base64.b64decode(secrets["e"]["encryption-keys"])) == 32
    assert len(secrets["r"]["redact-key"]) >= 32
    passwords = secrets["gleaner-valkey"]
    users = ("gateway", "worker", "courier", "flower", "keda", "backup", "replication", "sentinel")
    assert set(passwords) == {f"{user}-password" for user in users}
    assert len(set(passwords.values())) == len(passwords)


def test_without_a_cluster_nothing_random_is_rendered() -> None:
    """`helm template` gives the same manifests each time, without Secrets and replicas of what KEDA scales."""
    for values, apis in (({}, chart.OPERATORS), ({"gitops": True}, FULL)):
        first, second = (chart.render_templates(values, apis) for _ in range(2))
        assert first == second
        documents = chart.render_manifests(values, apis)
        assert chart.select_kinds(documents, "Secret") == []
        worker = chart.find_manifest(documents, "Deployment", "gleaner-worker-gleaner-small")
        assert "replicas" not in worker["spec"]


@pytest.mark.parametrize(
    ("values", "apis", "replicas"),
    [
        ({}, FULL, {"worker-gleaner-small": 0, "courier": 1}),
        ({}, EMPTY, {"worker-gleaner-small": 1, "courier": 1}),
        ({"keda": {"enabled": False}}, FULL, {"worker-gleaner-small": 1, "courier": 1}),
        ({"worker": {"autoscaling": {"enabled": False}, "replicas": 3}}, FULL, {"worker-gleaner-small": 3}),
    ],
)
def test_workers_start_with_none_only_where_keda_starts_them(
    values: dict[str, Any], apis: tuple[str, ...], replicas: dict[str, int]
) -> None:
    """An installation with KEDA asks for no GPU node; one without has workers."""
    documents = chart.render_manifests(values, apis)
    for name, count in replicas.items():
        assert chart.find_manifest(documents, "Deployment", f"gleaner-{name}")["spec"]["replicas"] == count


def test_operators_are_used_where_they_are_and_forced_by_a_value() -> None:
    """`auto` asks the cluster, `true` does not, `false` never uses it."""
    kinds = {"ScaledObject", "PodMonitor", "PrometheusRule"}
    forced = {"keda": {"enabled": True}, "monitoring": {"serviceMonitors": True, "rules": True}}
    off = {"keda": {"enabled": False}, "monitoring": {"serviceMonitors": False, "rules": False}}
    for values, apis, expected in (
        ({}, chart.OPERATORS, kinds),
        (forced, (), kinds),
        (off, chart.OPERATORS, set()),
    ):
        rendered = {document["kind"] for document in chart.render_manifests(values, apis)}
        assert rendered & kinds == expected


def test_pods_are_scraped_once() -> None:
    """Annotations where there is no PodMonitor, and a PodMonitor instead where there is the operator."""
    for apis, annotated in ((chart.OPERATORS, False), ((), True)):
        gateway = chart.find_manifest(chart.render_manifests(apis=apis), "Deployment", "gleaner-gateway")
        annotations = gateway["spec"]["template"]["metadata"]["annotations"]
        assert ("prometheus.io/scrape" in annotations) is annotated


def test_notes_are_true_in_each_case() -> None:
    """The notes say who scales, how without KEDA, where the API key is, and which Secrets were created."""
    bare = chart.render_notes(apis=EMPTY)
    assert "1 worker always, because KEDA is not used" in bare
    assert "scale deployment/gleaner-worker-gleaner-small --replicas=N" in bare
    assert "Created with random values" in bare
    assert "{.data.api-key}" in bare
    assert "kind load docker-image" in bare
    scaled = chart.render_notes(apis=FULL)
    assert "no worker without jobs, at most 8; the first job starts one" in scaled
    assert "always" not in scaled
    assert "Created with" not in chart.render_notes()
    traced = chart.render_notes({"settings": {"trace_endpoint": "http://otel:4318"}})
    assert "no NetworkPolicy lets traces out" in traced
    assert "kubectl -n gleaner rollout status deployment/gleaner-gateway\n" in scaled
    external = {"enabled": True, "store": {"name": "vault"}}
    for previous in (False, True):
        notes = chart.render_notes({"externalSecrets": external | {"valkeyPrevious": previous}})
        assert ("locks out pods that reconnect with the old one" in notes) is not previous
    prod = chart.render_notes(on("prod"))
    assert "gleaner-worker:0.1.0-cuda\n" in prod
    assert "https://gleaner.example.com " in prod
    assert "port-forward" not in prod  # plain HTTP is redirected there
    assert "port-forward" in bare
    canary = chart.render_notes({"gateway": {"rollout": {"enabled": True}}})
    assert "kubectl argo rollouts -n gleaner status gleaner-gateway\n" in canary  # kubectl itself knows no Rollout
    assert "rollout status" not in canary


def test_the_published_chart_has_the_overlays(tmp_path: Path) -> None:
    """The archive of `helm package` contains every overlay that the README names, and no script's copy."""
    helm.package(str(chart.CHART), destination=str(tmp_path))
    [archive] = tmp_path.glob("gleaner-*.tgz")
    with tarfile.open(archive) as packed:
        names = set(packed.getnames())
    assert {f"gleaner/values-{name}.yaml" for name in chart.OVERLAYS} <= names
    assert "gleaner/README.lead.md" not in names


@pytest.mark.parametrize("values", [{}, *map(chart.read_overlay, ("dev", "staging", "prod"))])
def test_helm_test_outlasts_a_start_from_zero(values: dict[str, Any]) -> None:
    """Its deadline is five minutes after that of the alert GleanerNoWorker; release.sh waits longer."""
    values = chart.merge_values(values, {"models": {"slow": {"startupSeconds": 1500, "revision": "abc"}}})
    pod = chart.find_manifest(chart.render_manifests(values), "Pod", "gleaner-test")
    deadline = pod["spec"]["activeDeadlineSeconds"]
    assert deadline == 1500 + 600 + 300
    [minutes] = re.findall(r"helm test .* --timeout (\d+)m", (chart.ROOT / "deploy" / "release.sh").read_text())
    assert deadline < int(minutes) * 60


def test_the_canary_is_judged_by_requests_of_clients() -> None:
    """Probes count neither as requests nor as successes, and every operator adds the label of the role."""
    values = {"gateway": {"rollout": {"enabled": True, "prometheusAddress": "http://p:9090"}}}
    [template] = chart.select_kinds(chart.render_manifests(values), "AnalysisTemplate")
    [metric] = template["spec"]["metrics"]
    selectors = re.findall(r"gleaner_http_requests_total\{(.*?)\}", metric["provider"]["prometheus"]["query"])
    assert len(selectors) == 4
    assert all('route!~"/livez|/readyz"' in selector for selector in selectors)
    google = chart.render_manifests(
        {"monitoring": {"operator": "google"}}, apis=(*chart.OPERATORS, "monitoring.googleapis.com/v1")
    )
    [monitoring] = chart.select_kinds(google, "PodMonitoring")
    assert {"from": "gleaner.io/role", "to": "gleaner_io_role"} in monitoring["spec"]["targetLabels"]["fromPod"]


def test_vertical_autoscalers_recommend_and_change_nothing() -> None:
    """Each scaled workload has one where the operator is installed and the value allows it."""
    vpa = "autoscaling.k8s.io/v1"
    everywhere = (*chart.OPERATORS, vpa)
    assert chart.select_kinds(chart.render_manifests(apis=everywhere), "VerticalPodAutoscaler") == []
    auto = {"vpa": {"enabled": "auto"}}
    assert chart.select_kinds(chart.render_manifests(auto), "VerticalPodAutoscaler") == []
    documents = chart.render_manifests(auto, everywhere)
    autoscalers = chart.select_kinds(documents, "VerticalPodAutoscaler")
    assert {document["spec"]["updatePolicy"]["updateMode"] for document in autoscalers} == {"Off"}
    targets = [document["spec"]["targetRef"] for document in autoscalers]
    assert {target["name"] for target in targets} == {
        "gleaner-gateway", "gleaner-courier", "gleaner-worker-gleaner-small",
    }  # fmt: skip
    assert all(chart.find_manifest(documents, target["kind"], target["name"]) for target in targets)
    rollout = chart.render_manifests({**auto, "gateway": {"rollout": {"enabled": True}}}, everywhere)
    gateway = chart.find_manifest(rollout, "VerticalPodAutoscaler", "gleaner-gateway")
    assert gateway["spec"]["targetRef"]["kind"] == "Rollout"


# A place


@pytest.mark.parametrize("site", PLACES)
def test_production_in_a_place_is_complete(site: str) -> None:
    """Each Secret is generated, External Secrets' or one that the check names; no kind that the place lacks."""
    lacking = {"onprem": ()}.get(site, ("monitoring.coreos.com/v1", "argoproj.io/v1alpha1"))
    apis = tuple(api for api in FULL if api not in lacking)
    values = on("prod", site)
    if site == "onprem":
        with pytest.raises(helm.HelmError, match="lacks: Secret gleaner-backup with rclone's variables"):
            chart.render_manifests(values, apis)
        values["backup"] = {"enabled": False}
    documents = chart.render_manifests(values, apis)
    groups = {document["apiVersion"] for document in documents if not chart.is_core(document)}
    assert groups <= set(apis)
    created = {(document["kind"], document["metadata"]["name"]) for document in documents}
    created |= {("Secret", name) for kind, name in created if kind == "ExternalSecret"}
    for label, spec in chart.pod_specs(documents):
        assert _references(spec) <= created, label
    assert [name for kind, name in created if kind == "Deployment" and "gleaner-small" in name] == []


@pytest.mark.parametrize("apis", [EMPTY, FULL])
def test_what_is_missing_is_said_before_anything_is_created(apis: tuple[str, ...]) -> None:
    """The refusal has everything in one sentence; there is no check where there is no cluster to ask."""
    with pytest.raises(helm.HelmError) as raised:
        chart.render_manifests(on("prod"), apis)
    assert "Secret gleaner-backup" in str(raised.value)
    assert ("the Gateway API (gateway.networking.k8s.io/v1)" in str(raised.value)) is (apis == EMPTY)
    assert chart.render_manifests(on("prod") | {"preflight": False}, apis)


NODES: dict[str, dict[str, Any]] = {
    "aws": {"labels": {"karpenter.sh/capacity-type": "spot"}, "taints": ["nvidia.com/gpu=true"]},
    "gcp": {"labels": {}, "taints": ["nvidia.com/gpu=present", "cloud.google.com/gke-spot=true"]},
    "azure": {"labels": {}, "taints": ["nvidia.com/gpu=true", "kubernetes.azure.com/scalesetpriority=spot"]},
    "onprem": {"labels": {}, "taints": ["nvidia.com/gpu=true"]},
}
"""The GPU pools that the places' pages describe; all taints are NoSchedule."""


@pytest.mark.parametrize("site", PLACES)
def test_gpu_workers_fit_the_pool_of_their_place(site: str) -> None:
    """Tolerations of a model and of a place add up, and the selector asks for labels that the nodes have."""
    documents = chart.render_manifests(on("prod", site))
    [worker] = [d for d in chart.select_kinds(documents, "Deployment") if "-worker-" in d["metadata"]["name"]]
    spec = worker["spec"]["template"]["spec"]
    assert spec.get("nodeSelector", {}).items() <= NODES[site]["labels"].items()
    for taint in NODES[site]["taints"]:
        assert any(_tolerates(toleration, taint) for toleration in spec["tolerations"]), taint


def _tolerates(toleration: dict[str, str], taint: str) -> bool:
    key, _, value = taint.partition("=")
    same = toleration["operator"] == "Exists" or toleration.get("value") == value
    return toleration["key"] == key and same and toleration["effect"] == "NoSchedule"


def _egress(documents: list[chart.Manifest], component: str) -> list[tuple[str, Any]]:
    """Return CIDR and port of what a component may reach by address, the rules for all pods included."""
    names = ("gleaner-default-deny", f"gleaner-{component}")
    policies = [
        policy
        for policy in chart.select_kinds(documents, "NetworkPolicy")
        if policy["metadata"]["name"] in names or policy["metadata"]["name"].endswith(f"-{component}-fetch")
    ]
    return [
        (peer["ipBlock"]["cidr"], port["port"])
        for policy in policies
        for rule in policy["spec"].get("egress", ())
        for peer in rule["to"]
        if "ipBlock" in peer
        for port in rule["ports"]
    ]


@pytest.mark.parametrize(
    ("site", "component", "flow"),
    [
        ("gcp", "worker", ("169.254.169.254/32", 53)),
        ("gcp", "gateway", ("169.254.20.10/32", 53)),
        ("gcp", "backup", ("169.254.169.254/32", 80)),
        ("gcp", "backup", ("169.254.169.252/32", 988)),
        ("aws", "backup", ("169.254.170.23/32", 80)),
        ("onprem", "backup", ("10.30.0.0/16", 9000)),
        ("azure", "courier", ("169.254.20.10/32", 53)),
    ],
)
def test_what_a_place_needs_gets_out(site: str, component: str, flow: tuple[str, int]) -> None:
    """Names, cloud identities and object stores, which no rule for the internet allows."""
    assert flow in _egress(chart.render_manifests(on("prod", site)), component)


def test_models_that_are_fetched_reach_the_metadata_server() -> None:
    """A worker with gs:// weights needs its identity; one with local weights reaches nothing."""
    values = on("gcp") | {
        "models": {"gleaner-small": None, "far": {"source": "gs://acme/far"}},
        "defaultModel": "far",
    }
    documents = chart.render_manifests(values)
    policy = chart.find_manifest(documents, "NetworkPolicy", "gleaner-worker-far-fetch")
    reached = {(peer["ipBlock"]["cidr"]) for rule in policy["spec"]["egress"] for peer in rule["to"]}
    assert "169.254.169.254/32" in reached
    assert ("169.254.169.254/32", 80) not in _egress(documents, "worker")


def test_azure_gives_the_backup_its_identity() -> None:
    """Workload identity looks at a pod's label."""
    backup = chart.find_manifest(chart.render_manifests(on("prod", "azure")), "CronJob", "gleaner-backup")
    labels = backup["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert labels["azure.workload.identity/use"] == "true"


@pytest.mark.parametrize("name", [(), ("prod",), *(("prod", site) for site in PLACES)])
def test_no_place_scales_by_a_prometheus_that_may_be_away(name: tuple[str, ...]) -> None:
    """A failing Prometheus would keep all GPU workers: only the ledger decides unless you say otherwise."""
    for scaled in chart.select_kinds(chart.render_manifests(on(*name)), "ScaledObject"):
        assert {trigger["type"] for trigger in scaled["spec"]["triggers"]} == {"redis"}


# As a part of another chart


def test_an_umbrella_chart_may_contain_it(tmp_path: Any) -> None:
    """Helm gives every subchart `global`; its registry and pull secrets are used."""
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "gleaner").symlink_to(chart.CHART)
    (tmp_path / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "umbrella", "version": "1.0.0"})
    )
    shared = {"imageRegistry": "mirror.internal", "imagePullSecrets": ["pull"], "storageClass": "other charts' own"}
    values = {"global": shared, "gleaner": {"backup": {"enabled": True, "destination": "store:b"}}}
    documents = chart.render_manifests(values, chart=tmp_path)
    images = {
        container["image"]
        for _, spec in chart.pod_specs(documents)
        for container in (*spec["containers"], *spec.get("initContainers", ()))
    }
    assert images == {
        "mirror.internal/gleaner-gateway:0.1.0", "mirror.internal/gleaner-worker:0.1.0",
        "mirror.internal/valkey/valkey:9.1-bookworm", "mirror.internal/rclone/rclone:1.71.0",
    }  # fmt: skip
    assert all(spec["imagePullSecrets"] == [{"name": "pull"}] for _, spec in chart.pod_specs(documents))


def test_our_registry_is_ours_and_the_mirror_for_others() -> None:
    """Each registry has its images if both are set."""
    values = {"global": {"imageRegistry": "mirror"}, "images": {"registry": "ours/gleaner"}}
    images = [
        container["image"]
        for _, spec in chart.pod_specs(chart.render_manifests(values))
        for container in spec["containers"]
    ]
    assert {image.partition("/")[0] for image in images if "gleaner-" in image} == {"ours"}
    assert {image.partition("/")[0] for image in images if "gleaner-" not in image} == {"mirror"}
