from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from keda.hpa import DEFAULT_UP, Scaler
from keda.simulate import CHART_DOWN, TRACES, Outcome, Simulation, World
from tests.conftest import ROOT
from tests.support import chart


def chart_scaler() -> Scaler:
    """Return the scaler of the chart's defaults."""
    auto = yaml.safe_load((chart.CHART / "values.yaml").read_text())["worker"]["autoscaling"]
    return Scaler(
        target=auto["shardsPerReplica"],
        minimum=auto["minReplicas"],
        maximum=auto["maxReplicas"],
        polling_s=auto["pollingInterval"],
        cooldown_s=auto["cooldownPeriod"],
        up=DEFAULT_UP,
        down=CHART_DOWN,
    )


def played(trace: str, world: World | None = None) -> Outcome:
    """Run a trace under the chart's defaults."""
    return Simulation(chart_scaler(), world or World()).run(TRACES[trace](1))


def test_the_simulator_scales_as_the_chart_does() -> None:
    """Its scale-down policy is the chart's, its scale-up policy Kubernetes' default, which the chart writes out."""
    behavior = yaml.safe_load((chart.CHART / "values.yaml").read_text())["worker"]["autoscaling"]["behavior"]
    for rules, written in ((DEFAULT_UP, behavior["scaleUp"]), (CHART_DOWN, behavior["scaleDown"])):
        assert written["stabilizationWindowSeconds"] == rules.window_s
        assert written["selectPolicy"] == rules.select
        policies = [(policy.kind, policy.value, policy.period_s) for policy in rules.policies]
        assert [
            (entry["type"], entry["value"], entry["periodSeconds"]) for entry in written["policies"]
        ] == policies


@pytest.mark.parametrize("trace", TRACES)
def test_no_busy_worker_is_cut_off(trace: str) -> None:
    """A worker that is scaled away finishes its shards within the grace period, and nothing stays open."""
    outcome = played(trace)
    assert outcome.waits
    assert outcome.killed_busy == 0
    assert outcome.unfinished == 0


def test_from_zero_the_first_result_comes_within_a_look_and_a_start() -> None:
    """A shard that finds no worker waits one polling interval and one cold start, and a second or two of work."""
    for cold_start in (20.0, 90.0, 300.0):
        outcome = played("burst", World(cold_start_s=cold_start))
        assert outcome.first_s <= chart_scaler().polling_s + cold_start + 2


@pytest.mark.parametrize(("trace", "least"), [("office", 0.8), ("nightly", 0.9), ("trickle", 0.5)])
def test_it_costs_less_than_a_fixed_fleet(trace: str, least: float) -> None:
    """GPU-hours against a fleet of the same peak that is always there."""
    outcome = played(trace)
    fixed = outcome.peak * len(outcome.samples) / 3600
    assert 1 - outcome.gpu_hours / fixed >= least


def test_lost_spot_nodes_lose_no_work() -> None:
    """Nodes that vanish without a word cost a lease's time; every shard still finishes, once."""
    outcome = played("nightly", World(spot_losses_per_hour=4))
    assert outcome.lost > 0
    assert len(outcome.waits) == sum(TRACES["nightly"](1))
    assert outcome.unfinished == 0


def test_a_grace_period_that_is_too_short_shows() -> None:
    """With one second to drain, running shards return to the queue, and the simulator reports it."""
    outcome = played("office", World(rate=0.2, grace_s=1.0))
    assert outcome.killed_busy > 0


def test_the_command_prints_and_draws() -> None:
    """`python -m keda.simulate` is a tool for users too."""
    command = [sys.executable, "-m", "keda.simulate", "--trace", "burst", "--plot"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "GPU h" in run.stdout
    assert "pods, at most 8" in run.stdout
    assert "backlog, at most 2000" in run.stdout
