"""Memory that was freed goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 128 * 1024


def return_freed() -> None:
    """Have every block of 128 KiB and more mapped alone, so that it is gone when it is freed.

    glibc raises that bound to the largest block freed so far, up to 32 MiB: then pieces of a large job lie between
    what stays, and a process keeps their room for good. Setting the bound once holds it (mallopt(3)). Other C
    libraries have no such bound.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for threshold in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(threshold, _LARGE_BYTES)
