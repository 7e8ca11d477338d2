"""Who gets the model when more is asked than it can do: small jobs soon, interactive ones first, all in the end."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from jobs import ledger
from jobs.ledger import Ledger
from jobs.schema import Job, Priority
from tests.support.processes.harness import ServiceHarness, wait_for
from tests.support.record import WORDS, Record, some_texts

SLOTS = 8
PACE_S = "5e-5"
MICROBATCH_DOCUMENTS = 64
"""About what fits the fake engine's budget of 2,048 tokens at these lengths."""
SHARD_WORDS = 30_000
"""Enough that a shard holds one document."""


@pytest.fixture(scope="module")
def harness() -> Iterator[ServiceHarness]:
    """Run a service with one worker."""
    harness = ServiceHarness()
    try:
        for child in (harness.gateway(), harness.courier(), harness.worker(TEST_PACE_S=PACE_S)):
            child.wait_ready()
        yield harness
    finally:
        harness.close()


def view(harness: ServiceHarness, job: str) -> Job:
    """Return a job from the ledger."""
    with harness.server.client() as client:
        job_view = Ledger(client).run(ledger.read_job(job))
    assert isinstance(job_view, Job)
    return job_view


def test_a_small_job_passes_a_large_one(harness: ServiceHarness) -> None:
    """A document behind sixteen hundred is done a few micro-batches later, not after all of them."""
    record = Record(harness)
    large = record.submit(some_texts(record.rng, 1600, longest=20))
    wait_for(lambda: view(harness, large).counts.finished > 100, 30, "the large job runs")
    before = view(harness, large).counts.finished
    small = record.submit(["Anna of Berlin"])
    wait_for(lambda: view(harness, small).status.is_terminal, 30, "the small job is done")
    between = view(harness, large).counts.finished - before
    assert between < 1600 - before
    assert between <= 8 * MICROBATCH_DOCUMENTS  # the rest of one shard, and a little
    assert record.verdict(60).clean


def test_interactive_first_and_standard_not_last(harness: ServiceHarness) -> None:
    """An interactive job overtakes; a stream of them does not stop the standard one."""
    record = Record(harness, seed=2)
    standard = record.submit(some_texts(record.rng, 600, longest=20))
    wait_for(lambda: view(harness, standard).counts.finished, 30, "the standard job runs")
    before, submitted = view(harness, standard).counts.finished, 0
    while submitted < 5:
        job = record.submit(some_texts(record.rng, 30, longest=20), priority="interactive")
        wait_for(lambda job=job: view(harness, job).status.is_terminal, 30, "the interactive job is done")
        submitted += 1
    assert not view(harness, standard).status.is_terminal or view(harness, standard).counts.finished == 600
    assert view(harness, standard).counts.finished > before
    assert record.verdict(60).clean


@pytest.mark.parametrize(
    ("flooded", "other"), [(Priority.STANDARD, Priority.INTERACTIVE), (Priority.INTERACTIVE, Priority.STANDARD)]
)
def test_a_flood_takes_its_own_slots_alone(harness: ServiceHarness, flooded: Priority, other: Priority) -> None:
    """A document of the other priority is done before any of the large shards that fill every slot."""
    flood, record = Record(harness, seed=4), Record(harness, seed=5)
    large = flood.submit(
        [" ".join(flood.rng.choices(WORDS, k=SHARD_WORDS)) for _ in range(2 * SLOTS)], priority=flooded
    )
    wait_for(lambda: view(harness, large).counts.running == SLOTS, 30, "every slot is held")
    small = record.submit(["Anna of Berlin"], priority=other)
    wait_for(lambda: view(harness, small).status.is_terminal, 30, "the small job is done")
    assert view(harness, large).counts.finished == 0
    [gateway] = harness.of("gateway")
    httpx.post(f"{gateway.url}/v1/jobs/{large}/cancel", timeout=10, trust_env=False).raise_for_status()
    wait_for(lambda: view(harness, large).status.is_terminal, 30, "the flood is over")
    assert record.verdict(60).clean


def test_submit_and_work_and_poll_without_a_courier(harness: ServiceHarness) -> None:
    """Repairs and deliveries may pause for a while: nothing else waits for them."""
    harness.end("courier")
    record = Record(harness, seed=3)
    for _ in range(5):
        record.submit(some_texts(record.rng, 40))
    assert record.verdict(20).clean
