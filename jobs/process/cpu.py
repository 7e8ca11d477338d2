"""CPU cores of the current process, and how its threads share the interpreter."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

SWITCH_S = 5e-4
"""Maximum time that one thread holds the interpreter. A request releases it at every system call; with Python's
default of 5 ms it then waited for a thread that parses a large body or cuts a long text, ten times over."""


def cpu_count() -> int:
    """Return the cores that this process may use, by its affinity and its cgroup's quota."""
    cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return max(1, int(cores))


def share_interpreter() -> None:
    """Shorten the interpreter's switch interval to `SWITCH_S`."""
    sys.setswitchinterval(SWITCH_S)
