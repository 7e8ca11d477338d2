"""A command that ends with its parent; tests of `gleaner.localstack.supervisor` kill a real parent."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.process import parent_death


def run(*arguments: str, parent: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command bound to this process, or to a process that is not its parent."""
    environment = {**os.environ, parent_death.PARENT: str(parent or os.getpid())}
    command = [sys.executable, "-I", "-S", parent_death.__file__, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_the_process_becomes_the_command() -> None:
    """Its output and its exit code are the command's."""
    ended = run("sh", "-c", "echo out; exit 7")

    assert (ended.returncode, ended.stdout) == (7, "out\n")


def test_an_orphan_does_not_start() -> None:
    """A parent that ended before the kernel was asked to watch it would never be noticed."""
    ended = run("echo", "out", parent=1)

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "the parent process has ended" in ended.stderr


@pytest.mark.parametrize("arguments", [[], ["--lock", "/tmp/x"]])
def test_a_command_is_required(arguments: list[str]) -> None:
    """The usage is shown."""
    assert "usage: parent_death.py" in run(*arguments).stderr


def test_a_lock_is_held_while_the_command_runs(tmp_path: Path) -> None:
    """By the command itself, since the descriptor stays open; it is free afterwards."""
    lock = tmp_path / "lock"
    refused = run("--lock", str(lock), "flock", "--nonblock", str(lock), "true")
    assert refused.returncode == 1

    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert lock.stat().st_mode & 0o777 == 0o600
