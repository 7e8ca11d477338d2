"""Simulates a ScaledObject under a load, in virtual time: replicas, backlog, waits, GPU-hours.

    python -m keda.simulate --trace office --shards-per-replica 32 --cold-start 90

The decisions are KEDA's and the HPA's (keda/hpa.py). The simulated cluster: pods with a start-up time, workers that
hold up to `slots` shards and finish `rate` shards per second, drains that finish their shards within the grace
period, and spot nodes that vanish without notice, whose shards return when their lease ends.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from keda.hpa import DEFAULT_UP, HPA_PERIOD_S, Hpa, Keda, Policy, Rules, Scaler

TICK_S = 1.0
HOUR_S = 3600.0
CHART_DOWN = Rules((Policy("Pods", 1, 60),), 300)


@dataclass(frozen=True, slots=True)
class World:
    """The cluster and its workers.

    Attributes:
        cold_start_s: time from a pod's creation to its readiness: node, image, model, warm-up.
        rate: shards that one worker finishes per second.
        slots: shards that one worker holds at once.
        grace_s: time for a worker to finish its shards after SIGTERM.
        lease_s: time until the shards of a vanished worker return.
        spot_losses_per_hour: losses per worker.
        spot_notice: the node gives two minutes' notice, so that the worker drains.
    """

    cold_start_s: float = 90.0
    rate: float = 2.0
    slots: int = 32
    grace_s: float = 60.0
    lease_s: float = 60.0
    spot_losses_per_hour: float = 0.0
    spot_notice: bool = False


@dataclass
class _Pod:
    created: float
    ready: float
    shards: deque[float] = field(default_factory=deque)  # arrival times
    work: float = 0.0
    stop_by: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The state at the end of a tick."""

    at: float
    replicas: int
    running: int
    backlog: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a trace.

    Attributes:
        waits: time from arrival to finish of every shard (seconds).
        first_s: time from the first arrival to the first finished shard.
        gpu_hours: lifetime of all pods.
        killed_busy: shards that a drain could not finish and returned.
        drained_busy: shards held by workers when they had to stop.
        lost: shards whose worker vanished; they ran again.
        unfinished: shards still open at the end.
    """

    samples: tuple[Sample, ...]
    waits: tuple[float, ...]
    first_s: float
    gpu_hours: float
    killed_busy: int
    drained_busy: int
    lost: int
    unfinished: int

    @property
    def peak(self) -> int:
        """Maximum number of pods at once."""
        return max((sample.running for sample in self.samples), default=0)

    def wait_quantile(self, quantile: float) -> float:
        """Return a quantile of the waits."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else math.nan


class Simulation:
    """One trace under one scaler in one world."""

    def __init__(self, scaler: Scaler, world: World, seed: int = 1) -> None:
        self._world = world
        self._keda, self._hpa, self._scaler = Keda(scaler), Hpa(scaler), scaler
        self._random = random.Random(seed)
        self._queue: deque[float] = deque()
        self._returning: list[tuple[float, float]] = []  # when, arrival
        self._pods: list[_Pod] = []
        self._replicas = scaler.minimum
        self._waits: list[float] = []
        self._seconds = 0.0
        self._first: float | None = None
        self._killed = self._drained = self._lost = 0

    def run(self, arrivals: Sequence[int], more_s: float = HOUR_S) -> Outcome:
        """Play a trace: `arrivals[n]` shards arrive in second n; then nothing for `more_s`."""
        samples = []
        for tick in range(len(arrivals) + int(more_s)):
            now = tick * TICK_S
            coming = arrivals[tick] if tick < len(arrivals) else 0
            self._queue.extend([now] * coming)
            self._scale(now)
            self._reconcile(now)
            self._spot(now)
            self._work(now)
            running = len(self._pods)
            self._seconds += running * TICK_S
            samples.append(Sample(now, self._replicas, running, self.count_open_shards()))
        began = next((at for at, count in enumerate(arrivals) if count), 0)
        first = (self._first if self._first is not None else math.nan) - began
        return Outcome(
            samples=tuple(samples),
            waits=tuple(self._waits),
            first_s=first,
            gpu_hours=self._seconds / HOUR_S,
            killed_busy=self._killed,
            drained_busy=self._drained,
            lost=self._lost,
            unfinished=self.count_open_shards(),
        )

    def count_open_shards(self) -> int:
        """Return the ZCARD of the open set: shards waiting, held, or with a lease that has not ended."""
        return len(self._queue) + sum(len(pod.shards) for pod in self._pods) + len(self._returning)

    def _scale(self, now: float) -> None:
        if now % self._scaler.polling_s == 0:
            self._replicas = self._keda.decide(now, self._replicas, self.count_open_shards())
        if now % HPA_PERIOD_S == 0:
            self._replicas = self._hpa.decide(now, self._replicas, self.count_open_shards())

    def _reconcile(self, now: float) -> None:
        staying = [pod for pod in self._pods if pod.stop_by is None]
        for _ in range(self._replicas - len(staying)):
            self._pods.append(_Pod(now, now + self._world.cold_start_s))
        # A ReplicaSet deletes pods that are not ready first, then the youngest; it does not know which are busy.
        victims = sorted(staying, key=lambda pod: (pod.ready > now, pod.created), reverse=True)
        for pod in victims[: max(0, len(staying) - self._replicas)]:
            self._stop(pod, now)

    def _stop(self, pod: _Pod, now: float) -> None:
        pod.stop_by = now + self._world.grace_s
        self._drained += len(pod.shards)

    def _spot(self, now: float) -> None:
        chance = self._world.spot_losses_per_hour * TICK_S / HOUR_S
        for pod in list(self._pods):
            if chance and pod.stop_by is None and self._random.random() < chance:
                if self._world.spot_notice:
                    self._stop(pod, now)
                    continue
                self._lost += len(pod.shards)
                self._returning += [(now + self._world.lease_s, arrival) for arrival in pod.shards]
                self._pods.remove(pod)

    def _work(self, now: float) -> None:
        back = [arrival for at, arrival in self._returning if at <= now]
        self._returning = [(at, arrival) for at, arrival in self._returning if at > now]
        self._queue.extendleft(sorted(back, reverse=True))
        for pod in list(self._pods):
            if pod.ready > now:
                if pod.stop_by is not None:
                    self._pods.remove(pod)
                continue
            while pod.stop_by is None and self._queue and len(pod.shards) < self._world.slots:
                pod.shards.append(self._queue.popleft())
            self._finish(pod, now)
            if pod.stop_by is not None and (not pod.shards or now >= pod.stop_by):
                self._killed += len(pod.shards)
                self._queue.extendleft(reversed(pod.shards))
                self._pods.remove(pod)

    def _finish(self, pod: _Pod, now: float) -> None:
        pod.work = min(pod.work, 1.0) + self._world.rate * TICK_S if pod.shards else 0.0
        while pod.shards and pod.work >= 1:
            pod.work -= 1
            self._waits.append(now + TICK_S - pod.shards.popleft())
            self._first = self._first if self._first is not None else now + TICK_S


# Loads


def burst_trace(seed: int) -> list[int]:
    """Return nothing, then 2,000 shards at once."""
    return [0] * 60 + [2000] + [0] * 59


def office_trace(seed: int) -> list[int]:
    """Return a day: few jobs at night, most from 8 to 18 with a peak at 13, each of a few to 200 shards."""
    source = random.Random(seed)
    trace = []
    for second in range(24 * 3600):
        hour = second / HOUR_S
        hill = max(0.0, math.sin((hour - 8) / 10 * math.pi)) if 8 <= hour <= 18 else 0.0
        jobs = source.random() < (0.0005 + 0.02 * hill)
        trace.append(min(200, int(source.paretovariate(0.9) * 5)) if jobs else 0)
    return trace


def nightly_trace(seed: int) -> list[int]:
    """Return half a day with one large job of 20,000 shards."""
    return [20_000 if second == 2 * 3600 else 0 for second in range(12 * 3600)]


def trickle_trace(seed: int) -> list[int]:
    """Return single shards ten minutes apart on average, which keep a worker from scaling to zero."""
    source = random.Random(seed)
    return [int(source.random() < 1 / 600) for _ in range(12 * 3600)]


TRACES: dict[str, Callable[[int], list[int]]] = {
    "burst": burst_trace,
    "office": office_trace,
    "nightly": nightly_trace,
    "trickle": trickle_trace,
}


# Showing


def format_summary(name: str, outcome: Outcome) -> str:
    """Return a line of the table."""
    hours = len(outcome.samples) / HOUR_S
    fixed = outcome.peak * hours
    waits = " ".join(f"{outcome.wait_quantile(q):7.0f}" for q in (0.5, 0.95, 0.99))
    saved = f"{1 - outcome.gpu_hours / fixed:5.0%}" if fixed else "    -"
    return (
        f"{name:9} {waits} {outcome.first_s:7.0f} {outcome.peak:5d} {outcome.gpu_hours:8.2f} {fixed:8.2f} {saved}"
        f" {outcome.killed_busy:7d} {outcome.lost:6d} {outcome.unfinished:6d}"
    )


HEAD = (
    f"{'load':9} {'p50 s':>7} {'p95 s':>7} {'p99 s':>7} {'first s':>7} {'peak':>5} {'GPU h':>8} {'fixed h':>8}"
    f" saved {'cut off':>7} {'lost':>6} {'open':>6}"
)


def draw_plot(outcome: Outcome, width: int = 100, height: int = 8) -> str:
    """Draw replicas and backlog over time, for a terminal."""
    step = max(1, len(outcome.samples) // width)
    parts = [outcome.samples[at : at + step] for at in range(0, len(outcome.samples), step)]
    replicas = [max(sample.running for sample in part) for part in parts]
    backlog = [max(sample.backlog for sample in part) for part in parts]
    return "\n".join([*_draw_bars("pods", replicas, height), *_draw_bars("backlog", backlog, height)])


def _draw_bars(title: str, values: list[int], height: int) -> Iterator[str]:
    top = max(values) or 1
    yield f"{title}, at most {max(values)}"
    for level in range(height, 0, -1):
        yield "".join("█" if value / top * height >= level - 0.5 and value else " " for value in values).rstrip()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trace", choices=TRACES, action="append", help="load; may be given again (default: all)")
    parser.add_argument("--shards-per-replica", type=float, default=32, help="listLength")
    parser.add_argument("--polling", type=float, default=5, help="pollingInterval")
    parser.add_argument("--cooldown", type=float, default=300, help="cooldownPeriod")
    parser.add_argument("--min", type=int, default=0, help="minReplicaCount")
    parser.add_argument("--max", type=int, default=8, help="maxReplicaCount")
    parser.add_argument("--cold-start", type=float, default=90, help="seconds from pod to ready")
    parser.add_argument("--rate", type=float, default=2.0, help="shards per second and worker")
    parser.add_argument("--slots", type=int, default=32, help="GLEANER_WORKER_SLOTS")
    parser.add_argument("--spot-losses", type=float, default=0.0, help="vanished nodes per hour and worker")
    parser.add_argument("--plot", action="store_true", help="draw pods and backlog over time")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    scaler = Scaler(
        target=options.shards_per_replica,
        minimum=options.min,
        maximum=options.max,
        polling_s=options.polling,
        cooldown_s=options.cooldown,
        up=DEFAULT_UP,
        down=CHART_DOWN,
    )
    world = World(options.cold_start, options.rate, options.slots, spot_losses_per_hour=options.spot_losses)
    print(HEAD)
    for name in options.trace or TRACES:
        outcome = Simulation(scaler, world, options.seed).run(TRACES[name](options.seed))
        print(format_summary(name, outcome))
        if options.plot:
            print(draw_plot(outcome))


if __name__ == "__main__":
    main()
