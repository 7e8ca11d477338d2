"""Processes of one stack, found by a mark in their environment: the last resort when supervisor is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

MARK: Final = "GLEANER_STACK_ID"
"""Environment: a random word that every process of a stack inherits."""


def find(mark: str) -> list[int]:
    """Process ids of the stack's processes that are not ended yet."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            # Ended meanwhile, a zombie, or another user's.
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def send(mark: str, signal_number: int) -> None:
    """Signal all of them."""
    for pid in find(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def end(mark: str, grace_s: float) -> None:
    """Return when none is left: they may end by themselves for `grace_s`, and are killed then."""
    deadline = time.monotonic() + grace_s
    while find(mark):
        if time.monotonic() > deadline:
            send(mark, signal.SIGKILL)
        time.sleep(0.05)
