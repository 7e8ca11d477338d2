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
from gleaner.cli.preflight.requirements import (
    CLUSTER_SCOPED,
    DEFAULT_CLASS,
    Quota,
    Requirements,
    Target,
    parse_quota,
)

Kubectl = Callable[[Sequence[str]], str]
"""Runs kubectl with arguments; returns its standard output, or raises `CommandError`."""
TIMEOUT_S = 60.0
_GROUPS = {
    "Gateway": "gateway.networking.k8s.io",
    "Issuer": "cert-manager.io",
    "ClusterIssuer": "cert-manager.io",
    "SecretStore": "external-secrets.io",  # pragma: allowlist secret
    "ClusterSecretStore": "external-secrets.io",  # pragma: allowlist secret
}
_NAMES_AND_KEYS = (
    'go-template={{range .items}}{{.metadata.name}}{{range $key, $value := .data}} {{$key}}{{end}}{{"\\n"}}{{end}}'
)
_DEFAULT_CLASS_MARK = "storageclass.kubernetes.io/is-default-class"


@dataclass(frozen=True, slots=True)
class Node:
    """A node, or a pool of alike nodes: labels, taints and what its pods may request."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...] = ()
    allocatable: Amounts = field(default_factory=dict)
    schedulable: bool = True


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """State of a cluster.

    Attributes:
        apis: group, version and kind of each CustomResourceDefinition.
        objects: kind, namespace ("" for none) and name of an object -> its keys, if it has data.
        unreadable: kind -> why it could not be listed; whether such objects exist is unknown.
    """

    apis: frozenset[Target] = frozenset()
    objects: Mapping[Target, frozenset[str]] = field(default_factory=dict)
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
            raise CommandError(f"kubectl did not answer within {2 * TIMEOUT_S:.0f} s") from None
        if done.returncode != 0:
            raise CommandError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message")
        return done.stdout

    return run


def read_server(kubectl: Kubectl) -> tuple[str, frozenset[Target]]:
    """Return the server's version, such as `v1.36.2`, and the kinds that CustomResourceDefinitions add.

    Raises:
        CommandError: the cluster cannot be reached or read.
    """
    try:
        version = json.loads(kubectl(["version", "-o", "json"]))["serverVersion"]["gitVersion"]
        definitions = _list_items(kubectl, "customresourcedefinitions")
    except (CommandError, KeyError) as error:
        raise CommandError(
            f"the cluster cannot be read: {error}; check KUBECONFIG and --context, or use --offline"
        ) from None
    return str(version), frozenset(
        (definition["spec"]["group"], version["name"], definition["spec"]["names"]["kind"])
        for definition in definitions
        for version in definition["spec"]["versions"]
        if version.get("served")
    )


def read_facts(
    kubectl: Kubectl, requirements: Requirements, namespace: str, apis: frozenset[Target]
) -> ClusterFacts:
    """Return what the requirements are checked against; kinds that nobody needs are not listed."""
    objects: dict[Target, frozenset[str]] = {}
    unreadable: dict[str, str] = {}
    for kind, scope in sorted({(need.kind, need.namespace) for need in requirements.objects}):
        try:
            objects.update(_list_objects(kubectl, kind, scope))
        except CommandError as error:
            unreadable[kind] = str(error)

    def list_kind(kind: str, *arguments: str) -> list[Any]:
        try:
            return _list_items(kubectl, *arguments)
        except CommandError as error:
            unreadable[kind] = str(error)
            return []

    nodes = tuple(map(parse_node, list_kind("Node", "nodes")))
    quotas = tuple(map(parse_quota, list_kind("ResourceQuota", "resourcequotas", "-n", namespace)))
    return ClusterFacts(apis, objects, nodes, quotas, unreadable)


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


def _list_items(kubectl: Kubectl, *arguments: str) -> list[Any]:
    items: list[Any] = json.loads(kubectl(["get", *arguments, "-o", "json"]))["items"]
    return items


def _list_objects(kubectl: Kubectl, kind: str, namespace: str) -> Iterable[tuple[Target, frozenset[str]]]:
    resource = ".".join(filter(None, (kind.lower(), _GROUPS.get(kind))))
    scope = [] if kind in CLUSTER_SCOPED else ["-n", namespace]
    if kind in ("Secret", "ConfigMap"):
        lines = kubectl(["get", resource, *scope, "-o", _NAMES_AND_KEYS]).splitlines()
        return [((kind, namespace, name), frozenset(keys)) for name, *keys in map(str.split, filter(None, lines))]
    items = [item["metadata"] for item in _list_items(kubectl, resource, *scope)]
    names = [item["name"] for item in items]
    if any((item.get("annotations") or {}).get(_DEFAULT_CLASS_MARK) == "true" for item in items):
        names.append(DEFAULT_CLASS)
    return [((kind, namespace, name), frozenset()) for name in names]
