"""Who gets the model when more is asked than it can do: small jobs soon, interactive ones first, all in the end."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from jobs import ledger
from jobs.ledger import Ledger
from jobs.schema import Job, Priority
from tests.support.processes.harness import House, wait_for
from tests.support.record import WORDS, Record, some_texts

SLOTS = 8
PACE_S = "5e-5"
MICROBATCH_DOCUMENTS = 64
"""About what fits the fake engine's budget of 2,048 tokens at these lengths."""
SHARD_WORDS = 30_000
"""So many that a shard has room for one document."""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A service with one worker."""
    house = House()
    try:
        for child in (house.gateway(), house.courier(), house.worker(TEST_PACE_S=PACE_S)):
            child.wait_ready()
        yield house
    finally:
        house.close()


def view(house: House, job: str) -> Job:
    """A job as the ledger has it."""
    with house.server.client() as client:
        found = Ledger(client).run(ledger.view(job))
    assert isinstance(found, Job)
    return found


def test_a_small_job_passes_a_large_one(house: House) -> None:
    """One document behind sixteen hundred is done a few micro-batches later, not after them."""
    record = Record(house)
    large = record.submit(some_texts(record.rng, 1600, longest=20))
    wait_for(lambda: view(house, large).counts.finished > 100, 30, "the large job runs")
    before = view(house, large).counts.finished
    small = record.submit(["Anna of Berlin"])
    wait_for(lambda: view(house, small).status.terminal, 30, "the small job is done")
    between = view(house, large).counts.finished - before
    assert between < 1600 - before
    assert between <= 8 * MICROBATCH_DOCUMENTS  # the rest of one shard, and a little
    assert record.verdict(60).clean


def test_interactive_first_and_standard_not_last(house: House) -> None:
    """An interactive job overtakes; a stream of them does not stop the standard one."""
    record = Record(house, seed=2)
    standard = record.submit(some_texts(record.rng, 600, longest=20))
    wait_for(lambda: view(house, standard).counts.finished, 30, "the standard job runs")
    before, asked = view(house, standard).counts.finished, 0
    while asked < 5:
        job = record.submit(some_texts(record.rng, 30, longest=20), priority="interactive")
        wait_for(lambda job=job: view(house, job).status.terminal, 30, "the interactive job is done")
        asked += 1
    assert not view(house, standard).status.terminal or view(house, standard).counts.finished == 600
    assert view(house, standard).counts.finished > before
    assert record.verdict(60).clean


@pytest.mark.parametrize(
    ("flooded", "other"), [(Priority.standard, Priority.interactive), (Priority.interactive, Priority.standard)]
)
def test_a_flood_takes_its_own_slots_alone(house: House, flooded: Priority, other: Priority) -> None:
    """One document of the other priority is done before a single one of the large shards that fill every slot."""
    flood, record = Record(house, seed=4), Record(house, seed=5)
    large = flood.submit(
        [" ".join(flood.rng.choices(WORDS, k=SHARD_WORDS)) for _ in range(2 * SLOTS)], priority=flooded
    )
    wait_for(lambda: view(house, large).counts.running == SLOTS, 30, "every slot is held")
    small = record.submit(["Anna of Berlin"], priority=other)
    wait_for(lambda: view(house, small).status.terminal, 30, "the small job is done")
    assert view(house, large).counts.finished == 0
    [gateway] = house.of("gateway")
    httpx.post(f"{gateway.url}/v1/jobs/{large}/cancel", timeout=10, trust_env=False).raise_for_status()
    wait_for(lambda: view(house, large).status.terminal, 30, "the flood is over")
    assert record.verdict(60).clean


def test_submit_and_work_and_poll_without_a_courier(house: House) -> None:
    """What repairs and delivers may be away for a while: nothing else waits for it."""
    house.end("courier")
    record = Record(house, seed=3)
    for _ in range(5):
        record.submit(some_texts(record.rng, 40))
    assert record.verdict(20).clean
