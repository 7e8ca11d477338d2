from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.process import cpu
from jobs.settings import Settings


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand on a node of 32 cores, all of which this process may use."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)))


@pytest.mark.parametrize(
    ("quota", "limit", "cores"),
    [
        ("max 100000", 0, 32),      # neither a CPU limit nor a request: the whole node
        ("max 100000", 2, 2),       # the container's CPU request
        ("400000 100000", 0, 4),    # a CPU limit
        ("400000 100000", 2, 2),
        ("400000 100000", 64, 4),   # more than there are
        ("50000 100000", 0, 1),
        ("", 3, 3),                 # no cgroup of version 2
    ],
)  # fmt: skip
@pytest.mark.usefixtures("node")
def test_cores_are_bounded_by_quota_and_setting(quota: str, limit: int, cores: int, tmp_path: Path) -> None:
    """On a node of 32 cores, a worker takes the smaller of its quota and `GLEANER_CPUS`."""
    (tmp_path / "cpu.max").write_text(quota)
    assert cpu.cpu_count(limit, tmp_path / "cpu.max") == cores


def test_the_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart passes the CPU request as a whole number by the downward API."""
    monkeypatch.setenv("GLEANER_CPUS", "2")
    assert Settings().cpus == 2
    monkeypatch.setenv("GLEANER_CPUS", "")
    assert Settings().cpus == 0


def test_the_model_runs_on_as_many_threads_as_the_setting_says() -> None:
    """Torch ignores OMP_NUM_THREADS after set_num_threads, so that number must be the setting's."""
    code = (
        "import torch; from worker.app import load_engine; from worker.settings import WorkerSettings; "
        "load_engine(WorkerSettings(cpus=1, device='cpu', runtime='torch', model_cache='/nonexistent')); "
        "print(torch.get_num_threads())"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout.split() == ["1"], run.stderr


def test_thread_pools_of_libraries_follow_the_cores() -> None:
    """OpenBLAS, torch and Rayon start no more threads than cores; a variable that an operator set stays."""
    code = (
        "import os; from jobs.process.cpu import limit_thread_pools; limit_thread_pools(1); import torch; "
        "print(torch.get_num_threads(), os.environ['RAYON_NUM_THREADS'])"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "RAYON_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "2"]
