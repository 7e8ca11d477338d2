"""KEDA's operator and the HPA over a bench cluster: the rendered ScaledObjects, triggers read where they point to.

The arithmetic is that of keda/hpa.py. In addition several triggers, and failing ones, as in KEDA 2.20.2
(pkg/scaling/executor/scale_scaledobjects.go, pkg/fallback) and in the HPA controller (computeReplicasForMetrics).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from keda.hpa import HPA_PERIOD_S, Hpa, Keda, Policy, Rules, Scaler, replicas_by_average, replicas_by_value
from tests.ship.bench.cluster.cluster import Cluster
from tests.ship.bench.cluster.containers import ConfigError, read_data

SIZE_QUERY = """
local kind = redis.call('type', KEYS[1]).ok
local ask = {zset = 'zcard', set = 'scard', list = 'llen', hash = 'hlen', none = 'llen'}
return redis.call(ask[kind], KEYS[1])
"""
"""Script of KEDA's redis scaler: the size of the key, of any type (pkg/scalers/redis_scaler.go, 2.20.2)."""
Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """A trigger's value, None if it failed, and its targets."""

    value: float | None
    target: float
    activation: float
    average: bool


class Operator:
    """Scales the targets of a cluster's ScaledObjects; its `step` is one of the cluster's controllers.

    Attributes:
        peaks: most replicas that were wanted, by target.
        fallbacks: ScaledObjects of which a trigger has failed often enough.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._scalers = cluster, dict[str, ScaledObject]()
        self.peaks: dict[str, int] = {}
        self._paused = False
        self.fallbacks: set[str] = set()
        cluster.controllers.append(self.step)

    def step(self) -> None:
        """Poll what is due, and scale."""
        if self._paused:
            return
        for (kind, name), manifest in list(self._cluster.objects.items()):
            if kind == "HorizontalPodAutoscaler":
                self._keep_minimum(manifest)
            if kind != "ScaledObject":
                continue
            scaled = self._scalers.get(name)
            if scaled is None or scaled.spec != manifest["spec"]:
                scaled = self._scalers[name] = ScaledObject(manifest["spec"])
            self._scale(name, scaled)
        for name in set(self._scalers) - {key[1] for key in self._cluster.objects if key[0] == "ScaledObject"}:
            del self._scalers[name]
            self.fallbacks.discard(name)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Do nothing until the block ends, as if KEDA were away."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def read_triggers(self, spec: Manifest) -> list[Reading]:
        """Ask every trigger of a ScaledObject."""
        return [self._read(trigger) for trigger in spec["triggers"]]

    def _scale(self, name: str, scaled: ScaledObject) -> None:
        key = ("Deployment", scaled.spec["scaleTargetRef"]["name"])
        target, now = self._cluster.objects.get(key), self._cluster.clock.now()
        polls, syncs = scaled.take_turns(now)
        if target is None or not (polls or syncs):
            return
        replicas = int(target["spec"].get("replicas", 1))
        readings = self.read_triggers(scaled.spec)
        scaled.count_failures(readings)
        wanted = replicas
        if polls:
            wanted = scaled.poll(now, wanted, readings)
        if syncs:
            ready = sum(pod.ready for pod in self._cluster.list_pods() if pod.owner == key)
            wanted = scaled.synchronise(now, wanted, ready, readings)
        (self.fallbacks.add if scaled.is_falling_back else self.fallbacks.discard)(name)
        self.peaks[key[1]] = max(self.peaks.get(key[1], 0), wanted)
        if wanted != replicas:
            self._cluster.scale(*key, wanted)

    def _keep_minimum(self, manifest: Manifest) -> None:
        """Do what an HPA does before it has any metric: keep the minimum."""
        target = manifest["spec"]["scaleTargetRef"]
        key = (target["kind"], target["name"])
        minimum = int(manifest["spec"].get("minReplicas", 1))
        if key in self._cluster.objects and self._cluster.objects[key]["spec"].get("replicas", 1) < minimum:
            self._cluster.scale(*key, minimum)

    def _read(self, trigger: Manifest) -> Reading:
        metadata = trigger["metadata"]
        average = trigger.get("metricType", "AverageValue") == "AverageValue"
        if trigger["type"] == "redis":
            target, activation = float(metadata["listLength"]), float(metadata.get("activationListLength", 0))
            return Reading(self._read_redis(trigger), target, activation, average)
        assert trigger["type"] == "prometheus", trigger
        target, activation = float(metadata["threshold"]), float(metadata.get("activationThreshold", 0))
        return Reading(self._read_prometheus(metadata), target, activation, average)

    def _read_redis(self, trigger: Manifest) -> float | None:
        metadata = trigger["metadata"]
        host, _, port = self._cluster.network.localise(metadata["address"]).partition(":")
        try:
            login = self._read_login(trigger)
            with redis.Redis(
                host, int(port), int(metadata["databaseIndex"]),
                username=metadata.get("username"), password=login.get("password"),
                socket_timeout=3, socket_connect_timeout=3, retry=Retry(NoBackoff(), 0),
            ) as client:  # fmt: skip
                return float(client.eval(SIZE_QUERY, 1, metadata["listName"]))
        except (redis.RedisError, ConfigError, KeyError):
            return None

    def _read_login(self, trigger: Manifest) -> dict[str, str]:
        """Return the parameters of a trigger's TriggerAuthentication."""
        reference, objects = trigger.get("authenticationRef"), self._cluster.objects
        if reference is None:
            return {}
        entries = objects["TriggerAuthentication", reference["name"]]["spec"]["secretTargetRef"]
        return {e["parameter"]: read_data("Secret", e["name"], objects)[e["key"]] for e in entries}

    def _read_prometheus(self, metadata: Manifest) -> float | None:
        try:
            answer = httpx.get(
                f"{metadata['serverAddress']}/api/v1/query",
                params={"query": metadata["query"]},
                timeout=3,
                trust_env=False,
            )
            result = answer.raise_for_status().json()["data"]["result"]
        except (httpx.HTTPError, KeyError, ValueError):
            return None
        if not result:
            return 0.0 if metadata.get("ignoreNullValues", "true") == "true" else None
        return float(result[0]["value"][1])


@dataclass
class ScaledObject:
    """The state that KEDA and its HPA keep for a ScaledObject."""

    spec: Manifest
    failures: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scaler = read_scaler(self.spec)
        self._fallback: Manifest = self.spec.get("fallback") or {}
        self._keda, self._hpa = Keda(self.scaler), Hpa(self.scaler)
        self._polled = self._synced = -1

    @property
    def is_falling_back(self) -> bool:
        """Return whether a trigger has failed more often than the fallback's threshold."""
        return any(self._falls_back(number) for number in self.failures)

    def take_turns(self, now: float) -> tuple[bool, bool]:
        """Return whether KEDA's poll and the HPA's period are due, and note both."""
        polled, synced = int(now // self.scaler.polling_s), int(now // HPA_PERIOD_S)
        due = polled > self._polled, synced > self._synced
        self._polled, self._synced = polled, synced
        return due

    def count_failures(self, readings: list[Reading]) -> None:
        """Count failures in a row of each trigger."""
        for number, reading in enumerate(readings):
            self.failures[number] = self.failures.get(number, 0) + 1 if reading.value is None else 0

    def poll(self, now: float, replicas: int, readings: list[Reading]) -> int:
        """Return KEDA's decision: from zero, and back to it unless a trigger fails (RequestScale)."""
        values = [reading.value for reading in readings]
        active = any(r.value is not None and r.value > r.activation for r in readings)
        if active or None not in values:
            return self._keda.decide(now, replicas, 1.0 if active else 0.0)
        return max(replicas, self._fallback.get("replicas", 0)) if self.is_falling_back else replicas

    def synchronise(self, now: float, replicas: int, ready: int, readings: list[Reading]) -> int:
        """Return the HPA's decision: the highest of what its metrics propose; failing ones forbid to scale down."""
        if replicas == 0:
            return 0
        proposals = []
        for number, reading in enumerate(readings):
            if reading.value is not None:
                propose = replicas_by_average if reading.average else replicas_by_value
                arguments = (replicas,) if reading.average else (replicas, ready)
                proposals.append(propose(reading.value, reading.target, *arguments))  # type: ignore[operator]
            elif self._falls_back(number):
                proposals.append(max(replicas, self._fallback["replicas"]))
        if not proposals or (len(proposals) < len(readings) and max(proposals) < replicas):
            return replicas
        return self._hpa.follow(now, replicas, max(proposals))

    def _falls_back(self, number: int) -> bool:
        return self.failures.get(number, 0) > self._fallback.get("failureThreshold", math.inf)


def read_scaler(spec: Manifest) -> Scaler:
    """Return a ScaledObject's values; defaults are KEDA's."""
    behavior = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
    rules = {
        key: _read_rules(behavior[source])
        for key, source in (("up", "scaleUp"), ("down", "scaleDown"))
        if source in behavior
    }
    return Scaler(
        target=1.0,
        minimum=spec.get("minReplicaCount", 0),
        maximum=spec.get("maxReplicaCount", 100),
        polling_s=spec.get("pollingInterval", 30),
        cooldown_s=spec.get("cooldownPeriod", 300),
        **rules,
    )


def _read_rules(rules: Manifest) -> Rules:
    policies = tuple(Policy(p["type"], p["value"], p["periodSeconds"]) for p in rules["policies"])
    return Rules(policies, rules.get("stabilizationWindowSeconds", 0), rules.get("selectPolicy", "Max"))
