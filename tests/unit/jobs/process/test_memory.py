"""Memory that a process returns to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_CHURN = """
import psutil
from jobs.process import memory

def resident_mb():
    return psutil.Process().memory_info().rss / 1e6

{call}
del (raised := [b"x" * (8 << 20)])[:]  # from now on glibc would take such blocks from the heap
before = resident_mb()
blocks, stays = [], []
for _ in range(100):
    blocks.append(b"x" * (512 << 10))
    stays.append(b"x" * 20_000)
blocks.clear()
print(resident_mb() - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc",
    reason="only glibc raises its mmap threshold by itself; with another C library there is nothing to configure",
)
def test_large_blocks_go_back_though_small_ones_between_them_stay() -> None:
    """Freed blocks do not stay with the process, as they do where glibc raises its bound by itself."""
    assert _kept_mb("memory.configure_malloc()") < 5 < 40 < _kept_mb("")


def _kept_mb(call: str) -> float:
    code = _CHURN.format(call=call)
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)
