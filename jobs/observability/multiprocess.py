"""Metrics of several processes, shown as one: each keeps its own in files, and whoever is asked adds them up.

This is prometheus_client's multiprocess mode. Files are named after a place and not after a process, so that who
takes the place of a dead one goes on counting where it stopped, and files do not grow in number.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

_STARTED = "process_start_time_seconds"
_CPU = "process_cpu_seconds"


def store_in_files(folder: Path, place: str) -> None:
    """Keep every metric that this process makes from now on in files; the library knows no other way to say so.

    Args:
        folder: of all processes together.
        place: what only this process has now.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(partial(str, place))  # type: ignore[no-untyped-call]  # its gap


def register_totals(folder: Path, registry: CollectorRegistry) -> None:
    """Show the sums of all files in the folder."""
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]  # its gap


def drop_live_values(folder: Path, place: str) -> None:
    """Drop what a process that is dead would still say of now; what it counted stays."""
    mark_process_dead(place, str(folder))  # type: ignore[no-untyped-call]  # its gap


class ProcessTreeCollector(Collector):
    """Processor, memory and files of this process and its children together.

    Args:
        pids: the children that live.
    """

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        """The usual metrics of a process, as sums."""
        sums: dict[str, Metric] = {}
        for pid in ("self", *map(str, self._pids())):
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                kept = sums.setdefault(metric.name, metric)
                if kept is not metric and metric.name != _STARTED:
                    _add(kept, metric.samples[0].value)
        if _CPU in sums:
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)  # else a death would look like work undone
            _add(sums[_CPU], ended.ru_utime + ended.ru_stime)
        return sums.values()


def _add(metric: Metric, amount: float) -> None:
    [sample] = metric.samples
    metric.samples = [sample._replace(value=sample.value + amount)]
