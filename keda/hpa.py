"""Decisions of KEDA and the HPA as pure functions of values and times: metric -> replicas.

Sources: KEDA 2.20.2 (pkg/scaling/executor/scale_scaledobjects.go, pkg/scaling/scale_handler.go) and Kubernetes
(pkg/controller/podautoscaler: replica_calculator.go, horizontal.go; pkg/apis/autoscaling/v2/defaults.go). Each
function names the one it follows. Times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TOLERANCE = 0.1
"""kube-controller-manager's default; a deviation of the metric up to this changes nothing."""
HPA_PERIOD_S = 15.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Maximum change within a period."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: int


@dataclass(frozen=True, slots=True)
class Rules:
    """`behavior.scaleUp` or `behavior.scaleDown` of an HPA."""

    policies: tuple[Policy, ...]
    window_s: float
    select: Literal["Max", "Min", "Disabled"] = "Max"


DEFAULT_UP = Rules((Policy("Pods", 4, 15), Policy("Percent", 100, 15)), 0)
DEFAULT_DOWN = Rules((Policy("Percent", 100, 15),), 300)


@dataclass(frozen=True, slots=True)
class Scaler:
    """A ScaledObject with one AverageValue trigger."""

    target: float
    minimum: int = 0
    maximum: int = 8
    polling_s: float = 5.0
    cooldown_s: float = 300.0
    activation: float = 0.0
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN


@dataclass(frozen=True, slots=True)
class Event:
    """A past change of the number of replicas."""

    at: float
    change: int


def replicas_by_average(value: float, target: float, replicas: int, tolerance: float = TOLERANCE) -> int:
    """Return the replicas for a metric of type AverageValue (GetExternalPerPodMetricReplicas)."""
    if abs(value / (target * replicas) - 1.0) <= tolerance:
        return replicas
    return math.ceil(value / target)


def replicas_by_value(value: float, target: float, replicas: int, ready: int, tolerance: float = TOLERANCE) -> int:
    """Return the replicas for a metric of type Value (getUsageRatioReplicaCount), which grows with ready pods."""
    ratio = value / target
    if abs(ratio - 1.0) <= tolerance:
        return replicas
    return math.ceil(ratio * ready)


def stabilise(
    current: int, recommended: int, past: Sequence[tuple[float, int]], now: float, windows_s: tuple[float, float]
) -> int:
    """Limit a recommendation to the minimum of the up window and the maximum of the down window.

    (stabilizeRecommendationWithBehaviors)

    Args:
        current: replicas now.
        recommended: the current recommendation.
        past: earlier recommendations, (time, replicas).
        now: the time.
        windows_s: scale-up and scale-down window.
    """
    up_s, down_s = windows_s
    up = min([recommended, *(n for at, n in past if at > now - up_s)])
    down = max([recommended, *(n for at, n in past if at > now - down_s)])
    return min(max(current, up), down)


def limit_up(current: int, rules: Rules, events: Sequence[Event], now: float) -> int:
    """Return the maximum replicas that the policies allow now (calculateScaleUpLimitWithScalingRules)."""
    if rules.select == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = current - _changed(events, policy.period_s, now)
        grown = start + policy.value if policy.kind == "Pods" else math.ceil(start * (1 + policy.value / 100))
        limits.append(grown)
    return max(limits) if rules.select == "Max" else min(limits)


def limit_down(current: int, rules: Rules, events: Sequence[Event], now: float) -> int:
    """Return the minimum replicas that the policies allow now (calculateScaleDownLimitWithBehaviors)."""
    if rules.select == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = current - _changed(events, policy.period_s, now)
        shrunk = start - policy.value if policy.kind == "Pods" else int(start * (1 - policy.value / 100))
        limits.append(shrunk)
    return min(limits) if rules.select == "Max" else max(limits)


def _changed(events: Sequence[Event], period_s: float, now: float) -> int:
    return sum(event.change for event in events if event.at > now - period_s)


class Hpa:
    """The HPA of one ScaledObject, with its past recommendations and changes."""

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self._past: list[tuple[float, int]] = []
        self._events: list[Event] = []

    def decide(self, now: float, replicas: int, value: float) -> int:
        """Return the new number of replicas; zero stays zero, since KEDA scales from zero.

        Args:
            now: the time.
            replicas: replicas that the Deployment requests now.
            value: the metric.
        """
        if replicas == 0:
            return 0
        return self.follow(now, replicas, replicas_by_average(value, self._scaler.target, replicas))

    def follow(self, now: float, replicas: int, recommended: int) -> int:
        """Return the new number of replicas for the one that the metrics recommend, within windows and policies.

        Args:
            now: the time.
            replicas: replicas that the Deployment requests now, at least one.
            recommended: the highest that a metric proposes.
        """
        scaler = self._scaler
        floor = max(scaler.minimum, 1)
        windows_s = (scaler.up.window_s, scaler.down.window_s)
        steady = stabilise(replicas, recommended, self._past, now, windows_s)
        self._past = [(at, n) for at, n in self._past if at > now - 3600] + [(now, recommended)]
        if steady > replicas:
            steady = min(steady, limit_up(replicas, scaler.up, self._events, now))
        elif steady < replicas:
            steady = max(steady, limit_down(replicas, scaler.down, self._events, now))
        steady = min(max(steady, floor), scaler.maximum)
        if steady != replicas:
            self._events = [e for e in self._events if e.at > now - 3600] + [Event(now, steady - replicas)]
        return steady


class Keda:
    """KEDA's loop: from zero, and back to zero (RequestScale, scaleFromZeroOrIdle, scaleToZeroOrIdle)."""

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self._last_active: float | None = None

    def decide(self, now: float, replicas: int, value: float | None) -> int:
        """Return the new number of replicas.

        Args:
            now: the time.
            replicas: replicas that the Deployment requests now.
            value: the metric; None if the scaler failed, which does not scale to zero.
        """
        scaler = self._scaler
        if value is None:
            return replicas
        if value > scaler.activation:
            self._last_active = now
            return max(scaler.minimum, 1) if replicas == 0 else replicas
        if replicas and scaler.minimum == 0:
            cooled = self._last_active is None or self._last_active + scaler.cooldown_s < now
            return 0 if cooled else replicas
        return max(replicas, scaler.minimum)
