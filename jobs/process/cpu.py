"""Processor cores and interpreter time: how many there are, and how threads take turns."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

SWITCH_S = 5e-4
"""Longest time that one thread keeps the others from the interpreter. A request gives it up with every system call;
with Python's own 5 ms it then waited for whoever parsed a large body or cut a long text, ten times over."""


def cpu_count() -> int:
    """Cores this process may really use: its affinity and its cgroup's quota, not the host's."""
    cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return max(1, int(cores))


def share_interpreter() -> None:
    """Shorten the turns of this process's threads to `SWITCH_S`."""
    sys.setswitchinterval(SWITCH_S)
