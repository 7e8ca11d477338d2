"""Metrics of several processes shown as one: each stores its own in files, and a scrape adds them up.

This is prometheus_client's multiprocess mode. Files are named after a slot and not after a process id, so that the
replacement of a dead process continues its counters, and the number of files does not grow.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from prometheus_client import ProcessCollector, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

_STARTED = "process_start_time_seconds"
_CPU = "process_cpu_seconds"


def store_in_files(folder: Path, slot: str) -> None:
    """Store every metric that this process creates from now on in files; the library offers only a global.

    Args:
        folder: folder of all processes.
        slot: name that no other live process has.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(partial(str, slot))  # type: ignore[no-untyped-call]  # its gap


class TotalsCollector(Collector):
    """Collects the sums of all files in a folder.

    A process creates an empty file before it writes to it, and the library's own collector fails on an empty file:
    a scrape would break whenever a process starts.

    Args:
        folder: folder of all processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all files that have content."""
        files = [str(file) for file in self._folder.glob("*.db") if _has_content(file)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # its gap
        return metrics


def drop_live_values(folder: Path, slot: str) -> None:
    """Remove the live gauges of a dead process; its counters stay."""
    mark_process_dead(slot, str(folder))  # type: ignore[no-untyped-call]  # its gap


class ProcessTreeCollector(Collector):
    """Collects CPU, memory and files of this process and its children together.

    Args:
        pids: returns the process ids of live children.
    """

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        """Return the usual metrics of a process, as sums."""
        sums: dict[str, Metric] = {}
        for pid in ("self", *map(str, self._pids())):
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                total = sums.setdefault(metric.name, metric)
                if total is not metric and metric.name != _STARTED:
                    _add(total, metric.samples[0].value)
        if _CPU in sums:
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)  # or the counter would fall when a child dies
            _add(sums[_CPU], ended.ru_utime + ended.ru_stime)
        return sums.values()


def _has_content(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # a live gauge of a process that has just ended
        return False


def _add(metric: Metric, amount: float) -> None:
    [sample] = metric.samples
    metric.samples = [sample._replace(value=sample.value + amount)]
