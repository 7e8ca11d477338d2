"""A release of the chart on a bench cluster: Helm's real engine renders, and what it would apply is applied."""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from typing import Any

from tests.ship.bench.cluster.cluster import Cluster, Manifest
from tests.support import chart
from tests.support.cluster import render_live

Values = dict[str, Any]
APIS = (*chart.OPERATORS, chart.CLUSTER)


class Release:
    """Installs, upgrades, rolls back and tests.

    Attributes:
        revisions: manifests of each, without hooks.
    """

    def __init__(self, cluster: Cluster, apis: tuple[str, ...] = APIS) -> None:
        self._cluster, self._apis = cluster, apis
        self._tests: list[Manifest] = []
        self.revisions: list[list[Manifest]] = []

    def upgrade(self, *values: Values) -> None:
        """Install or upgrade with these layers of values: hooks first, then what changed; the rest is deleted."""
        objects = list(self._cluster.objects.values())
        manifests = render_live(objects, chart.merge_values(*values), self._apis)
        hooks = [manifest for manifest in manifests if find_hook(manifest)]
        for hook in hooks:
            if "pre-upgrade" in find_hook(hook):
                self._cluster.apply(hook)
        self._tests = [hook for hook in hooks if "test" in find_hook(hook)]
        self._apply([manifest for manifest in manifests if not find_hook(manifest)])

    def roll_back(self) -> None:
        """Apply the revision before the last one again, replicas included; hooks stay as they are."""
        self._apply(copy.deepcopy(self.revisions[-2]))

    def test(self) -> str:
        """Run `helm test`; return its output.

        Raises:
            AssertionError: it fails.
        """
        [test] = [hook for hook in self._tests if hook["kind"] == "Pod"]
        name = test["metadata"]["name"]
        self._cluster.apply(test)
        try:
            pod = self._cluster.run_job(name)
            assert pod.phase == "Succeeded", f"{pod.read_log()}\n{self._cluster.describe()}"
            return pod.read_log()
        finally:
            self._cluster.delete("Pod", name)

    def _apply(self, manifests: list[Manifest]) -> None:
        names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
        for earlier in self.revisions[-1] if self.revisions else ():
            key = (earlier["kind"], earlier["metadata"]["name"])
            if key not in names:
                self._cluster.delete(*key)
        for manifest in sorted(manifests, key=lambda m: m["kind"] in ("Deployment", "StatefulSet", "Job")):
            self._cluster.apply(manifest)
        self.revisions.append(manifests)


def find_hook(manifest: Manifest) -> str:
    """Return the events of a hook, or ""."""
    return str((manifest["metadata"].get("annotations") or {}).get("helm.sh/hook", ""))


def make_secret(name: str, data: Mapping[str, str]) -> Manifest:
    """Return a Secret with this content."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}
