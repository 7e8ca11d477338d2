"""How many processor cores there are for this process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def cpu_count() -> int:
    """Cores this process may really use: its affinity and its cgroup's quota, not the host's."""
    cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return max(1, int(cores))
