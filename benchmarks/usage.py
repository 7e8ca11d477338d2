"""CPU seconds and memory of processes, their children included."""

from __future__ import annotations

from collections.abc import Mapping

import psutil


class Usage:
    """CPU seconds that processes take from now on.

    Args:
        pids: process ids by part.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = {"client": psutil.Process().pid, **pids}
        self._before = {part: cpu_s(pid) for part, pid in self._pids.items()}

    def spent(self) -> dict[str, float]:
        """CPU seconds by part since then; `client` is this process."""
        return {part: cpu_s(pid) - self._before[part] for part, pid in self._pids.items()}


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far; those of its children too, unless it is this very process."""
    own = psutil.Process(pid)
    family = [own] if pid == psutil.Process().pid else [own, *own.children(recursive=True)]
    return float(sum(times.user + times.system for times in (one.cpu_times() for one in family)))


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its children."""
    own = psutil.Process(pid)
    return float(sum(one.memory_info().rss for one in (own, *own.children(recursive=True))) / 1e6)
