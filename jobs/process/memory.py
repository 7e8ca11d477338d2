"""What a process keeps of its memory, and how often it looks through it."""

from __future__ import annotations

import contextlib
import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 128 * 1024
_NEW_OBJECTS = 10_000


def configure_malloc() -> None:
    """Have every block of 128 KiB and more mapped alone, so that it is gone when it is freed.

    glibc raises that bound to the largest block freed so far, up to 32 MiB: then pieces of a large job lie between
    what stays, and a process keeps their room for good. Setting the bound once holds it (mallopt(3)). Other C
    libraries have no such bound, and nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for threshold in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(threshold, _LARGE_BYTES)


def freeze_gc_baseline() -> None:
    """Once a process has all that stays: look for cycles only among what comes later, every 10,000 objects.

    To look through what stays again and again took a gateway a tenth of its time, and stopped a worker's threads
    for a third of a second. Requests and shards leave hardly a cycle: to look every 700 objects, as Python does,
    took either a twentieth of its CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
