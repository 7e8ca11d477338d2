"""Things that go wrong, one by one; each ends as its page says."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from tests.conftest import Tool
from tests.ship.bench.cluster.cluster import GPU, Machine
from tests.ship.bench.cluster.containers import Image
from tests.ship.bench.release import Values
from tests.ship.bench.world import WORKER, World, running_world

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
SILENT = "http://127.0.0.1:9"
"""A Prometheus that does not answer."""


def test_a_silent_prometheus_pins_workers_until_the_mitigation(world: World) -> None:
    """Only a value of yours asks it (keda/README.md); the runbook's first mitigation lets the workers go."""
    world.upgrade({"keda": {"prometheusAddress": SILENT}})
    with world.load() as load:
        world.await_workers(2)
    assert load.check_all() > 0
    clock, idle_since = world.cluster.clock, world.cluster.clock.now()
    world.cluster.await_condition(lambda: clock.now() > idle_since + 400, "cooldown and window are over")
    assert WORKER in world.operator.fallbacks
    assert world.count_workers() >= 2
    # GleanerWorkersNotScaledDown, mitigation 1
    world.upgrade({"keda": {"prometheusAddress": ""}})
    world.await_zero()
    assert world.operator.fallbacks == set()


def test_a_broken_image_serves_nobody_and_is_rolled_back(world: World) -> None:
    """New pods that never become ready replace none; the one before is whole again (upgrades.md, Going back)."""
    worker = Image({"PATH": "/usr/bin:/bin"}, ("false",))
    world.cluster.images["broken/gleaner-gateway"] = worker
    with world.load() as load:
        world.await_workers(1)
        world.upgrade({"images": {"registry": "broken"}}, settle=False)
        world.cluster.await_condition(
            lambda: [pod for pod in world.cluster.list_pods("gateway") if pod.restarts > 1], "a gateway crashes"
        )
        world.release.roll_back()
        world.cluster.await_settled()
    world.values["images"].pop("registry")
    assert load.failures == []
    assert load.check_all() > 0


def test_gpus_are_updated_at_the_peak(tool: Tool, tmp_path: Path) -> None:
    """With every GPU in use one worker after the other is replaced; with a surge none would ever be (review A4)."""
    values: Values = {
        "models": {"gleaner-small": {"resources": {"limits": {"memory": "4Gi", GPU: 1}}}},
        "worker": {"replicas": 2, "autoscaling": {"enabled": False}},
        "gateway": {"autoscaling": {"enabled": False}, "replicas": 1},
        "flower": {"enabled": False},
        "quota": {"hard": {f"requests.{GPU}": "2"}},
    }
    with running_world(tool, tmp_path) as world:
        world.cluster.machines[:] = [Machine("gpus", gpus=2)]
        world.upgrade(values)
        manifest = copy.deepcopy(world.cluster.objects["Deployment", WORKER])
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "gleaner-worker:2"
        manifest["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": 1, "maxUnavailable": 0}
        world.cluster.apply(manifest)
        world.cluster.await_condition(lambda: WORKER in world.cluster.refused, "the quota refuses the extra pod")
        assert world.count_workers() == 2
        with world.load() as load:
            world.upgrade({"images": {"worker": {"tag": "2"}}})
        assert load.check_all() > 0
        assert world.list_unclean_ends() == []
