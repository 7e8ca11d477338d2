"""Rendered manifests -> what the cluster must already have for them to run. Pure.

Objects that a manifest refers to are found by tables of paths: one for pods, one for each other kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gleaner.cli.preflight.quantities import Amounts, parse_amounts
from gleaner.cli.preflight.workloads import Workload, find_values, list_workloads

Manifest = Mapping[str, Any]
Target = tuple[str, str, str]
"""Kind, namespace ("" for none) and name of an object; or group, version and kind of an API."""
Key = TypeVar("Key", bound=tuple[Any, ...])

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
_POD_REFERENCES = (
    *(
        (f"{containers}.{path}", kind)
        for containers in ("containers", "initContainers")
        for path, kind in (
            ("env.valueFrom.secretKeyRef", "Secret"),
            ("env.valueFrom.configMapKeyRef", "ConfigMap"),
            ("envFrom.secretRef", "Secret"),
            ("envFrom.configMapRef", "ConfigMap"),
        )
    ),
    ("volumes.secret", "Secret"),
    ("volumes.configMap", "ConfigMap"),
    ("volumes.projected.sources.secret", "Secret"),
    ("volumes.projected.sources.configMap", "ConfigMap"),
    ("volumes.persistentVolumeClaim", "PersistentVolumeClaim"),
    ("imagePullSecrets", "Secret"),
    ("serviceAccountName", "ServiceAccount"),
    ("priorityClassName", "PriorityClass"),
    ("runtimeClassName", "RuntimeClass"),
)
_REFERENCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Ingress": (("spec.tls.secretName", "Secret"), ("spec.ingressClassName", "IngressClass")),
    "HTTPRoute": (("spec.parentRefs", "Gateway"),),
    "TriggerAuthentication": (("spec.secretTargetRef", "Secret"),),
    "ExternalSecret": (("spec.secretStoreRef", "SecretStore"),),
    "Certificate": (("spec.issuerRef", "Issuer"),),
}
_CHECKED_KINDS = CLUSTER_SCOPED | {kind for table in (_POD_REFERENCES, *_REFERENCES.values()) for _, kind in table}


@dataclass(frozen=True, slots=True, order=True)
class ObjectNeed:
    """An object that is referred to and not rendered; `keys`: entries that a Secret or ConfigMap must have."""

    kind: str
    name: str
    namespace: str
    keys: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ApiNeed:
    """A kind that the API server must serve, by a CustomResourceDefinition."""

    group: str
    version: str
    kind: str
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageNeed:
    """An image that nodes must be able to pull, with one of the named Secrets if there are any."""

    image: str
    pull_secrets: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quota:
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
    quotas: tuple[Quota, ...] = ()


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
    return Requirements(
        tuple(sorted(_list_objects(documents, workloads, namespace))),
        tuple(ApiNeed(*api, users) for api, users in _group_users(_list_apis(documents))),
        tuple(ImageNeed(*image, users) for image, users in _group_users(_list_images(workloads))),
        tuple(workloads),
        tuple(parse_quota(document) for document in documents if document["kind"] == "ResourceQuota"),
    )


def parse_quota(document: Manifest) -> Quota:
    """Return the limits of a ResourceQuota, in force if a cluster says so, else wanted."""
    hard = (document.get("status") or {}).get("hard") or document["spec"].get("hard")
    return Quota(document["metadata"]["name"], parse_amounts(hard))


def _group_users(pairs: Iterable[tuple[Key, str]]) -> list[tuple[Key, tuple[str, ...]]]:
    """Return each key with all of its users, both sorted."""
    users: dict[Key, set[str]] = defaultdict(set)
    for key, user in pairs:
        users[key].add(user)
    return [(key, tuple(sorted(users[key]))) for key in sorted(users)]


def _list_apis(documents: Iterable[Manifest]) -> Iterator[tuple[Target, str]]:
    for document in documents:
        group, _, version = document["apiVersion"].rpartition("/")
        if group not in BUILT_IN_GROUPS:
            yield (group, version, document["kind"]), document["metadata"]["name"]


def _list_images(workloads: Iterable[Workload]) -> Iterator[tuple[tuple[str, tuple[str, ...]], str]]:
    for workload in workloads:
        spec = workload.pod.spec
        secrets = tuple(sorted(find_values(spec, "imagePullSecrets.name")))
        for containers in ("containers", "initContainers"):
            for image in find_values(spec, f"{containers}.image"):
                yield (image, secrets), workload.label


def _list_objects(
    documents: Iterable[Manifest], workloads: Iterable[Workload], namespace: str
) -> Iterator[ObjectNeed]:
    rendered = set(_list_rendered(documents, namespace))
    references = list(_list_references(documents, workloads, namespace))
    keys: dict[Target, set[str]] = defaultdict(set)
    for target, read_keys, _ in references:
        keys[target].update(read_keys)
    for target, users in _group_users((target, user) for target, _, user in references):
        kind, scope, name = target
        is_built_in = target[::2] == ("ServiceAccount", "default") or (
            kind == "PriorityClass" and name.startswith("system-")
        )
        if target not in rendered and not is_built_in:
            yield ObjectNeed(kind, name, scope, tuple(sorted(keys[target])), users)


def _list_rendered(documents: Iterable[Manifest], namespace: str) -> Iterator[Target]:
    """Yield every object that the manifests bring, or that a controller makes from one of them."""
    for document in documents:
        kind, metadata, spec = document["kind"], document["metadata"], document.get("spec") or {}
        scope = "" if kind in CLUSTER_SCOPED else metadata.get("namespace") or namespace
        yield kind, scope, metadata["name"]
        if kind == "ExternalSecret":
            yield "Secret", scope, (spec.get("target") or {}).get("name") or metadata["name"]
        elif kind == "Certificate":
            yield "Secret", scope, spec["secretName"]


def _list_references(
    documents: Iterable[Manifest], workloads: Iterable[Workload], namespace: str
) -> Iterator[tuple[Target, list[str], str]]:
    """Yield each object that something refers to, the keys that it reads there, and its kind and name."""
    for workload in workloads:
        for target, keys in _follow_references(workload.pod.spec, _POD_REFERENCES, namespace):
            yield target, keys, workload.label
    for document in documents:
        kind, metadata = document["kind"], document["metadata"]
        label, scope = f"{kind} {metadata['name']}", metadata.get("namespace") or namespace
        for target, keys in _follow_references(document, _REFERENCES.get(kind, ()), scope):
            yield target, keys, label
        claims = "spec" if kind == "PersistentVolumeClaim" else "spec.volumeClaimTemplates.spec"
        for claim in find_values(document, claims):
            # An empty name in the manifest asks for a volume without a class, a missing one for the default class.
            if claim.get("storageClassName") != "":
                yield ("StorageClass", "", claim.get("storageClassName") or DEFAULT_CLASS), [], label


def _follow_references(
    node: Manifest, table: Iterable[tuple[str, str]], namespace: str
) -> Iterator[tuple[Target, list[str]]]:
    """Yield the objects at the table's paths, with the keys that are read; optional ones are left out."""
    for path, default_kind in table:
        for value in filter(None, find_values(node, path)):
            reference = {"name": value} if isinstance(value, str) else value
            kind = reference.get("kind", default_kind)
            if reference.get("optional") or kind not in _CHECKED_KINDS:
                continue
            name = reference.get("secretName") or reference.get("claimName") or reference["name"]
            scope = "" if kind in CLUSTER_SCOPED else reference.get("namespace") or namespace
            yield (kind, scope, name), [*find_values(reference, "key"), *find_values(reference, "items.key")]
