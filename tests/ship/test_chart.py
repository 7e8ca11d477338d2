from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import chart as derived
from tests.conftest import ROOT
from tests.ship.test_images import trivy
from tests.support import chart

GOLDEN = Path(__file__).parent / "golden"
ALL_ON = chart.merge_values(
    chart.read_overlay("prod"),
    {"models": {"gleaner-small": {}, "Acme/NER v2": {"source": "s3://acme/ner", "revision": "abc"}}},
)


@pytest.fixture(scope="module")
def defaults() -> list[chart.Manifest]:
    """Render the chart with no values."""
    return chart.render_manifests()


@pytest.fixture(scope="module")
def everything() -> list[chart.Manifest]:
    """Render the chart with all production options on, and three models."""
    return chart.render_manifests(ALL_ON)


def test_derived_files_are_up_to_date() -> None:
    """Schema, README, keda/ and the chart's files/ equal the output of `make chart-sync`."""
    assert derived.find_outdated() == []


def test_every_value_is_documented() -> None:
    """Each key of values.yaml has a comment on its purpose."""
    notes = list(derived.parse_values((chart.CHART / "values.yaml").read_text()))
    assert notes
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    groups = {note.path for note in notes if isinstance(derived._value_at(values, note.path), dict)}
    assert [".".join(note.path) for note in notes if not note.doc and note.path not in groups] == []


def test_the_readme_explains_each_value_and_what_places_set() -> None:
    """No meaning is empty, and each value of an overlay of a place is in the table by place."""
    page = (chart.CHART / "README.md").read_text()
    by_place, _, values = page.partition("## Values by place")[2].partition("\n## Values\n")
    assert re.findall(r"^\|.*\|\s*\|$", values, re.MULTILINE) == []
    for site in derived.PLACES:
        for name in chart.read_overlay(site):
            assert re.search(rf"^\| `{name}[.`]", by_place, re.MULTILINE), (site, name)


# Settings in values and settings in code


@pytest.mark.parametrize("name", derived.CLASSES)
def test_every_setting_of_the_code_has_its_place_in_the_chart(name: str) -> None:
    """A new setting is a value at once: it is in the schema, set by a template, or a Secret's business."""
    cls = derived.CLASSES[name]
    assert set(cls.model_fields) - set(derived.list_settings(name)) <= derived.BY_TEMPLATE | derived.SECRET


def test_no_setting_of_the_chart_is_unknown_to_the_code(everything: list[chart.Manifest]) -> None:
    """Each GLEANER_ variable that a template sets is read by the process that gets it."""
    variables = {f"GLEANER_{field.upper()}" for cls in derived.CLASSES.values() for field in cls.model_fields}
    for label, spec in chart.pod_specs(everything):
        for container in spec["containers"]:
            named = {entry["name"] for entry in container.get("env", ()) if entry["name"].startswith("GLEANER_")}
            if not label.startswith("Pod "):  # the test pod has the client's variables
                assert named <= variables, label


def test_settings_reach_the_process_as_it_reads_them() -> None:
    """Lists with commas, whole numbers without an exponent, a process's own over the shared ones."""
    values = {
        "settings": {"lease_s": 90, "log_level": "DEBUG"},
        "gateway": {
            "settings": {
                "webhook_allow": ["10.0.0.0/8", "fd00::/8"],
                "max_body_bytes": 67108864,
                "log_level": "INFO",
            }
        },
    }
    documents = chart.render_manifests(values)
    spec = chart.find_manifest(documents, "Deployment", "gleaner-gateway")["spec"]["template"]["spec"]
    env = chart.read_environment(spec)
    assert env["GLEANER_WEBHOOK_ALLOW"] == "10.0.0.0/8,fd00::/8"
    assert env["GLEANER_MAX_BODY_BYTES"] == "67108864"
    assert (env["GLEANER_LEASE_S"], env["GLEANER_LOG_LEVEL"]) == ("90", "INFO")
    courier = chart.find_manifest(documents, "Deployment", "gleaner-courier")["spec"]["template"]["spec"]
    assert chart.read_environment(courier)["GLEANER_LOG_LEVEL"] == "DEBUG"


def _gateway(values: dict[str, Any]) -> dict[str, Any]:
    documents = chart.render_manifests(values)
    return chart.read_environment(
        chart.find_manifest(documents, "Deployment", "gleaner-gateway")["spec"]["template"]["spec"]
    )


def test_the_gateway_knows_its_ingress() -> None:
    """Proxies, https and allowed hosts come from the ingress values; settings win."""
    edge = {"trustedProxies": ["10.0.0.0/8", "fd00::/8"], "https": "redirect"}
    env = _gateway({"gateway": edge, "ingress": {"enabled": True, "host": "ner.example.com"}})
    assert env["GLEANER_TRUSTED_PROXIES"] == "10.0.0.0/8,fd00::/8"
    assert (env["GLEANER_HTTPS"], env["GLEANER_HTTPS_HOSTS"]) == ("redirect", "ner.example.com")
    env = _gateway({"gateway": {**edge, "settings": {"https": "require"}}})
    assert env["GLEANER_HTTPS"] == "require"
    assert not {name for name in _gateway({}) if "HTTPS" in name or "PROXIES" in name}
    for name in chart.OVERLAYS:
        env = _gateway(chart.read_overlay(name))
        assert ("GLEANER_TRUSTED_PROXIES" in env) == (name != "dev")


@pytest.mark.parametrize(
    ("maxmemory", "stored"),
    [("1400mb", 350 * 2**20), ("8gb", 2 * 2**30), ("1g", 250_000_000), ("4000", 1000), ("2GB", 2**29)],
)
def test_a_tenant_keeps_a_quarter_of_the_store_at_most(maxmemory: str, stored: int) -> None:
    """No tenant can fill Redis for all; the size of an external Redis is unknown."""
    assert _gateway({"valkey": {"maxmemory": maxmemory}})["GLEANER_TENANT_MAX_STORED_BYTES"] == str(stored)
    values = {"gateway": {"settings": {"tenant_max_stored_bytes": 7}}}
    assert _gateway(values)["GLEANER_TENANT_MAX_STORED_BYTES"] == "7"
    outside = {"valkey": {"enabled": False}, "store": {"address": "s:1", "networks": ["10.0.0.0/8"]}}
    assert "GLEANER_TENANT_MAX_STORED_BYTES" not in _gateway(outside)


# Pods


def test_every_pod_is_restricted(everything: list[chart.Manifest]) -> None:
    """Pod Security "restricted", a read-only root, no token, and resources, in every container there is."""
    for label, spec in chart.pod_specs(everything):
        security = spec["securityContext"]
        assert security["runAsNonRoot"], label
        assert security["runAsUser"] >= 10000, label
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, label
        assert spec["automountServiceAccountToken"] is False, label
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), label
        assert not [volume for volume in spec.get("volumes", ()) if "hostPath" in volume], label
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            inner = container["securityContext"]
            assert inner["readOnlyRootFilesystem"] is True, label
            assert inner["allowPrivilegeEscalation"] is False, label
            assert inner["capabilities"] == {"drop": ["ALL"]}, label
            assert "memory" in container["resources"]["limits"], label


def test_drains_have_their_time() -> None:
    """The kill comes after the process's own grace, whatever that is set to, on each process."""
    documents = chart.render_manifests(
        {"settings": {"shutdown_grace_s": 60}, "worker": {"settings": {"shutdown_grace_s": 200}}}
    )
    graces = {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        for document in chart.select_kinds(documents, "Deployment")
    }
    assert graces["gleaner-gateway"] == 60 + 20 + 5
    assert graces["gleaner-courier"] == 60 + 20
    assert graces["gleaner-worker-gleaner-small"] == 200 + 20


def test_probes_ask_what_the_process_answers(defaults: list[chart.Manifest]) -> None:
    """Liveness is /livez, readiness /readyz, both on the second port; a model may take its time to load."""
    for name, port in (("gateway", 9101), ("worker-gleaner-small", 9102), ("courier", 9103)):
        spec = chart.find_manifest(defaults, "Deployment", f"gleaner-{name}")["spec"]["template"]["spec"]
        [container] = spec["containers"]
        ports = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
        assert ports["metrics"] == port
        assert chart.read_environment(spec)["GLEANER_METRICS_PORT"] == str(port)
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "metrics"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= (600 if name.startswith("worker") else 60)


def test_updates_add_before_they_take_away(defaults: list[chart.Manifest]) -> None:
    """Updates run one more pod and never one fewer; both are values."""
    for document in chart.select_kinds(defaults, "Deployment"):
        if document["metadata"]["name"] != "gleaner-flower":
            assert document["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_replicas_belong_to_whoever_scales(defaults: list[chart.Manifest]) -> None:
    """A Deployment that KEDA or an HPA scales names no replicas, or every upgrade would undo the scaling."""
    scaled = {
        scaler["spec"]["scaleTargetRef"]["name"]
        for scaler in chart.select_kinds(defaults, "ScaledObject", "HorizontalPodAutoscaler")
    }
    for document in chart.select_kinds(defaults, "Deployment"):
        assert ("replicas" in document["spec"]) is (document["metadata"]["name"] not in scaled)


# Flows


def test_exactly_the_flows_of_the_security_guide() -> None:
    """The policies' flows equal the table in docs/explanation/security.md."""
    policies = chart.select_kinds(chart.render_manifests(), "NetworkPolicy")
    flows = sorted({line for policy in policies for line in _flows(policy)})
    page = (ROOT / "docs" / "explanation" / "security.md").read_text()
    section = page.partition("## Network flows")[2].partition("\n## ")[0]
    table = re.findall(r"^\| (\S+) \| (\S+) \| (\S+) \|", section, re.MULTILINE)
    assert flows == sorted(" ".join(row) for row in table if row[0] not in ("from", "---"))


def _flows(policy: chart.Manifest) -> list[str]:
    spec = policy["spec"]
    component = spec["podSelector"]["matchLabels"].get("app.kubernetes.io/component", "all")
    flows = []
    for rule in spec.get("ingress", ()):
        flows += [
            f"{peer} {component} {port['port']}"
            for selector in rule["from"]
            for peer in _peers(selector)
            for port in rule["ports"]
        ]
    for rule in spec.get("egress", ()):
        flows += [
            f"{component} {peer} {port['port']}"
            for selector in rule["to"]
            for peer in _peers(selector)
            for port in rule["ports"]
        ]
    return flows


def _peers(peer: dict[str, Any]) -> list[str]:
    if "ipBlock" in peer:
        return ["node-local-dns" if peer["ipBlock"]["cidr"] == "169.254.20.10/32" else "internet"]
    if "namespaceSelector" in peer:
        selector = peer["namespaceSelector"]
        if "matchExpressions" in selector:
            return ["ingress"]
        return [selector["matchLabels"]["kubernetes.io/metadata.name"]]
    selector = peer["podSelector"]
    for expression in selector.get("matchExpressions", ()):
        return list(expression["values"])
    return [selector["matchLabels"]["app.kubernetes.io/component"]]


def test_webhooks_cannot_reach_private_networks(defaults: list[chart.Manifest]) -> None:
    """The courier's egress excludes private networks and the clouds' metadata address."""
    policy = chart.find_manifest(defaults, "NetworkPolicy", "gleaner-courier")
    [block] = [peer["ipBlock"] for rule in policy["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(block["except"])


# Golden files: small, with the fields that an operator looks at first


@pytest.mark.parametrize("name", chart.OVERLAYS)
def test_an_overlay_makes_what_it_made(name: str) -> None:
    """Each overlay renders the manifests summarised in its golden file; delete the file to regenerate it."""
    documents = [
        document for document in chart.render_manifests(chart.read_overlay(name)) if not _from_files(document)
    ]
    lines = [_line(document) for document in documents]
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(sorted(lines)) + "\n"
    if not path.exists():
        path.write_text(text)
    assert path.read_text() == text


def _from_files(document: chart.Manifest) -> bool:
    return document["kind"] == "PrometheusRule" or "grafana_dashboard" in document["metadata"].get("labels", {})


def test_every_dashboard_is_shipped(everything: list[chart.Manifest]) -> None:
    """The cluster gets alerts/dashboards unchanged: braces of Helm and Grafana do not clash."""
    maps = [manifest for manifest in everything if "grafana_dashboard" in manifest["metadata"].get("labels", {})]
    shipped = {name: text for manifest in maps for name, text in manifest["data"].items()}
    assert shipped == {path.name: path.read_text() for path in (ROOT / "alerts" / "dashboards").glob("*.json")}


def test_the_chart_has_only_scripts_that_its_pods_run() -> None:
    """Every script of files/valkey is in a ConfigMap."""
    values = {"backup": {"enabled": True, "destination": "store:ledgers"}, "valkey": {"replicas": 1}}
    documents = chart.render_manifests(values)
    mounted = {name for config in chart.select_kinds(documents, "ConfigMap") for name in config["data"]}
    assert {path.name for path in (chart.CHART / "files" / "valkey").iterdir()} <= mounted


def test_queries_name_metrics_that_exist() -> None:
    """KEDA's second trigger and the canary's analysis query metrics that our processes export."""
    metrics = "".join(path.read_text() for path in (ROOT / "jobs" / "observability" / "metrics").glob("*.py"))
    values = {
        "keda": {"prometheusAddress": "http://prometheus:9090"},
        "gateway": {"rollout": {"enabled": True, "prometheusAddress": "http://prometheus:9090"}},
    }
    documents = chart.select_kinds(chart.render_manifests(values), "ScaledObject", "AnalysisTemplate")
    queried = set(re.findall(r"gleaner_\w+(?=[{)\\])", json.dumps([document["spec"] for document in documents])))
    assert queried == {"gleaner_backlog_seconds", "gleaner_http_requests_total"}
    assert {name for name in queried if f'"{name}"' not in metrics} == set()


def test_manifests_beside_the_chart_are_valid() -> None:
    """The priority classes that the chart's values may name, and the pod that Jenkins works in."""
    paths = [ROOT / "deploy" / name for name in ("priority-classes.yaml", "jenkins-agent.yaml")]
    documents = [document for path in paths for document in yaml.safe_load_all(path.read_text())]
    for document in documents:
        if document["kind"] == "Pod":
            document["metadata"]["name"] = "agent"  # Jenkins names it
        chart.validate_manifest(document, "1.34")
    classes = {document["metadata"]["name"] for document in documents if document["kind"] == "PriorityClass"}
    values = {
        "gateway": {"priorityClassName": "gleaner-serving"},
        "courier": {"priorityClassName": "gleaner-serving"},
        "valkey": {"priorityClassName": "gleaner-store"},
    }
    named = {spec.get("priorityClassName") for _, spec in chart.pod_specs(chart.render_manifests(values))}
    assert named - {None} == classes


def _line(document: chart.Manifest) -> str:
    spec = document.get("spec", {})
    words = [document["kind"], document["metadata"]["name"]]
    for _, pod in chart.pod_specs([document]):
        for container in pod["containers"]:
            limits = container["resources"]["limits"]
            words.append(f"{container['image']} {' '.join(f'{k}={v}' for k, v in sorted(limits.items()))}")
    if document["kind"] == "ScaledObject":
        words.append(
            f"{spec['minReplicaCount']}..{spec['maxReplicaCount']} by {[t['name'] for t in spec['triggers']]}"
        )
    if document["kind"] == "HorizontalPodAutoscaler":
        words.append(f"{spec['minReplicas']}..{spec['maxReplicas']}")
    if document["kind"] == "Ingress":
        words.append(f"{spec.get('ingressClassName')} {spec['rules'][0]['host']}")
    return "  ".join(words)


# Scanners


def test_trivy_finds_nothing_high(tmp_path: Path) -> None:
    """No finding of HIGH or CRITICAL in any overlay, without an exception."""
    for name in ("defaults", *chart.OVERLAYS):
        values = {} if name == "defaults" else chart.read_overlay(name)
        text = "\n---\n".join(yaml.safe_dump(document) for document in chart.render_manifests(values))
        (tmp_path / f"{name}.yaml").write_text(text)
    assert trivy(tmp_path, "HIGH,CRITICAL") == []


def test_notes_say_what_to_do_next() -> None:
    """The notes after an install name the next two commands and the unprotected parts."""
    notes = next(text for path, text in chart.render_templates().items() if path.endswith("NOTES.txt"))
    assert "helm -n gleaner test gleaner" in notes
    assert "not encrypted at rest" in notes
    assert "first job starts one" in notes
    assert "trustedProxies" not in notes
    open_to_all = chart.render_templates({"ingress": {"enabled": True}})
    assert "WARNING: gateway.trustedProxies is empty" in "".join(open_to_all.values())
