"""Rendered manifests -> what the cluster must already have for them to run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gleaner.cli.preflight.pods import Workload, list_workloads
from gleaner.cli.preflight.quantities import Amounts, parse_amounts

Manifest = Mapping[str, Any]
BUILT_IN_GROUPS = frozenset(
    (
        "", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apps", "autoscaling", "batch",
        "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io",
        "flowcontrol.apiserver.k8s.io", "networking.k8s.io", "node.k8s.io", "policy",
        "rbac.authorization.k8s.io", "resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io",
    )
)  # fmt: skip
CLUSTER_SCOPED = frozenset(
    ("PriorityClass", "StorageClass", "IngressClass", "RuntimeClass", "ClusterSecretStore", "ClusterIssuer")
)
DEFAULT_CLASS = ""
"""Name that stands for the default StorageClass, whichever it is."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectNeed:
    """An object that is referred to and not rendered; `keys`: entries that a Secret or ConfigMap must have."""

    kind: str
    name: str
    namespace: str
    keys: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class ApiNeed:
    """A kind that the API server must serve, by a CustomResourceDefinition."""

    group: str
    version: str
    kind: str
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class ImageNeed:
    """An image that nodes must be able to pull, with one of the named Secrets if there are any."""

    image: str
    pull_secrets: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QuotaLimit:
    """The limits of a ResourceQuota, such as `requests.cpu` or `pods`."""

    name: str
    hard: Amounts


@dataclass(frozen=True, slots=True)
class Requirements:
    """Needs of the manifests; `quotas` are those that they create."""

    objects: tuple[ObjectNeed, ...] = ()
    apis: tuple[ApiNeed, ...] = ()
    images: tuple[ImageNeed, ...] = ()
    workloads: tuple[Workload, ...] = ()
    quotas: tuple[QuotaLimit, ...] = ()


@dataclass(slots=True)
class _Collected:
    """References by what they refer to: users, and the keys that these read."""

    users: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)
    keys: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)

    def add(self, target: tuple[str, str, str], user: str, key: str | None = None) -> None:
        self.users.setdefault(target, set()).add(user)
        self.keys.setdefault(target, set()).update([key] if key else [])


def list_requirements(manifests: Iterable[Manifest], namespace: str) -> Requirements:
    """Return what the manifests refer to and do not contain.

    Args:
        manifests: parsed documents, as `helm template` prints them.
        namespace: the release's, for objects that name none.

    Raises:
        ValueError: a manifest holds something that is not a quantity.
    """
    documents = [document for document in manifests if document]
    workloads = list_workloads(documents)
    collected = _Collected()
    for workload in workloads:
        for reference in workload.pod.references:
            scope = "" if reference.kind in CLUSTER_SCOPED else namespace
            collected.add((reference.kind, scope, reference.name), workload.label, reference.key)
    for document in documents:
        for kind, name, scope, *keys in _list_other_references(document, namespace):
            collected.add((kind, scope, name), _label(document), *keys)
    rendered = set(_list_rendered(documents, namespace))
    objects = (
        ObjectNeed(kind, name, scope, tuple(sorted(collected.keys[kind, scope, name])), tuple(sorted(users)))
        for (kind, scope, name), users in collected.users.items()
        if (kind, scope, name) not in rendered and not _is_always_there(kind, name)
    )
    return Requirements(
        tuple(sorted(objects)),
        tuple(_list_apis(documents)),
        tuple(_list_images(workloads)),
        tuple(workloads),
        tuple(_list_quotas(documents)),
    )


def _label(document: Manifest) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def _is_always_there(kind: str, name: str) -> bool:
    return (kind == "ServiceAccount" and name == "default") or (
        kind == "PriorityClass" and name.startswith("system-")
    )


def _list_rendered(documents: Iterable[Manifest], namespace: str) -> Iterator[tuple[str, str, str]]:
    """Yield every object that the manifests bring, or that a controller makes from one of them."""
    for document in documents:
        kind, metadata, spec = document["kind"], document["metadata"], document.get("spec") or {}
        scope = "" if kind in CLUSTER_SCOPED else metadata.get("namespace") or namespace
        yield kind, scope, metadata["name"]
        if kind == "ExternalSecret":
            yield "Secret", scope, (spec.get("target") or {}).get("name") or metadata["name"]
        elif kind == "Certificate":
            yield "Secret", scope, spec["secretName"]


def _list_other_references(document: Manifest, namespace: str) -> Iterator[tuple[str, ...]]:
    """Yield what a manifest refers to outside of a pod, as kind, name, namespace and, if it reads one, key."""
    spec, scope = document.get("spec") or {}, document["metadata"].get("namespace") or namespace
    match document["kind"]:
        case "Ingress":
            yield from _list_ingress_references(spec, scope)
        case "HTTPRoute":
            for parent in spec.get("parentRefs") or ():
                if parent.get("kind", "Gateway") == "Gateway":
                    yield "Gateway", parent["name"], parent.get("namespace") or scope
        case "TriggerAuthentication":
            yield from (
                ("Secret", entry["name"], scope, entry["key"]) for entry in spec.get("secretTargetRef") or ()
            )
        case "ExternalSecret":
            yield _scoped_reference(spec["secretStoreRef"], "SecretStore", scope)
        case "Certificate":
            yield _scoped_reference(spec["issuerRef"], "Issuer", scope)
        case "PersistentVolumeClaim":
            yield from _storage_class(spec)
    for template in spec.get("volumeClaimTemplates") or ():
        yield from _storage_class(template["spec"])


def _list_ingress_references(spec: Manifest, namespace: str) -> Iterator[tuple[str, str, str]]:
    for entry in spec.get("tls") or ():
        if "secretName" in entry:
            yield "Secret", entry["secretName"], namespace
    if spec.get("ingressClassName"):
        yield "IngressClass", spec["ingressClassName"], ""


def _scoped_reference(reference: Manifest, default: str, namespace: str) -> tuple[str, str, str]:
    kind = reference.get("kind", default)
    return kind, reference["name"], "" if kind in CLUSTER_SCOPED else namespace


def _storage_class(claim: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the class of a claim; an empty name in the manifest asks for a volume without a class."""
    name = claim.get("storageClassName")
    if name != "":
        yield "StorageClass", name or DEFAULT_CLASS, ""


def _list_apis(documents: Iterable[Manifest]) -> Iterator[ApiNeed]:
    users: dict[tuple[str, str, str], set[str]] = {}
    for document in documents:
        group, _, version = document["apiVersion"].rpartition("/")
        if group not in BUILT_IN_GROUPS:
            users.setdefault((group, version, document["kind"]), set()).add(document["metadata"]["name"])
    for (group, version, kind), names in sorted(users.items()):
        yield ApiNeed(group, version, kind, tuple(sorted(names)))


def _list_images(workloads: Iterable[Workload]) -> Iterator[ImageNeed]:
    users: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for workload in workloads:
        for image in workload.pod.images:
            users.setdefault((image, workload.pod.pull_secrets), set()).add(workload.label)
    for (image, secrets), labels in sorted(users.items()):
        yield ImageNeed(image, secrets, tuple(sorted(labels)))


def _list_quotas(documents: Iterable[Manifest]) -> Iterator[QuotaLimit]:
    for document in documents:
        if document["kind"] == "ResourceQuota":
            yield QuotaLimit(document["metadata"]["name"], parse_amounts(document["spec"].get("hard")))
