"""Metrics that several processes store in files are added up, also while a process starts or ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from jobs.observability import multiprocess

PROGRAM = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter, Gauge
from jobs.observability import multiprocess

multiprocess.store_in_files(Path(sys.argv[1]), sys.argv[2])
registry = CollectorRegistry()
Counter("requests", "Requests.", registry=registry).inc(2)
Gauge("open", "Open.", registry=registry, multiprocess_mode="livesum").set(1)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the metrics of two processes that have run."""
    for slot in ("0", "1"):
        subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), slot], check=True)
    return tmp_path


def scrape(folder: Path) -> list[str]:
    """Return the samples of a scrape."""
    registry = CollectorRegistry()
    registry.register(multiprocess.TotalsCollector(folder))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_a_scrape_adds_up_the_processes(folder: Path) -> None:
    """Counters and live gauges are sums."""
    assert sorted(scrape(folder)) == ["open 2.0", "requests_total 4.0"]


def test_a_file_that_a_starting_process_has_just_created_breaks_no_scrape(folder: Path) -> None:
    """A file is empty for a moment before its first value is written."""
    (folder / "counter_2.db").touch()
    (folder / "gauge_livesum_2.db").touch()

    assert sorted(scrape(folder)) == ["open 2.0", "requests_total 4.0"]


def test_an_ended_process_leaves_its_counters_and_takes_its_live_gauges(folder: Path) -> None:
    """The replacement goes on counting; nothing is open in a process that has ended."""
    multiprocess.drop_live_values(folder, "1")

    assert sorted(scrape(folder)) == ["open 1.0", "requests_total 4.0"]


def test_no_file_gives_no_metric(tmp_path: Path) -> None:
    """Before the first process has started there is nothing to add up."""
    assert scrape(tmp_path) == []
