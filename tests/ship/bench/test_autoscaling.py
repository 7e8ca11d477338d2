from __future__ import annotations

from typing import Any

import pytest

from tests.ship.bench.cluster.autoscaling import Reading, ScaledObject

SPEC: dict[str, Any] = {
    "maxReplicaCount": 8,
    "pollingInterval": 5,
    "cooldownPeriod": 60,
    "fallback": {"failureThreshold": 3, "replicas": 1, "behavior": "currentReplicasIfHigher"},
}
IDLE, BUSY = Reading(0.0, 32, 0, True), Reading(320.0, 32, 0, True)
SILENT = Reading(None, 60, 60, False)


def failing(spec: dict[str, Any], times: int) -> ScaledObject:
    """Return a ScaledObject whose second trigger has failed so often."""
    scaled = ScaledObject(spec)
    for _ in range(times):
        scaled.count_failures([IDLE, SILENT])
    return scaled


def test_without_work_nobody_stays() -> None:
    """The last worker goes after the cooldown, counted from the last activity."""
    scaled = ScaledObject(SPEC)
    assert scaled.poll(0, 0, [BUSY]) == 1
    assert scaled.poll(60, 1, [IDLE]) == 1
    assert scaled.poll(61, 1, [IDLE]) == 0


@pytest.mark.parametrize("times", [1, 4])
def test_a_silent_trigger_pins_what_runs(times: int) -> None:
    """KEDA does not scale to zero while one fails, nor the HPA down, however high another is."""
    scaled = failing(SPEC, times)
    assert scaled.poll(1000, 3, [IDLE, SILENT]) == 3
    assert scaled.synchronise(1000, 3, 3, [IDLE, SILENT]) == 3
    assert scaled.synchronise(1015, 3, 3, [BUSY, SILENT]) > 3


@pytest.mark.parametrize(("times", "replicas"), [(3, 0), (4, 1)])
def test_a_fallback_starts_the_first_worker(times: int, replicas: int) -> None:
    """Once a trigger has failed more often than the threshold, and not before."""
    scaled = failing(SPEC, times)
    assert scaled.is_falling_back == bool(replicas)
    assert scaled.poll(0, 0, [IDLE, SILENT]) == replicas


def test_one_success_ends_the_fallback() -> None:
    """Failures count in a row."""
    scaled = failing(SPEC, 4)
    scaled.count_failures([IDLE, Reading(1.0, 60, 60, False)])
    assert not scaled.is_falling_back


def test_without_a_fallback_a_silent_trigger_still_pins() -> None:
    """Only the start from zero is the fallback's."""
    scaled = failing({key: value for key, value in SPEC.items() if key != "fallback"}, 9)
    assert scaled.poll(0, 0, [IDLE, SILENT]) == 0
    assert scaled.poll(1000, 3, [IDLE, SILENT]) == 3
    assert scaled.synchronise(1000, 3, 3, [IDLE, SILENT]) == 3
