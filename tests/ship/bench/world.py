"""A cluster with one release of the chart, the operator and a client's key: what scenarios and drills act on."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gleaner import Client
from tests.conftest import Tool
from tests.ship.bench.cluster.autoscaling import Operator
from tests.ship.bench.cluster.cluster import Cluster
from tests.ship.bench.cluster.containers import read_data
from tests.ship.bench.cluster.images import make_images
from tests.ship.bench.cluster.pods import Pod
from tests.ship.bench.cluster.volumes import Clock
from tests.ship.bench.load import Load
from tests.ship.bench.release import APIS, Release, Values
from tests.support.chart import merge_values

PACE = 60.0
"""Cluster seconds in a real one."""
FAST_S = 0.0005
"""Seconds per token of the fake engine: some hundred documents per second."""
WORKER = "gleaner-worker-gleaner-small"
SMALL: Values = {
    "worker": {"autoscaling": {"maxReplicas": 3, "shardsPerReplica": 4}},
    "settings": {"shutdown_grace_s": 20},
    "courier": {"settings": {"upkeep_grace_s": 1}},
}
"""The default release, made so small that little work needs three workers."""


@dataclass
class World:
    """A release on a cluster.

    Attributes:
        values: of the last upgrade.
    """

    cluster: Cluster
    operator: Operator
    release: Release
    values: Values = field(default_factory=dict)

    def upgrade(self, *values: Values, settle: bool = True) -> None:
        """Upgrade with these values over the present ones, which stay; wait until every pod is as it should be."""
        self.values = merge_values(self.values, *values)
        self.release.upgrade(self.values)
        if settle:
            self.cluster.await_settled()

    @property
    def key(self) -> str:
        """The API key of `helm test`."""
        return read_data("Secret", "gleaner-test-key", self.cluster.objects)["api-key"]

    @property
    def url(self) -> str:
        """The gateway's Service."""
        return self.cluster.url_of("gleaner-gateway", 80)

    def load(self) -> Load:
        """Return a load on the gateway's Service, which begins with its `with` block."""
        return Load(self.url, self.key)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Connect."""
        with Client(self.url, self.key) as client:
            yield client

    def edit_secret(self, name: str, **data: str | None) -> None:
        """Set or remove keys of a Secret; `_` in their names is `-`."""
        secret = self.cluster.objects["Secret", name]
        content = dict(secret["data"])
        for key, value in data.items():
            content.pop(key.replace("_", "-"), None)
            if value is not None:
                content[key.replace("_", "-")] = base64.b64encode(value.encode()).decode()
        self.cluster.apply({**secret, "data": content})

    def count_workers(self) -> int:
        """Return the ready workers."""
        return sum(pod.ready for pod in self.cluster.list_pods("worker"))

    def await_workers(self, at_least: int) -> None:
        """Wait until the operator has started this many workers and they are ready."""
        self.cluster.await_condition(lambda: self.count_workers() >= at_least, f"{at_least} workers are ready")

    def await_zero(self) -> None:
        """Wait until the operator has stopped the last worker."""
        self.cluster.await_condition(lambda: not self.cluster.list_pods("worker"), "no worker runs")

    def list_unclean_ends(self) -> list[str]:
        """Return the pods that crashed, were killed, or ended with an error at SIGTERM."""
        return [describe_ends(pod) for pod in self.cluster.history if pod.restarts or not ended_well(pod)]


def ended_well(pod: Pod) -> bool:
    """Return whether each container of the pod ended with 0 in time; SIGTERM before it was ready counts as well."""
    return all(end.code == 0 or (end.code == -15 and not pod.was_ready) for end in pod.exits)


def describe_ends(pod: Pod) -> str:
    """Return a pod and its ends."""
    return f"{pod.name}: {pod.exits}, {pod.restarts} restarts\n{pod.read_log(5)}"


@contextmanager
def running_world(
    tool: Tool, folder: Path, apis: tuple[str, ...] = APIS, engine_pace_s: float | None = FAST_S
) -> Iterator[World]:
    """Run an empty cluster with the operator until the block ends.

    Args:
        tool: finds programs.
        folder: for programs.
        apis: what the cluster has besides Kubernetes' own kinds.
        engine_pace_s: seconds per token of the fake engine; None runs the shipped model.
    """
    with Cluster(make_images(folder, tool, engine_pace_s), Clock(PACE)) as cluster:
        yield World(cluster, Operator(cluster), Release(cluster, apis))
