"""Find and end the processes of a stack whose supervisor was killed, by a mark in their environment."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

MARK: Final = "GLEANER_STACK_ID"
"""Environment variable: a random word that every process of a stack inherits."""


def find_processes(mark: str) -> list[int]:
    """Return the ids of the stack's processes that are still running."""
    variable = f"{MARK}={mark}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            # The process may have ended meanwhile, be a zombie, or belong to another user.
            with contextlib.suppress(OSError):
                if variable in (entry / "environ").read_bytes().split(b"\0"):
                    pids.append(int(entry.name))
    return pids


def signal_processes(mark: str, signal_number: int) -> None:
    """Send a signal to all processes of the stack."""
    for pid in find_processes(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def end_processes(mark: str, grace_s: float) -> None:
    """Wait until no process of the stack is left; kill those that are still running after `grace_s` seconds."""
    deadline = time.monotonic() + grace_s
    while find_processes(mark):
        if time.monotonic() > deadline:
            signal_processes(mark, signal.SIGKILL)
        time.sleep(0.05)
