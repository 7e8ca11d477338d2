from __future__ import annotations

import pytest

from keda.hpa import (
    DEFAULT_DOWN,
    DEFAULT_UP,
    Event,
    Hpa,
    Keda,
    Policy,
    Rules,
    Scaler,
    limit_down,
    limit_up,
    replicas_by_average,
    replicas_by_value,
    stabilise,
)


@pytest.mark.parametrize(
    ("value", "target", "replicas", "wanted"),
    [
        (100, 32, 1, 4),  # ceil(100 / 32)
        (128, 32, 4, 4),  # exactly on target
        (140, 32, 4, 4),  # 9.4 % above: within tolerance
        (142, 32, 4, 5),  # 10.9 % above
        (115, 32, 4, 4),  # 10.2 % below, and still four are needed
        (96, 32, 4, 3),
        (0, 32, 4, 0),
        (1, 32, 1, 1),
    ],
)
def test_an_average_value_is_divided_by_the_target(value: float, target: float, replicas: int, wanted: int) -> None:
    """AverageValue: ceil(value / target), unless the ratio is within a tenth of one."""
    assert replicas_by_average(value, target, replicas) == wanted


@pytest.mark.parametrize(
    ("value", "replicas", "ready", "wanted"),
    [(120, 3, 3, 6), (63, 3, 3, 3), (30, 4, 4, 2), (120, 3, 1, 2)],
)
def test_a_whole_value_multiplies_the_ready_pods(value: float, replicas: int, ready: int, wanted: int) -> None:
    """Value with a target of 60: twice the seconds of backlog want twice the pods that are ready."""
    assert replicas_by_value(value, 60, replicas, ready) == wanted


def test_scaling_down_takes_the_most_of_its_window() -> None:
    """A recommendation of eight within the last 300 s holds eight; once it is older, five hold."""
    past = [(100.0, 8), (250.0, 5)]
    assert stabilise(8, 2, past, now=399, windows_s=(0, 300)) == 8
    assert stabilise(8, 2, past, now=401, windows_s=(0, 300)) == 5


def test_scaling_up_takes_the_least_of_its_window() -> None:
    """A short spike does not scale up where the up window saw less."""
    assert stabilise(2, 9, [(95.0, 3)], now=100, windows_s=(60, 0)) == 3
    assert stabilise(2, 9, [(30.0, 3)], now=100, windows_s=(60, 0)) == 9


@pytest.mark.parametrize(
    ("current", "events", "limit"),
    [
        (1, [], 5),  # 4 pods win over 100 %
        (6, [], 12),  # 100 % wins
        (5, [Event(90, 4)], 5),  # 4 of the last 15 s are spent: from 1, at most 5
        (5, [Event(80, 4)], 10),  # spent longer ago: 100 % of five
    ],
)
def test_the_default_policies_of_scaling_up(current: int, events: list[Event], limit: int) -> None:
    """Four pods or as many again in 15 s, whichever is more."""
    assert limit_up(current, DEFAULT_UP, events, now=100) == limit


def test_the_policies_of_scaling_down() -> None:
    """By default everything may go at once; with one pod a minute a second one has to wait."""
    assert limit_down(8, DEFAULT_DOWN, [], now=100) == 0
    slow = Rules((Policy("Pods", 1, 60),), 300)
    assert limit_down(8, slow, [], now=100) == 7
    assert limit_down(7, slow, [Event(60, -1)], now=100) == 7
    assert limit_down(7, slow, [Event(30, -1)], now=100) == 6
    both = Rules((Policy("Pods", 1, 60), Policy("Percent", 50, 60)), 300)
    assert limit_down(8, both, [], now=100) == 4
    assert limit_down(8, Rules(both.policies, 300, "Min"), [], now=100) == 7
    assert limit_down(8, Rules(both.policies, 300, "Disabled"), [], now=100) == 8


def test_an_hpa_over_time() -> None:
    """By hand: 1 -> 5 -> 8 (at most) in two periods, then held for 300 s, then one pod a minute."""
    hpa = Hpa(Scaler(target=32, maximum=8, down=Rules((Policy("Pods", 1, 60),), 300)))
    replicas, seen = 1, []
    for period in range(40):
        value = 1000 if period < 2 else 0
        replicas = hpa.decide(period * 15.0, replicas, value)
        seen.append(replicas)
    assert seen[:3] == [5, 8, 8]
    last_high = 1
    quiet = 300 // 15
    assert seen[last_high + quiet - 1] == 8
    assert seen[last_high + quiet] == 7
    assert seen[last_high + quiet + 4] == 6
    assert hpa.decide(700, 0, 1000) == 0  # none there: not the HPA's business


def test_keda_goes_from_zero_and_back() -> None:
    """Active starts one; inactive ends all of them, but only after the cooldown; an error changes nothing."""
    keda = Keda(Scaler(target=32, cooldown_s=300))
    assert keda.decide(0, 0, 0) == 0
    assert keda.decide(5, 0, 1) == 1
    assert keda.decide(10, 4, 0) == 4
    assert keda.decide(305, 4, 0) == 4
    assert keda.decide(310, 4, None) == 4
    assert keda.decide(310, 4, 0) == 0


def test_keda_without_a_last_activity_does_not_wait() -> None:
    """Scaled by hand while idle: KEDA has seen no activity, so no cooldown holds the pods."""
    assert Keda(Scaler(target=32)).decide(0, 3, 0) == 0


def test_keda_keeps_a_minimum() -> None:
    """With a minimum of one, one stays."""
    keda = Keda(Scaler(target=64, minimum=1))
    assert keda.decide(0, 0, 0) == 1
    assert keda.decide(10_000, 1, 0) == 1
