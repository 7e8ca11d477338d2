"""The service that all fault tests share, the table of their results, and the number of strikes of each."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.support.processes.harness import ServiceHarness
from tests.support.record import Record, Verdict

LONG = os.environ.get("CHAOS") == "1"
SEED = int(os.environ.get("CHAOS_SEED", "1"))


@dataclass
class Table:
    """Results of each fault, printed at the end."""

    rows: list[tuple[str, int, Verdict]] = field(default_factory=list)

    def text(self) -> list[str]:
        """Return the table's lines."""
        lines = [
            f"{'fault':44} {'times':>5} {'documents':>9} {'lost':>5} {'doubled':>7} {'rerun':>6} {'slowest s':>9}"
        ]
        merged: dict[str, list[tuple[int, Verdict]]] = {}
        for fault, times, verdict in self.rows:
            merged.setdefault(fault, []).append((times, verdict))
        for fault, outcomes in merged.items():
            lines.append(
                f"{fault:44} {sum(t for t, _ in outcomes):5} {sum(v.documents for _, v in outcomes):9} "
                f"{sum(v.lost + v.wrong for _, v in outcomes):5} {sum(v.doubled for _, v in outcomes):7} "
                f"{sum(v.rerun for _, v in outcomes):6} {max(v.recovery_s for _, v in outcomes):9.1f}"
            )
        return lines


TABLE = pytest.StashKey[Table]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table under the results."""
    table = config.stash.get(TABLE, None)
    if table and table.rows:
        terminalreporter.section(f"faults (seed {SEED})")
        for line in table.text():
            terminalreporter.line(line)


@dataclass
class Strike:
    """Tools of a fault test: the service, the record, and the number of strikes."""

    harness: ServiceHarness
    record: Record
    rng: random.Random
    table: Table
    fault: str
    times: int = 0

    def often(self, short: int, long: int) -> range:
        """Return a range of as many strikes as this run makes."""
        self.times = long if LONG else short
        return range(self.times)

    def either(self, *ways: str) -> tuple[str, ...]:
        """Each way the fault may strike."""
        self.times = len(ways)
        return ways

    def lasts(self, short_s: float, long_s: float) -> float:
        """Return the duration of this run's fault (seconds)."""
        self.times = max(1, self.times)
        return long_s if LONG else short_s

    def check(self, within_s: float = 45.0) -> Verdict:
        """Return the verdict on all accepted documents, which must be clean."""
        verdict = self.record.verdict(within_s)
        self.table.rows.append((self.fault, max(1, self.times), verdict))
        logs = "" if verdict.clean else "\n".join(child.tail(4) for child in self.harness.children[-4:])
        assert verdict.clean, f"{verdict}\n{logs}"
        return verdict


@pytest.fixture(scope="session")
def shared_harness() -> Iterator[ServiceHarness]:
    """Run the service: two workers, two couriers, one gateway."""
    harness = ServiceHarness()
    try:
        yield harness
    finally:
        harness.close()


@pytest.fixture
def harness(shared_harness: ServiceHarness) -> ServiceHarness:
    """Return the service, empty and with all processes up."""
    shared_harness.server.mend()
    with shared_harness.server.client() as client:
        client.config_set("appendfsync", "everysec")
        client.config_set("maxmemory", 0)
    for role, count in (("gateway", 1), ("courier", 2), ("worker", 2)):
        for child in shared_harness.of(role)[count:]:
            child.kill()
        for _ in range(count - len(shared_harness.of(role))):
            getattr(shared_harness, role)()
    for child in shared_harness.children:
        if child.alive():
            child.wait_ready()
    with shared_harness.server.client() as client:
        client.flushall()
    time.sleep(0.6)  # a lease's quarter: the workers are on their list again
    return shared_harness


@pytest.fixture
def strike(harness: ServiceHarness, request: pytest.FixtureRequest) -> Strike:
    """Return the tools of a fault test."""
    table = request.config.stash.setdefault(TABLE, Table())
    title = (request.function.__doc__ or request.node.name).split(".")[0].split(":")[0]
    return Strike(harness, Record(harness, SEED), random.Random(SEED), table, title)
