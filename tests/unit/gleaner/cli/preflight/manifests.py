"""Manifests of a release, as `helm template` prints them, for tests of preflight."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gleaner.cli.preflight.requirements import Requirements, list_requirements

Json = dict[str, Any]
ROOM = {"cpu": Decimal(8), "memory": Decimal(2**35)}


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
