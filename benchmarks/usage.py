"""CPU seconds and memory of processes, including their children."""

from __future__ import annotations

from collections.abc import Mapping

import psutil


class Usage:
    """CPU seconds of processes since the object's creation.

    Args:
        pids: process ids by part.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = {"client": psutil.Process().pid, **pids}
        self._before = {part: cpu_s(pid) for part, pid in self._pids.items()}

    def spent(self) -> dict[str, float]:
        """Return CPU seconds by part since then; `client` is this process."""
        return {part: cpu_s(pid) - self._before[part] for part, pid in self._pids.items()}


def cpu_s(pid: int) -> float:
    """Return CPU seconds of a process so far, including its children unless it is this process."""
    root = psutil.Process(pid)
    family = [root] if pid == psutil.Process().pid else [root, *root.children(recursive=True)]
    return float(sum(times.user + times.system for times in (process.cpu_times() for process in family)))


def rss_mb(pid: int) -> float:
    """Return resident memory of a process and its children in MB."""
    root = psutil.Process(pid)
    return float(sum(process.memory_info().rss for process in (root, *root.children(recursive=True))) / 1e6)
