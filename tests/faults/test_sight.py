"""The suite sees loss: with a protection off, the same checks fail."""

from __future__ import annotations

import signal

from tests.faults.conftest import Strike
from tests.support.processes.harness import wait_for
from tests.support.record import Record, some_texts


def test_without_upkeep_a_killed_worker_loses_documents(strike: Strike) -> None:
    """The suite is not blind: without upkeep a SIGKILL between take and record is seen as loss."""
    harness = strike.harness
    harness.end("courier")
    harness.end("worker")
    victim = harness.worker(TEST_PAUSE="take")
    strike.record.submit(some_texts(strike.rng, 5))
    harness.await_strike()
    victim.kill()
    harness.worker().wait_ready()
    verdict = strike.record.verdict(within_s=6)
    assert verdict.lost == 5
    assert verdict.leftovers
    harness.courier()
    assert strike.record.verdict().clean  # and with upkeep the same documents come back


def test_a_second_result_and_a_wrong_one_are_seen(strike: Strike) -> None:
    """The verdict compares: an altered result, or one too many, is not clean."""
    strike.record.submit(["Anna of Berlin", "Otto"])
    assert strike.record.verdict().clean
    altered = Record(strike.harness)
    altered.remember(strike.record.entries[0].job, ["Anna of Rio", "Otto"])
    assert altered.verdict().wrong == 1
    missing = Record(strike.harness)
    missing.remember("job_00000000000000000000000000", ["Anna"])
    assert missing.verdict().lost == 1


def test_without_fencing_a_paused_worker_writes_twice(strike: Strike) -> None:
    """The suite is not blind: without fencing a worker that wakes too late is seen."""
    harness = strike.harness
    harness.end("worker")
    unfenced = harness.worker(TEST_PAUSE="unfenced").wait_ready()
    strike.record.submit(some_texts(strike.rng, 4))
    harness.await_strike()
    harness.worker().wait_ready()
    assert strike.record.verdict().clean
    unfenced.send(signal.SIGCONT)
    wait_for(lambda: not strike.record.verdict().clean, 30, "the second result is seen")
    harness.end("worker")
