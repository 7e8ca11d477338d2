"""The simulator's cluster: shards that arrive finish once, whatever scales, drains or vanishes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keda.hpa import DEFAULT_UP, Scaler
from keda.simulate import CHART_DOWN, Outcome, Sample, Simulation, World, draw_plot, format_summary, office_trace

SCALER = Scaler(target=32, maximum=4, cooldown_s=30, up=DEFAULT_UP, down=CHART_DOWN)


def outcome(waits: tuple[float, ...] = (), running: tuple[int, ...] = (), gpu_hours: float = 0.0) -> Outcome:
    """Return the outcome of a trace with these waits and pods per second."""
    samples = tuple(Sample(float(at), pods, pods, 10 * pods) for at, pods in enumerate(running))
    return Outcome(samples, waits, 1.0, gpu_hours, killed_busy=0, drained_busy=0, lost=0, unfinished=0)


@given(
    arrivals=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    losses=st.sampled_from([0.0, 60.0]),
    notice=st.booleans(),
    grace_s=st.sampled_from([0.0, 60.0]),
)
@settings(max_examples=20)
def test_every_shard_finishes_once(arrivals: list[int], losses: float, notice: bool, grace_s: float) -> None:
    """Lost nodes and drains that are cut off return shards; none is lost, none runs to its end twice."""
    world = World(
        cold_start_s=5, rate=8, grace_s=grace_s, lease_s=10, spot_losses_per_hour=losses, spot_notice=notice
    )
    played = Simulation(SCALER, world).run(arrivals, more_s=900)

    assert len(played.waits) + played.unfinished == sum(arrivals)
    assert all(wait >= 1 for wait in played.waits)
    assert played.peak <= SCALER.maximum + (grace_s > 0) * SCALER.maximum  # draining pods count too
    assert played.gpu_hours == pytest.approx(sum(sample.running for sample in played.samples) / 3600)


def test_the_first_result_waits_for_a_pod() -> None:
    """From zero: the next look, the cold start, and a second of work."""
    played = Simulation(SCALER, World(cold_start_s=20)).run([0, 1])

    assert played.first_s == pytest.approx(4 + 20 + 1)
    assert played.samples[-1].replicas == 0
    assert played.unfinished == 0


def test_a_vanished_worker_costs_a_lease() -> None:
    """Without notice its shards return when their lease ends; with notice it drains."""
    sudden, warned = (
        Simulation(SCALER, World(cold_start_s=1, spot_losses_per_hour=240, spot_notice=notice), seed=3).run([64])
        for notice in (False, True)
    )

    assert sudden.lost > 0
    assert max(sudden.waits) > 60
    assert warned.lost == 0
    assert warned.drained_busy > 0


def test_a_short_grace_period_cuts_shards_off() -> None:
    """Shards that a drain cannot finish run again elsewhere, and are counted."""
    world = World(cold_start_s=1, rate=0.1, grace_s=1, spot_losses_per_hour=120, spot_notice=True)
    played = Simulation(SCALER, world).run([20])

    assert played.killed_busy > 0
    assert len(played.waits) == 20


@pytest.mark.parametrize(("quantile", "wait"), [(0.0, 1.0), (0.5, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_quantiles_of_waits(quantile: float, wait: float) -> None:
    """A quantile is a wait that occurred, the longest for those that are beyond."""
    assert outcome((4.0, 1.0, 3.0, 2.0)).wait_quantile(quantile) == wait


def test_a_trace_without_shards_has_no_waits() -> None:
    """Nothing came: no quantile, no saving, and a table line all the same."""
    assert math.isnan(outcome().wait_quantile(0.5))
    assert outcome().peak == 0
    assert format_summary("none", outcome()).split()[1:4] == ["nan", "nan", "nan"]
    assert " - " in format_summary("none", outcome())


def test_a_line_of_the_table() -> None:
    """Savings are against as many pods as the peak, all the time."""
    line = format_summary("busy", outcome((2.0, 8.0), (2,) * 1800 + (0,) * 1800, gpu_hours=1.0)).split()

    assert line[:7] == ["busy", "8", "8", "8", "1", "2", "1.00"]
    assert line[7:9] == ["2.00", "50%"]


def test_the_plot_draws_pods_and_backlog() -> None:
    """A column per step, a row per level, the highest value in the titles."""
    rows = draw_plot(outcome(running=(0, 1, 2, 2)), width=4, height=2).splitlines()

    assert rows == ["pods, at most 2", "  ██", " ███", "backlog, at most 20", "  ██", " ███"]


def test_a_day_at_the_office_is_quiet_at_night() -> None:
    """Most shards come while people work, and a seed always gives the same day."""
    day = office_trace(1)

    assert day == office_trace(1)
    assert day != office_trace(2)
    assert max(day) <= 200
    assert sum(day[8 * 3600 : 18 * 3600]) > 3 * sum(day[: 8 * 3600]) + sum(day[18 * 3600 :])
