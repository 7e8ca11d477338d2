"""`gleaner up` as a child of a test: started, looked at, ended, and checked to have left nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-P", "-m", "gleaner")  # -P: like an installed script, blind for the user's folder
RUNTIME = {"GLEANER_RUNTIME": "openvino", "GLEANER_PRECISION": "fp32"}
"""Exact like torch, and a third of its work: once exported, a worker starts without torch and without gliner."""
READY_LIMIT_S = 90.0
STOP_LIMIT_S = 60.0


def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait for a condition, looking often."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def ended(pid: int) -> bool:
    """Return whether the process has ended, be it reaped or a zombie."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def command_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which `python -m gleaner` runs this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200", **(more or {})}


def gleaner(*arguments: str, stdin: str | None = None, limit_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run the `gleaner` command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=command_environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


@dataclass
class RunningStack:
    """A `gleaner up` that is ready; `output` is the file of its output."""

    directory: Path
    process: subprocess.Popen[str]
    output: Path

    @property
    def facts(self) -> dict[str, Any]:
        """Return the present content of stack.json."""
        facts: dict[str, Any] = json.loads((self.directory / "stack.json").read_text())
        return facts

    @property
    def key(self) -> str:
        """The admin key."""
        return (self.directory / "admin-key").read_text().strip()

    @property
    def url(self) -> str:
        """The gateway."""
        return str(self.facts["gateway_url"])

    def descendants(self) -> list[int]:
        """Every process below `gleaner up`."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(STOP_LIMIT_S)


@contextmanager
def running_stack(
    directory: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[RunningStack]:
    """Run `gleaner up` on a free port until the block ends; yield it ready. Unless said, its runtime is `RUNTIME`.

    Raises:
        AssertionError: it did not become ready; the message is its output.
    """
    options = ["--data-dir", str(directory), "--port", "0", *arguments]
    output = directory.with_name(f"{directory.name[:50]}.output")
    began = time.time()
    with output.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, "up", *options],
            env=command_environment({**RUNTIME, **(environment or {})}),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
        )
    try:
        stack = RunningStack(directory, process, output)
        end = time.monotonic() + READY_LIMIT_S
        while not _written_since(directory / "stack.json", began):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < end, output.read_text()
            time.sleep(0.05)
        yield stack
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_LIMIT_S)


def _written_since(path: Path, moment: float) -> bool:
    """Return whether the file is newer than `moment`, so not of a stack that was killed earlier."""
    try:
        return path.stat().st_mtime >= moment
    except FileNotFoundError:
        return False
