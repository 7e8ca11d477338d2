"""Memory allocation and garbage collection of the current process."""

from __future__ import annotations

import contextlib
import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 128 * 1024
_NEW_OBJECTS = 10_000


def configure_malloc() -> None:
    """Have malloc map every block of 128 KiB and more separately, so that freeing it returns it to the system.

    glibc raises that threshold to the largest block freed so far, up to 32 MiB: then freed parts of a large job lie
    between live blocks, and their memory is never returned. Setting the threshold once fixes it (mallopt(3)). Does
    nothing with other C libraries.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for threshold in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(threshold, _LARGE_BYTES)


def freeze_gc_baseline() -> None:
    """Move live objects to the permanent generation and collect every 10,000 objects; call after start-up.

    Collections of all live objects took a tenth of a gateway's time, and stopped a worker's threads for a third of
    a second. Requests and shards leave hardly a cycle: Python's default of 700 objects took either a twentieth of
    its CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
