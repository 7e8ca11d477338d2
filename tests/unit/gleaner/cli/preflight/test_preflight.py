from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.preflight.cluster import ClusterFacts, Node
from gleaner.cli.preflight.helm import Release, parse_manifests, render_release
from gleaner.cli.preflight.quantities import count_surge, format_quantity, parse_quantity
from gleaner.cli.preflight.registry import ImageName, check_image, parse_image
from gleaner.cli.preflight.requirements import (
    ApiNeed,
    ImageNeed,
    ObjectNeed,
    Quota,
    Requirements,
    list_requirements,
)
from gleaner.cli.preflight.scheduling import explain_rejection
from gleaner.cli.preflight.verdicts import check_release, list_needs
from gleaner.cli.printing import Finding

Json = dict[str, Any]


def make_deployment(**pod: Any) -> Json:
    """Return a Deployment whose pod has these fields."""
    container = {"name": "main", "image": "example.com/worker:1", **pod.pop("container", {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "worker"},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [container], **pod}}},
    }


def need_of(*manifests: Json) -> Requirements:
    """Return what the manifests require in the namespace `ns`."""
    return list_requirements(manifests, "ns")


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (
            {"container": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}},
            [ObjectNeed("Secret", "s", "ns", ("k",), ("Deployment worker",))],
        ),
        (
            {"container": {"envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}]}},
            [ObjectNeed("ConfigMap", "c", "ns", (), ("Deployment worker",)),
             ObjectNeed("Secret", "s", "ns", (), ("Deployment worker",))],
        ),
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "ca.crt", "path": "x"}]}}]},
            [ObjectNeed("Secret", "s", "ns", ("ca.crt",), ("Deployment worker",))],
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]},
            [ObjectNeed("Secret", "s", "ns", (), ("Deployment worker",))],
        ),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "p"}}]},
            [ObjectNeed("PersistentVolumeClaim", "p", "ns", (), ("Deployment worker",))],
        ),
        (
            {"initContainers": [{"name": "i", "image": "i", "envFrom": [{"secretRef": {"name": "s"}}]}]},
            [ObjectNeed("Secret", "s", "ns", (), ("Deployment worker",))],
        ),
        (
            {"imagePullSecrets": [{"name": "pull"}], "priorityClassName": "high", "serviceAccountName": "sa"},
            [ObjectNeed("PriorityClass", "high", "", (), ("Deployment worker",)),
             ObjectNeed("Secret", "pull", "ns", (), ("Deployment worker",)),
             ObjectNeed("ServiceAccount", "sa", "ns", (), ("Deployment worker",))],
        ),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s", "optional": True}}]}, []),
        ({"serviceAccountName": "default", "priorityClassName": "system-cluster-critical"}, []),
    ],
)  # fmt: skip
def test_a_pod_needs_what_it_names(pod: Json, expected: list[ObjectNeed]) -> None:
    """Environment, volumes, projected sources, init containers, pull secrets, classes; not what is optional."""
    assert list(need_of(make_deployment(**pod)).objects) == expected


@pytest.mark.parametrize(
    "maker",
    [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}},
        {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "e"},
         "spec": {"target": {"name": "s"}, "secretStoreRef": {"kind": "ClusterSecretStore", "name": "vault"}}},
        {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "c"},
         "spec": {"secretName": "s", "issuerRef": {"kind": "ClusterIssuer", "name": "ca"}}},
    ],
)  # fmt: skip
def test_what_the_release_makes_itself_is_not_needed(maker: Json) -> None:
    """A rendered Secret, or one that External Secrets or cert-manager will make, is there when the pods start."""
    user = make_deployment(container={"envFrom": [{"secretRef": {"name": "s"}}]})
    assert [need for need in need_of(user).objects if need.kind == "Secret"]
    assert not [need for need in need_of(user, maker).objects if need.kind == "Secret"]


def test_other_manifests_need_objects_and_kinds() -> None:
    """Stores, issuers, gateways, classes and the kinds of operators; core kinds are always served."""
    manifests: list[Json] = [
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i"},
         "spec": {"ingressClassName": "nginx", "tls": [{"secretName": "tls"}]}},  # pragma: allowlist secret
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
         "spec": {"parentRefs": [{"name": "public", "namespace": "infra"}]}},
        {"apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": {"name": "t"},
         "spec": {"secretTargetRef": [{"parameter": "password", "name": "valkey", "key": "keda"}]}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "valkey"},
         "spec": {"template": {"spec": {"containers": [{"name": "v", "image": "v"}]}},
                  "volumeClaimTemplates": [{"spec": {}}, {"spec": {"storageClassName": "fast"}},
                                           {"spec": {"storageClassName": ""}}]}},
    ]  # fmt: skip
    needs = need_of(*manifests)
    assert [(need.kind, need.name, need.namespace, need.keys) for need in needs.objects] == [
        ("Gateway", "public", "infra", ()),
        ("IngressClass", "nginx", "", ()),
        ("Secret", "tls", "ns", ()),
        ("Secret", "valkey", "ns", ("keda",)),
        ("StorageClass", "", "", ()),
        ("StorageClass", "fast", "", ()),
    ]
    assert needs.apis == (
        ApiNeed("gateway.networking.k8s.io", "v1", "HTTPRoute", ("r",)),
        ApiNeed("keda.sh", "v1alpha1", "TriggerAuthentication", ("t",)),
    )


def grades(needs: Requirements, facts: ClusterFacts) -> dict[str, list[str]]:
    """Return the findings by grade."""
    by_grade: dict[str, list[str]] = {}
    for finding in check_release(needs, facts):
        by_grade.setdefault(finding.grade, []).append(finding.what)
    return by_grade


ROOM = {"cpu": Decimal(8), "memory": Decimal(2**35)}


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


def has_room(needs: Requirements, facts: ClusterFacts) -> bool:
    """Return True if no quota is reported as too small."""
    return not [what for what in grades(needs, facts).get("bad", ()) if "Quota" in what]


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


def test_a_pool_that_may_have_scaled_to_zero_is_a_warning() -> None:
    """A GPU pool without nodes may still appear; a pod that fits no ordinary node will never run."""
    gpu = need_of(make_deployment(container={"resources": {"limits": {"nvidia.com/gpu": 1}}}))
    assert grades(gpu, ClusterFacts(nodes=(Node("n", {}, (), ROOM),)))["warning"][0].endswith(
        "none of 1 nodes can run it (1 x nvidia.com/gpu none of 1 requested)"
    )
    large = need_of(make_deployment(container={"resources": {"requests": {"cpu": 9}}}))
    assert "bad" in grades(large, ClusterFacts(nodes=(Node("n", {}, (), ROOM),)))


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [("500m", Decimal("0.5"), "0.5"), ("2", Decimal(2), "2"), ("2Gi", Decimal(2**31), "2Gi"),
     ("1e3", Decimal(1000), "1000"),
     ("100", Decimal(100), "100"), ("1500M", Decimal("1.5e9"), "1.397Gi")],
)  # fmt: skip
def test_quantities_are_read_as_the_api_server_does(text: str, value: Decimal, shown: str) -> None:
    """Thousandths, powers of 1000 and of 1024, exponents."""
    assert parse_quantity(text) == value
    assert format_quantity(value) == shown


def test_a_percentage_of_surge_is_rounded_up() -> None:
    """The Deployment controller rounds so, too."""
    assert [count_surge("25%", 1), count_surge("25%", 4), count_surge("25%", 5), count_surge(0, 9)] == [1, 1, 2, 0]
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity("many")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("gleaner-gateway:0.1.0", ImageName("docker.io", "library/gleaner-gateway", "0.1.0")),
        ("rclone/rclone", ImageName("docker.io", "rclone/rclone", "latest")),
        ("ghcr.io/a/b:1", ImageName("ghcr.io", "a/b", "1")),
        ("localhost:5000/b", ImageName("localhost:5000", "b", "latest")),
        ("ghcr.io/a/b:1@sha256:0", ImageName("ghcr.io", "a/b", "sha256:0")),
    ],
)
def test_an_image_is_read_as_container_runtimes_do(image: str, name: ImageName) -> None:
    """A name without a registry is Docker Hub's, which is rarely meant."""
    assert parse_image(image) == name


@pytest.mark.parametrize(
    ("status", "secrets", "grade"),
    [(200, (), "good"), (404, (), "bad"), (403, (), "bad"), (403, ("pull",), "warning"), (None, (), "warning")],
)
def test_an_image_is_looked_up_in_its_registry(status: int | None, secrets: tuple[str, ...], grade: str) -> None:
    """With an anonymous token where the registry asks for one; an unreachable registry proves nothing."""

    def answer(request: httpx.Request) -> httpx.Response:
        if status is None:
            raise httpx.ConnectError("refused")
        if request.url.path == "/token":
            assert request.url.params["scope"] == "repository:a/b:pull"
            return httpx.Response(200, json={"token": "t"})
        if "authorization" not in request.headers:
            challenge = 'Bearer realm="https://r.example/token",service="r",scope="repository:a/b:pull"'
            return httpx.Response(401, headers={"www-authenticate": challenge})
        assert request.url.path == "/v2/a/b/manifests/1"
        return httpx.Response(status)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert check_image(client, ImageNeed("r.example/a/b:1", secrets)).grade == grade


KUBECTL = """#!{python}
import json, sys
answers = json.load(open({answers!r}))
arguments = [item for item in sys.argv[1:] if not item.startswith("--request-timeout")]
if arguments[0] == "version":
    print(json.dumps({{"serverVersion": {{"gitVersion": "v1.36.2"}}}}))
elif arguments[1] == "nodes":
    sys.exit("Error from server (Forbidden): nodes is forbidden")
elif arguments[-1].startswith("go-template"):
    print(answers.get(arguments[1], ""))
else:
    print(json.dumps({{"items": answers.get(arguments[1], [])}}))
"""


@pytest.fixture
def preflight(tmp_path: Path) -> Any:
    """Return a function that runs the command against manifests and a kubectl with given answers."""

    def run(manifests: list[Json], answers: Json, *options: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "manifests.yaml").write_text(yaml.safe_dump_all(manifests))
        (tmp_path / "answers.json").write_text(json.dumps(answers))
        kubectl = tmp_path / "kubectl"
        kubectl.write_text(KUBECTL.format(python=sys.executable, answers=str(tmp_path / "answers.json")))
        kubectl.chmod(0o755)
        command = [
            sys.executable,
            "-m",
            "gleaner",
            "preflight",
            "--manifest",
            str(tmp_path / "manifests.yaml"),
            "-n",
            "ns",
        ]
        environment = {"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"}
        return subprocess.run(
            [*command, "--no-images", *options], env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_the_command_reports_and_fails(preflight: Any) -> None:
    """Exit code 1 for a missing Secret; a kind that may not be listed is a warning; complete: 0."""
    manifests = [
        make_deployment(
            container={"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
        )
    ]
    run = preflight(manifests, {})
    assert run.returncode == 1, run.stderr
    assert "BAD  missing: Secret s in ns with the keys k, for Deployment worker" in run.stdout
    assert "nodes is forbidden" in run.stdout
    run = preflight(manifests, {"secret": "other\ns k other\n"}, "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    findings = [Finding(**json.loads(line)) for line in run.stdout.splitlines()]
    assert findings[0] == Finding("good", "Secret s in ns with the keys k exists")


def test_without_a_cluster_the_command_lists_what_must_exist(preflight: Any) -> None:
    """--offline asks nobody and succeeds; without it and without a cluster the exit code is that of wrong usage."""
    manifests = [make_deployment(priorityClassName="high"), {"apiVersion": "v1", "kind": "List", "items": []}]
    run = preflight(manifests, {}, "--offline")
    assert run.returncode == 0, run.stderr
    assert "need PriorityClass high, for Deployment worker" in run.stdout
    assert "need image example.com/worker:1" in run.stdout
    run = preflight([{"kind": "Deployment"}], {}, "--offline")
    assert run.returncode == 2
    assert "a manifest is not valid" in run.stderr


def test_the_chart_is_rendered_as_on_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm gets values in their order, the server's version and kinds; its error is the command's."""
    helm = tmp_path / "helm"
    helm.write_text(f"""#!{sys.executable}
import sys
print("kind: Seen", sys.argv[1:], sep="\\nargs: ")
sys.exit("refused" if "bad=1" in sys.argv else 0)
""")
    helm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    release = Release("gleaner", "chart", "ns", (Path("a.yaml"), Path("b.yaml")), ("x=1",))
    [seen] = parse_manifests(render_release(release, "v1.36.2", [("keda.sh", "v1alpha1", "ScaledObject")]))
    arguments = " ".join(seen["args"])
    assert arguments.startswith(
        "template gleaner chart --namespace ns --include-crds --values a.yaml --values b.yaml"
    )
    assert "--set x=1 --kube-version v1.36.2" in arguments
    # Charts ask for a group's version, or for a kind.
    assert "--api-versions keda.sh/v1alpha1 --api-versions keda.sh/v1alpha1/ScaledObject" in arguments
    with pytest.raises(CommandError, match="helm template failed: refused"):
        render_release(replace(release, settings=("bad=1",)), "", [])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError, match="helm is not on the PATH"):
        render_release(release, "", [])


def test_everything_that_is_checked_is_listed_offline() -> None:
    """Both ways start from the same requirements."""
    needs = need_of(
        make_deployment(priorityClassName="high", container={"envFrom": [{"secretRef": {"name": "s"}}]})
    )
    listed = " ".join(finding.what for finding in list_needs(needs))
    for need in needs.objects:
        assert need.name in listed
