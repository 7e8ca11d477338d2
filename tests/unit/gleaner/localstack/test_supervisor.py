"""The supervisor as a child: order of stopping, restarts, and that nothing outlives anybody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gleaner.localstack.datadir import DataDir
from gleaner.localstack.programs import Program
from gleaner.localstack.supervisor import (
    MARK,
    SupervisorProcess,
    end_processes,
    find_processes,
    signal_processes,
)
from tests.conftest import ROOT

NOTED = """
import pathlib, signal, sys, threading
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
end = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: end.set())
(folder / f"{name}.up").touch()
while not end.wait(0.05):
    pass
with (folder / "order").open("a") as file:
    file.write(name + "\\n")
"""


def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait for a condition, looking often."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def noted(name: str, folder: Path, priority: int) -> Program:
    """Return a program that records its start and the order of its end."""
    script = folder / "noted.py"
    script.write_text(NOTED)
    command = (sys.executable, str(script), name, str(folder))
    return Program(name, name, command, priority, settle_s=0)


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    """Return a data directory whose name must be quoted."""
    directory = DataDir(tmp_path / "it's 50% ; #1")
    directory.create_folders()
    return directory


@pytest.fixture
def supervisor(directory: DataDir, tmp_path: Path) -> Iterator[SupervisorProcess]:
    """Two running programs, `low` and `high`."""
    programs = [noted("low", tmp_path, 10), noted("high", tmp_path, 20)]
    supervisor = SupervisorProcess(directory, programs, {**os.environ, "PYTHONPATH": str(ROOT)})
    supervisor.start()
    for name in ("low", "high"):
        supervisor.launch_program(name)
    until(lambda: (tmp_path / "low.up").exists() and (tmp_path / "high.up").exists())
    yield supervisor
    supervisor.stop()


def pids(supervisor: SupervisorProcess) -> list[int]:
    """Return the programs' process ids."""
    return [child.pid for child in (supervisor.list_children() or {}).values()]


def gone(process_ids: list[int]) -> bool:
    """Return True once none of the processes runs; a zombie counts as ended."""

    def ended(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    return all(ended(pid) for pid in process_ids)


def test_programs_stop_one_after_the_other(supervisor: SupervisorProcess, tmp_path: Path) -> None:
    """The highest priority stops first, and stop() returns when nothing is left."""
    running = pids(supervisor)
    supervisor.stop()

    assert (tmp_path / "order").read_text().split() == ["high", "low"]
    assert gone(running)


def test_a_killed_program_is_started_again(supervisor: SupervisorProcess, tmp_path: Path) -> None:
    """A program that dies comes back as another process."""
    before = pids(supervisor)
    (tmp_path / "low.up").unlink()
    os.kill(before[0] if (supervisor.list_children() or {})["low"].pid == before[0] else before[1], signal.SIGKILL)
    until((tmp_path / "low.up").exists)

    assert pids(supervisor) != before
    assert 0 not in pids(supervisor)


def test_programs_end_with_a_killed_supervisor(supervisor: SupervisorProcess) -> None:
    """SIGKILL of the supervisor asks every program to end."""
    running = pids(supervisor)
    parent = psutil.Process(running[0]).ppid()
    os.kill(parent, signal.SIGKILL)

    until(lambda: gone(running) and not supervisor.is_alive)  # either may be seen first
    assert supervisor.list_children() is None


def test_kill_spares_no_one(supervisor: SupervisorProcess) -> None:
    """kill() ends supervisor and programs at once; stop() then has nothing to wait for."""
    running = pids(supervisor)
    supervisor.kill()
    supervisor.stop()

    until(lambda: gone(running))  # a killed process may be seen for a moment


def test_everything_ends_with_a_killed_starter(directory: DataDir, tmp_path: Path) -> None:
    """SIGKILL of the process that started the supervisor leaves none of its descendants."""
    script = (
        "import os, sys, time, pathlib\n"
        "from gleaner.localstack.supervisor import SupervisorProcess\n"
        "from gleaner.localstack.datadir import DataDir\n"
        "from gleaner.localstack.programs import Program\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "program = Program('one', 'one', (sys.executable, str(folder / 'noted.py'), 'one', str(folder)), 10)\n"
        "supervisor = SupervisorProcess(DataDir(pathlib.Path(sys.argv[1])), [program], dict(os.environ))\n"
        "supervisor.start(); supervisor.launch_program('one')\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "noted.py").write_text(NOTED)
    starter = subprocess.Popen(
        [sys.executable, "-c", script, str(directory.root), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        until((tmp_path / "one.up").exists)
        descendants = [child.pid for child in psutil.Process(starter.pid).children(recursive=True)]
        assert len(descendants) == 2
    finally:
        starter.kill()
        starter.wait()
    until(lambda: gone(descendants))


def test_a_late_answer_is_not_taken_for_the_next(directory: DataDir, tmp_path: Path) -> None:
    """A supervisor that was stopped for a while gives its answers late: each request gets its own."""
    supervisor = SupervisorProcess(directory, [noted("slow", tmp_path, 1)], dict(os.environ))
    supervisor.start()
    try:
        [process] = [
            child
            for child in psutil.Process().children()
            if "jobs.process.programs" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE
        ]
        process.suspend()
        supervisor._socket.settimeout(0.1)  # type: ignore[union-attr]  # instead of 15 s
        assert supervisor.list_children() is None
        assert supervisor.list_children() is None
        process.resume()
        supervisor._socket.settimeout(15)  # type: ignore[union-attr]
        supervisor.launch_program("slow")
        children = supervisor.list_children()
        assert children is not None
        assert children["slow"].pid > 0
    finally:
        supervisor.stop()


def test_processes_of_a_stack_are_found_and_ended() -> None:
    """A process that ignores SIGTERM is killed after the grace period; those of other stacks are left alone."""
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    ours, theirs = (
        subprocess.Popen(
            [sys.executable, "-S", "-c", script],
            env={**os.environ, MARK: f"{os.getpid()}-{name}"},
            stdout=subprocess.PIPE,
        )
        for name in ("ours", "theirs")
    )
    with ours, theirs:
        for process in (ours, theirs):
            assert process.stdout is not None
            assert process.stdout.readline()
        mark = f"{os.getpid()}-ours"
        assert find_processes(mark) == [ours.pid]
        signal_processes(mark, signal.SIGTERM)
        end_processes(mark, 0.1)

        assert ours.wait(10) == -signal.SIGKILL
        assert theirs.poll() is None
        theirs.kill()
