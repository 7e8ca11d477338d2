"""Log records, which never quote a text."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from jobs.observability.logs import bind_fields

PROGRAM = """
import logging, threading
from jobs.observability import logs
from jobs.settings import Settings
logs.configure_logging(Settings(log_format={format!r}), "test", place=3)
log = logging.getLogger("jobs.test")
SECRET = "Ada Lovelace"  # pragma: allowlist secret
with logs.bind_fields(job_id="job_1"):
    log.info("shard.completed", extra={{"documents": 2}})
try:
    raise ValueError(SECRET)
except ValueError as error:
    logs.log_failure(log, "shard.failed", error, shard=1)
    log.exception("library.style")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
raise RuntimeError(SECRET)
"""


def run_program(log_format: str) -> str:
    """Return what a process logs that fails in every way."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(format=log_format)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_json_records_have_an_event_and_its_facts() -> None:
    """An object per line, with the fields of the block; uncaught errors of the process and its threads, too."""
    records = [json.loads(line) for line in run_program("json").splitlines()]
    by_event = {record["event"]: record for record in records}
    assert set(by_event) == {"shard.completed", "shard.failed", "library.style", "thread.failed", "process.failed"}
    assert (by_event["shard.completed"]["job_id"], by_event["shard.completed"]["documents"]) == ("job_1", 2)
    assert (by_event["shard.failed"]["error"], by_event["shard.failed"]["shard"]) == ("ValueError", 1)
    assert {record["place"] for record in records} == {3}


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_message_of_an_error_is_never_logged(log_format: str) -> None:
    """It may quote a user's text: the class and the place suffice to find the bug."""
    output = run_program(log_format)
    assert "ValueError" in output
    assert "RuntimeError" in output
    assert "Lovelace" not in output


def test_fields_are_bound_to_a_block(caplog: pytest.LogCaptureFixture) -> None:
    """Inner blocks add to outer ones; none outlives its block."""
    with bind_fields(job_id="a"), bind_fields(shard=1):
        pass
    with caplog.at_level(logging.INFO):
        logging.getLogger("jobs.test").info("event")
    assert not hasattr(caplog.records[0], "job_id")
