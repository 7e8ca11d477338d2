"""Run a command that does not outlive its parent: `python parent_death.py [--lock FILE] CMD…`.

The kernel sends this process, which becomes the command, SIGTERM when the parent ends, even by SIGKILL. It runs
once per child, so it imports the standard library alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Sequence

PARENT = "GLEANER_STACK_PARENT"
"""Environment variable: the process id of the parent."""

_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> None:
    """Bind this process's lifetime to its parent's, then become the command."""
    lock, command = _parse_arguments(arguments)
    die_with_parent(int(os.environ.get(PARENT, os.getppid())))
    if lock is not None:
        _hold_lock(lock)
    os.execvp(command[0], command)  # nosec B606


def die_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent ends; exit now if it has already ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise SystemExit("the parent process has ended")


def _parse_arguments(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    rest = list(arguments)
    lock = None
    if rest[:1] == ["--lock"]:
        lock, rest = rest[1], rest[2:]
    if not rest:
        raise SystemExit("usage: parent_death.py [--lock FILE] CMD…")
    return lock, rest


def _hold_lock(path: str) -> None:
    """Lock a file while the command runs: the descriptor stays open across exec."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.set_inheritable(descriptor, True)


if __name__ == "__main__":
    main(sys.argv[1:])
