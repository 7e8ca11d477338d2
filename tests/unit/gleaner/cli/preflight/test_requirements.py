"""Requirements of manifests on a cluster."""

from __future__ import annotations

import pytest

from gleaner.cli.preflight.requirements import ApiNeed, ImageNeed, ObjectNeed, parse_quota
from tests.unit.gleaner.cli.preflight.manifests import Json, make_deployment, need_of


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


def test_references_to_kinds_that_nobody_checks_are_left_out() -> None:
    """A route may belong to a Service, and an issuer may be one of an extension."""
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
             "spec": {"parentRefs": [{"kind": "Service", "name": "s"}]}}  # fmt: skip
    certificate = {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "c"},
                   "spec": {"secretName": "s", "issuerRef": {"kind": "PrivateIssuer", "name": "i"}}}  # fmt: skip
    assert need_of(route, certificate).objects == ()


def test_an_image_is_needed_once_with_its_secrets_and_users() -> None:
    """The same image of several workloads is one need; other pull secrets are another."""
    other = make_deployment(imagePullSecrets=[{"name": "b"}, {"name": "a"}])
    other["metadata"] = {"name": "other"}
    third = {**make_deployment(), "metadata": {"name": "third"}}
    assert need_of(make_deployment(), other, third).images == (
        ImageNeed("example.com/worker:1", (), ("Deployment third", "Deployment worker")),
        ImageNeed("example.com/worker:1", ("a", "b"), ("Deployment other",)),
    )


def test_keys_that_several_read_are_one_need() -> None:
    """All keys of a Secret are listed together, sorted, with all of its users."""
    env = [{"name": key, "valueFrom": {"secretKeyRef": {"name": "s", "key": key}}} for key in ("b", "a", "b")]
    trigger = {"apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": {"name": "t"},
               "spec": {"secretTargetRef": [{"name": "s", "key": "c"}]}}  # fmt: skip
    needs = need_of(make_deployment(container={"env": env}), trigger)
    assert needs.objects == (
        ObjectNeed("Secret", "s", "ns", ("a", "b", "c"), ("Deployment worker", "TriggerAuthentication t")),
    )


def test_the_quota_in_force_is_read() -> None:
    """A cluster says in the status what it enforces; a manifest has only what is wanted."""
    wanted = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "3"}}}
    assert parse_quota(wanted).hard == {"pods": 3}
    assert parse_quota({**wanted, "status": {"hard": {"pods": "2"}}}).hard == {"pods": 2}


def test_a_manifest_that_is_none_is_refused() -> None:
    """The command turns these errors into a sentence."""
    with pytest.raises(KeyError):
        need_of({"kind": "Deployment"})
    with pytest.raises(ValueError, match="not a quantity"):
        need_of(make_deployment(container={"resources": {"requests": {"cpu": "many"}}}))
