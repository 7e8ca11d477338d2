"""`make gameday`: six faults, one after the other; which alerts fire, how soon, and whether any other page does.

Every wait of the rules is cut to a second; ranges and thresholds are the real ones.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.conftest import TOOLS
from tests.operations.conftest import MARKER, WEBHOOKS, Watched
from tests.support.processes.harness import ServiceHarness, wait_for
from tests.support.processes.monitoring import monitoring
from tests.support.servers.receivers import receiving


@dataclass
class InjectedFault:
    """A fault to inject.

    Attributes:
        expected: the alert that must fire.
        within_s: its deadline, in seconds after the fault.
        related: pages that may fire with it.
        strike: causes the fault.
    """

    name: str
    expected: str
    within_s: float
    strike: Callable[[Watched], None]
    related: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Outcome:
    """Result of a fault."""

    fault: InjectedFault
    after_s: float | None
    unrelated: frozenset[str]

    @property
    def good(self) -> bool:
        """The alert fired in time, and no unrelated page did."""
        return self.after_s is not None and self.after_s <= self.fault.within_s and not self.unrelated


def kill_worker(watched: Watched) -> None:
    """Kill the only worker while shards are open."""
    watched.harness.end("worker")
    watched.submit([f"{MARKER} waits"])


def stop_store(watched: Watched) -> None:
    """Redis is gone."""
    watched.harness.server.kill()


def poison(watched: Watched) -> None:
    """Documents that the model cannot bear."""
    for _ in range(3):
        watched.submit([f"{MARKER} is well", f"{MARKER} FAULTERROR", f"{MARKER} FAULTERROR"])
        time.sleep(2)


def slow_receiver(watched: Watched) -> None:
    """Deliver many jobs to a receiver that answers late."""
    watched.receiver.gate.clear()
    for _ in range(12):
        watched.submit([f"{MARKER} tells"], webhook={"url": watched.receiver.url("/gate")})


def flood(watched: Watched) -> None:
    """More work than the worker does in hours, and more every moment, once its rate has been measured."""
    for _ in range(8):
        watched.ended(watched.submit([f"{MARKER} met Ada Lovelace"]))
        time.sleep(1)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        watched.submit([f"{MARKER} FAULTSLOW " + "and so on " * 2000] * 40, priority="standard")
        if "GleanerBacklogGrowing" in watched.monitoring.firing():
            return


def wrong_model(watched: Watched) -> None:
    """Replace the worker by one whose model does not exist."""
    for child in watched.harness.of("worker"):
        child.drain()
    watched.harness.worker(TEST_LOAD_FAILS="no such folder")


FAULTS = (
    InjectedFault("worker killed", "GleanerNoWorker", 60, kill_worker),
    InjectedFault("Redis stopped", "GleanerRedisDown", 30, stop_store, {"GleanerErrorRatioHigh"}),
    InjectedFault("poison documents", "GleanerPoisonDocuments", 60, poison, {"GleanerDocumentSuccessBurnFast"}),
    InjectedFault("slow receiver", "GleanerWebhookReceiversSlow", 90, slow_receiver),
    InjectedFault("backlog flood", "GleanerBacklogGrowing", 90, flood),
    InjectedFault("wrong model path", "GleanerModelReloadLoop", 60, wrong_model, {"GleanerNoWorker"}),
)


def tool(name: str) -> Path:
    """Return a program that `make tools` installed."""
    return Path(shutil.which(name, path=str(TOOLS)) or shutil.which(name) or name)


@contextmanager
def a_service(directory: Path) -> Iterator[Watched]:
    """Start a fresh service that has worked for a moment, and monitor it."""
    harness = ServiceHarness()
    harness.settings |= WEBHOOKS
    try:
        with receiving() as receiver, monitoring(tool, directory, receiver.url("")) as watch:
            gateway = harness.gateway()
            for child in (gateway, harness.worker(TEST_SLOW_S="20"), harness.courier()):
                child.wait_ready()
            watch.watch(harness)
            wait_for(lambda: len(watch.query("up == 1")) == 3, 30, "all three are scraped")
            watched = Watched(harness, watch, receiver, gateway.url)
            for _ in range(5):
                watched.ended(
                    watched.submit([f"{MARKER} met Ada Lovelace"], webhook={"url": receiver.url("/hook")})
                )
            time.sleep(3)
            yield watched
            receiver.gate.set()
    finally:
        harness.close()


def play(fault: InjectedFault) -> Outcome:
    """Inject the fault into a fresh service, and return which alerts fire."""
    directory = Path(tempfile.mkdtemp(prefix="gleaner-gameday-"))
    pages: set[str] = set()
    after: float | None = None
    try:
        with a_service(directory) as watched:
            began = time.monotonic()
            fault.strike(watched)
            while time.monotonic() - began < fault.within_s:
                try:
                    pages |= watched.monitoring.pages()
                    if fault.expected in watched.monitoring.firing():
                        after = time.monotonic() - began
                        break
                except httpx.HTTPError:
                    continue
                time.sleep(0.5)
            time.sleep(8)
            pages |= watched.monitoring.pages()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return Outcome(fault, after, frozenset(pages - fault.related - {fault.expected}))


def main() -> int:
    """Play every fault, or those named on the command line; print the table."""
    wanted = sys.argv[1:]
    outcomes = [play(fault) for fault in FAULTS if not wanted or fault.name in wanted]
    print(f"{'fault':20} {'alert':30} {'after s':>8} {'limit s':>8}  unrelated pages")
    for outcome in outcomes:
        fault = outcome.fault
        after = "never" if outcome.after_s is None else f"{outcome.after_s:.1f}"
        unrelated = ", ".join(sorted(outcome.unrelated)) or "none"
        print(f"{fault.name:20} {fault.expected:30} {after:>8} {fault.within_s:8.0f}  {unrelated}")
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
