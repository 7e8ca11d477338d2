from __future__ import annotations

from typing import Any

import pytest

from tests.ship.bench.cluster.rolling import Change, PodState, count_disruptions, plan_deployment, plan_stateful_set


def pods(kind: str, ready: int, not_ready: int = 0) -> list[PodState]:
    """Return `new` or `old` pods; the ready ones are older."""
    return [PodState(f"{kind}-{n}", kind == "new", n < ready, float(n)) for n in range(ready + not_ready)]


def spec(replicas: int, surge: object, unavailable: object) -> dict[str, Any]:
    """Return a Deployment's spec."""
    return {"replicas": replicas, "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}


@pytest.mark.parametrize(
    ("surge", "unavailable", "present", "change"),
    [
        (1, 0, pods("old", 3), Change(create=1)),
        (1, 0, [*pods("old", 3), *pods("new", 0, 1)], Change()),
        (1, 0, [*pods("old", 3), *pods("new", 1)], Change(delete=("old-2",))),
        (0, 1, pods("old", 3), Change(delete=("old-2",))),
        (0, 1, pods("old", 2), Change(create=1)),
        (0, 1, [*pods("old", 2), *pods("new", 0, 1)], Change()),
        (1, 0, [*pods("old", 2, 1), *pods("new", 0, 1)], Change()),
        ("50%", "50%", pods("old", 3), Change(create=2, delete=("old-2",))),
        (0, 0, pods("old", 3), Change(delete=("old-2",))),
        (1, 0, pods("new", 5), Change(delete=("new-4", "new-3"))),
        (1, 0, pods("new", 3, 2), Change(delete=("new-4", "new-3"))),
    ],
)  # fmt: skip
def test_a_rolling_update_keeps_its_bounds(
    surge: object, unavailable: object, present: list[PodState], change: Change
) -> None:
    """Never more than replicas + surge, never fewer ready pods than replicas - unavailable."""
    assert plan_deployment(spec(3, surge, unavailable), present, terminating=0) == change


def test_recreate_waits_for_the_end_of_the_old_pods() -> None:
    """No old pod runs next to a new one."""
    recreate = {"replicas": 1, "strategy": {"type": "Recreate"}}
    assert plan_deployment(recreate, pods("old", 1), 0) == Change(delete=("old-0",))
    assert plan_deployment(recreate, [], 1) == Change()
    assert plan_deployment(recreate, [], 0) == Change(create=1)


@pytest.mark.parametrize(
    ("present", "terminating", "change"),
    [
        ([], [], Change(create=1)),
        ([PodState("s-0", True, False, 0)], [], Change()),
        ([PodState("s-0", True, True, 0)], [], Change(create=2)),
        ([PodState("s-0", False, True, 0), PodState("s-1", False, True, 0)], [], Change(delete=("s-1",))),
        ([PodState("s-0", False, True, 0)], ["s-1"], Change()),
        ([PodState("s-0", False, True, 0), PodState("s-1", True, False, 0)], [], Change()),
        ([PodState("s-0", False, True, 0), PodState("s-1", True, True, 0)], [], Change(delete=("s-0",))),
    ],
)
def test_a_stateful_set_changes_one_pod_at_a_time(
    present: list[PodState], terminating: list[str], change: Change
) -> None:
    """Pods are created in order and replaced from the last one."""
    assert plan_stateful_set(["s-0", "s-1"], present, terminating) == change


@pytest.mark.parametrize(
    ("budget", "expected", "healthy", "allowed"),
    [
        ({"maxUnavailable": 0}, 1, 1, 0), ({"maxUnavailable": 1}, 1, 1, 1), ({"maxUnavailable": 1}, 3, 2, 0),
        ({"maxUnavailable": "50%"}, 3, 3, 2), ({"minAvailable": 2}, 3, 3, 1),
    ],
)  # fmt: skip
def test_a_budget_counts_what_is_missing_already(
    budget: dict[str, Any], expected: int, healthy: int, allowed: int
) -> None:
    """Pods that are away for another reason use it up."""
    assert count_disruptions(budget, expected, healthy) == allowed
