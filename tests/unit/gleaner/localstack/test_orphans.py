"""Processes that are found by a mark in their environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from gleaner.localstack import orphans


def test_processes_of_a_stack_are_found_and_ended() -> None:
    """A process that ignores SIGTERM is killed after the grace period; those of other stacks are left alone."""
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    ours, theirs = (
        subprocess.Popen(
            [sys.executable, "-S", "-c", script],
            env={**os.environ, orphans.MARK: f"{os.getpid()}-{name}"},
            stdout=subprocess.PIPE,
        )
        for name in ("ours", "theirs")
    )
    with ours, theirs:
        for process in (ours, theirs):
            assert process.stdout is not None
            assert process.stdout.readline()
        mark = f"{os.getpid()}-ours"
        assert orphans.find_processes(mark) == [ours.pid]
        orphans.signal_processes(mark, signal.SIGTERM)
        orphans.end_processes(mark, 0.1)

        assert ours.wait(10) == -signal.SIGKILL
        assert theirs.poll() is None
        theirs.kill()
