"""The story on the cluster of KUBECONFIG, through Helm's engine and kubectl; skipped without one.

The namespace `gleaner` must not exist; the images must be in BENCH_REGISTRY. BENCH_VALUES names a file of values.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Tool
from tests.ship.bench.release import Values, find_hook
from tests.support import chart
from tests.support.cluster import render_at

pytestmark = [
    pytest.mark.skipif(
        "KUBECONFIG" not in os.environ,
        reason="KUBECONFIG is not set, and nothing replaces an API server: this mode stays untested in this run",
    ),
    pytest.mark.timeout(3600),
]
LIMIT = "--timeout=30m"


@dataclass(frozen=True)
class Server:
    """A namespace of a real cluster."""

    kubectl: Path

    def run(self, *arguments: str, manifests: list[Any] | None = None) -> str:
        """Run kubectl in the namespace; return its output.

        Raises:
            AssertionError: it fails.
        """
        command = [str(self.kubectl), "-n", "gleaner", *arguments]
        run = subprocess.run(
            command, input=yaml.safe_dump_all(manifests or []), capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, f"{command}\n{run.stderr}"
        return run.stdout

    def upgrade(self, values: Values) -> list[chart.Manifest]:
        """Apply what Helm would; wait for every rollout; return the manifests."""
        content = Path(os.environ["KUBECONFIG"]).read_text()
        file_values = (
            yaml.safe_load(Path(os.environ["BENCH_VALUES"]).read_text()) if "BENCH_VALUES" in os.environ else {}
        )
        images = {"images": {"registry": os.environ.get("BENCH_REGISTRY", "")}}
        manifests = render_at(content, chart.merge_values(file_values, images, values), self.list_apis())
        for wave in (
            [manifest for manifest in manifests if "pre-install" in find_hook(manifest)],
            [manifest for manifest in manifests if not find_hook(manifest)],
        ):
            if wave:
                self.run("apply", "--server-side", "--force-conflicts", "-f", "-", manifests=wave)
        for manifest in chart.select_kinds(manifests, "Deployment", "StatefulSet"):
            self.run("rollout", "status", LIMIT, f"{manifest['kind']}/{manifest['metadata']['name']}")
        return manifests

    def list_apis(self) -> tuple[str, ...]:
        """Return API versions, and the kind by which the chart recognises a cluster."""
        return (*self.run("api-versions").split(), chart.CLUSTER)

    def test(self, manifests: list[chart.Manifest]) -> None:
        """Run the pod of `helm test` to its end."""
        [test] = [manifest for manifest in manifests if find_hook(manifest) == "test" and manifest["kind"] == "Pod"]
        name = f"pod/{test['metadata']['name']}"
        self.run("delete", "--ignore-not-found", name)
        self.run("apply", "-f", "-", manifests=[test])
        self.run("wait", LIMIT, "--for=jsonpath={.status.phase}=Succeeded", name)
        self.run("delete", name)

    def read(self, *arguments: str) -> Any:
        """Return an object or a list."""
        return json.loads(self.run("get", *arguments, "-o", "json"))


@pytest.fixture(scope="module")
def server(tool: Tool) -> Iterator[Server]:
    """Create the namespace, and delete it afterwards; one that exists is somebody's, and fails the test."""
    server = Server(tool("kubectl"))
    server.run("create", "namespace", "gleaner")
    yield server
    server.run("delete", "namespace", "gleaner", LIMIT)


def test_a_release_lives_on_a_real_cluster(server: Server) -> None:
    """Install, test, change a setting of Valkey, drain its node, back to no worker where KEDA scales."""
    server.test(server.upgrade({}))
    uid = server.read("pod", "gleaner-valkey-0")["metadata"]["uid"]
    manifests = server.upgrade({"valkey": {"maxmemory": "300mb"}})
    pod = server.read("pod", "gleaner-valkey-0")
    assert pod["metadata"]["uid"] != uid
    server.test(manifests)
    if len(server.read("nodes")["items"]) > 1:
        node = pod["spec"]["nodeName"]
        server.run("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", LIMIT)
        server.run("uncordon", node)
        server.run("rollout", "status", LIMIT, "statefulset/gleaner-valkey")
        server.test(manifests)
    for scaled in chart.select_kinds(manifests, "ScaledObject"):
        if not scaled["spec"]["minReplicaCount"]:
            target = f"deployment/{scaled['spec']['scaleTargetRef']['name']}"
            server.run("wait", LIMIT, "--for=jsonpath={.spec.replicas}=0", target)
