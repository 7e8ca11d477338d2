"""The programs of a local stack: their logs, and the protocol of the process that runs them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from jobs.process.programs import LOG_BACKUPS, LogFile, Program
from tests.conftest import ROOT


def test_a_log_is_rotated(tmp_path: Path) -> None:
    """No file exceeds the limit, the newest output is in the log, and the oldest beyond the backups is gone."""
    log = LogFile(tmp_path / "a.log", 10)
    for number in range(8):
        log.write(f"line {number}\n".encode())
    log.close()

    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert files == {"a.log": "line 7\n", **{f"a.log.{n}": f"line {7 - n}\n" for n in range(1, LOG_BACKUPS + 1)}}


def test_a_log_is_continued(tmp_path: Path) -> None:
    """A new start appends to the log, and counts what is there."""
    for text in (b"12345678\n", b"9\n", b"0\n"):
        log = LogFile(tmp_path / "a.log", 11)
        log.write(text)
        log.close()

    assert (tmp_path / "a.log").read_text() == "0\n"
    assert (tmp_path / "a.log.1").read_text() == "12345678\n9\n"


def test_output_that_cannot_be_written_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A program must not wait for a missing folder; once that is back, output is kept again."""
    folder, away = tmp_path / "logs", tmp_path / "away"
    folder.mkdir()
    log = LogFile(folder / "a.log", 10)
    log.write(b"line 1\n")
    folder.rename(away)
    for _ in range(3):
        log.write(b"line 2\n")
    away.rename(folder)
    log.write(b"line 3\n")
    log.close()

    assert (folder / "a.log").read_text() == "line 3\n"
    assert len(caplog.records) == 1


def test_a_full_disk_stops_no_program() -> None:
    """Every write fails, and returns."""
    log = LogFile(Path("/dev/full"))
    for _ in range(3):
        log.write(b"x")
    log.close()


def test_programs_start_by_request_and_end_with_the_socket(tmp_path: Path) -> None:
    """Nothing starts by itself; output goes to the log; when the parent's end closes, all programs stop."""
    script = "import os, time; print(os.environ['WORD'], flush=True); time.sleep(60)"
    program = Program("a", [sys.executable, "-c", script], {"WORD": "hello"}, priority=1, settle_s=0, grace_s=10)
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.process.programs", str(theirs.fileno())],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=(theirs.fileno(),),
        )
    with ours, ours.makefile("rw") as control:
        states = []
        for line in (
            {"programs": [asdict(program)], "logs": str(tmp_path)},
            {"number": 1},
            {"number": 2, "start": "a"},
        ):
            control.write(json.dumps(line) + "\n")
            control.flush()
            if "programs" not in line:
                states.append(json.loads(control.readline()))
        while (tmp_path / "a.log").read_text() != "hello\n":
            assert process.poll() is None

    assert process.wait(20) == 0
    assert states[0] == {"number": 1, "children": [{"name": "a", "pid": 0, "failures": 0}]}
    assert states[1]["number"] == 2
    assert states[1]["children"][0]["pid"] > 0
