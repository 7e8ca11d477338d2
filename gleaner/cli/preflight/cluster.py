"""Facts of a cluster, read with kubectl. Values of Secrets are never read, only their names and keys."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.preflight.quantities import Amounts, parse_amounts
from gleaner.cli.preflight.requirements import CLUSTER_SCOPED, DEFAULT_CLASS, Requirements

Kubectl = Callable[[Sequence[str]], str]
"""Runs kubectl with arguments; returns its standard output, or raises `KubectlError`."""
TIMEOUT_S = 60.0
_RESOURCES = {
    "Secret": "secrets",  # nosec B105  # pragma: allowlist secret
    "ConfigMap": "configmaps", "ServiceAccount": "serviceaccounts",
    "PersistentVolumeClaim": "persistentvolumeclaims", "PriorityClass": "priorityclasses",
    "StorageClass": "storageclasses", "IngressClass": "ingressclasses", "RuntimeClass": "runtimeclasses",
    "Gateway": "gateways.gateway.networking.k8s.io", "Issuer": "issuers.cert-manager.io",
    # pragma: allowlist nextline secret
    "ClusterIssuer": "clusterissuers.cert-manager.io", "SecretStore": "secretstores.external-secrets.io",
    "ClusterSecretStore": "clustersecretstores.external-secrets.io",  # pragma: allowlist secret
}  # fmt: skip
_NAMES_AND_KEYS = (
    'go-template={{range .items}}{{.metadata.name}}{{range $key, $value := .data}} {{$key}}{{end}}{{"\\n"}}{{end}}'
)
_DEFAULT_CLASS_MARK = "storageclass.kubernetes.io/is-default-class"


class KubectlError(Exception):
    """kubectl failed; `str()` is what it printed."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node, or a pool of alike nodes: labels, taints and what its pods may request."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...] = ()
    allocatable: Amounts = field(default_factory=dict)
    schedulable: bool = True


@dataclass(frozen=True, slots=True)
class Quota:
    """A ResourceQuota of the namespace."""

    name: str
    hard: Amounts
    used: Amounts


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """State of a cluster.

    Attributes:
        apis: group, version and kind of each CustomResourceDefinition.
        objects: kind, namespace ("" for none) and name of an object -> its keys, if it has data.
        unreadable: kind -> why it could not be listed; whether such objects exist is unknown.
    """

    apis: frozenset[tuple[str, str, str]] = frozenset()
    objects: Mapping[tuple[str, str, str], frozenset[str]] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    quotas: tuple[Quota, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)


def make_kubectl(context: str | None) -> Kubectl:
    """Return a function that runs kubectl.

    Raises:
        CommandError: kubectl is not installed.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise CommandError("kubectl is not on the PATH; install it, or list what is needed with --offline")
    options = ["--context", context] if context else []

    def run(arguments: Sequence[str]) -> str:
        command = [program, *options, f"--request-timeout={TIMEOUT_S:.0f}s", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=2 * TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise KubectlError(f"kubectl did not answer within {2 * TIMEOUT_S:.0f} s") from None
        if done.returncode != 0:
            raise KubectlError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message")
        return done.stdout

    return run


def read_server(kubectl: Kubectl) -> tuple[str, frozenset[tuple[str, str, str]]]:
    """Return the server's version, such as `v1.36.2`, and the kinds that CustomResourceDefinitions add.

    Raises:
        CommandError: the cluster cannot be reached or read.
    """
    try:
        version = json.loads(kubectl(["version", "-o", "json"]))["serverVersion"]["gitVersion"]
        definitions = _list_items(kubectl, "customresourcedefinitions")
    except (KubectlError, KeyError) as error:
        raise CommandError(
            f"the cluster cannot be read: {error}; check KUBECONFIG and --context, or use --offline"
        ) from None
    return str(version), frozenset(
        (definition["spec"]["group"], version["name"], definition["spec"]["names"]["kind"])
        for definition in definitions
        for version in definition["spec"]["versions"]
        if version.get("served")
    )


def read_facts(kubectl: Kubectl, requirements: Requirements, namespace: str) -> ClusterFacts:
    """Return what the requirements are checked against; kinds that nobody needs are not listed."""
    objects: dict[tuple[str, str, str], frozenset[str]] = {}
    unreadable: dict[str, str] = {}
    for kind, scope in sorted({(need.kind, need.namespace) for need in requirements.objects}):
        try:
            objects.update(_list_objects(kubectl, kind, scope))
        except KubectlError as error:
            unreadable[kind] = str(error)
    listed: dict[str, list[Any]] = {"Node": [], "ResourceQuota": []}
    for kind, arguments in (("Node", ["nodes"]), ("ResourceQuota", ["resourcequotas", "-n", namespace])):
        try:
            listed[kind] = _list_items(kubectl, *arguments)
        except KubectlError as error:
            unreadable[kind] = str(error)
    return ClusterFacts(
        read_server(kubectl)[1],
        objects,
        tuple(map(parse_node, listed["Node"])),
        tuple(map(_parse_quota, listed["ResourceQuota"])),
        unreadable,
    )


def _list_items(kubectl: Kubectl, *arguments: str) -> list[Any]:
    items: list[Any] = json.loads(kubectl(["get", *arguments, "-o", "json"]))["items"]
    return items


def _list_objects(
    kubectl: Kubectl, kind: str, namespace: str
) -> Iterable[tuple[tuple[str, str, str], frozenset[str]]]:
    scope = [] if kind in CLUSTER_SCOPED else ["-n", namespace]
    if kind in ("Secret", "ConfigMap"):
        lines = kubectl(["get", _RESOURCES[kind], *scope, "-o", _NAMES_AND_KEYS]).splitlines()
        return [((kind, namespace, name), frozenset(keys)) for name, *keys in map(str.split, filter(None, lines))]
    items = [item["metadata"] for item in _list_items(kubectl, _RESOURCES[kind], *scope)]
    names = [item["name"] for item in items]
    if kind == "StorageClass" and any(
        (item.get("annotations") or {}).get(_DEFAULT_CLASS_MARK) == "true" for item in items
    ):
        names.append(DEFAULT_CLASS)
    return [((kind, namespace, name), frozenset()) for name in names]


def parse_node(item: Mapping[str, Any]) -> Node:
    """Return a node from its JSON."""
    spec = item.get("spec") or {}
    return Node(
        item["metadata"]["name"],
        item["metadata"].get("labels") or {},
        tuple(spec.get("taints") or ()),
        parse_amounts((item.get("status") or {}).get("allocatable")),
        not spec.get("unschedulable", False),
    )


def _parse_quota(item: Mapping[str, Any]) -> Quota:
    status = item.get("status") or {}
    hard = status.get("hard") or item["spec"].get("hard")
    return Quota(item["metadata"]["name"], parse_amounts(hard), parse_amounts(status.get("used")))
