"""CPU cores of the current process, and how its threads share the interpreter."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

SWITCH_S = 5e-4
"""Maximum time that one thread holds the interpreter. A request releases it at every system call; with Python's
default of 5 ms it then waited for a thread that parses a large body or cuts a long text, ten times over."""


CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def cpu_count(limit: int = 0, cpu_max: Path = CPU_MAX) -> int:
    """Return the cores that this process uses: by its affinity, its cgroup's quota and `GLEANER_CPUS`.

    Args:
        limit: the setting; 0: none.
        cpu_max: the cgroup's quota and period, in microseconds.
    """
    cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = cpu_max.read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    if limit:
        cores = min(cores, limit)
    return max(1, int(cores))


def limit_thread_pools(cores: int) -> None:
    """Limit the thread pools of OpenMP, OpenBLAS and Rayon, which ignore a quota; variables already set stay.

    Call it before numpy, torch or tokenizers is imported: they read these variables once.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(cores))


def share_interpreter() -> None:
    """Shorten the interpreter's switch interval to `SWITCH_S`."""
    sys.setswitchinterval(SWITCH_S)
