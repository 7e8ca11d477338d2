"""The client against the real service: both forms, bad input, idempotency, the ends of a job's life."""

from __future__ import annotations

import asyncio
import time

import pytest

import gleaner
from gleaner import AsyncClient, Client
from tests.support.processes.local_stack import RunningStack

pytestmark = pytest.mark.timeout(240)
TEXT = "Ada Lovelace met Charles Babbage in London."
ENTITIES = [("Ada Lovelace", "person"), ("Charles Babbage", "person"), ("London", "city")]


def entities_of(result: gleaner.Result) -> list[tuple[str, str]]:
    """Return a result's entities without offsets."""
    return [(entity.text, entity.label) for entity in result.entities]


def test_submit_wait_results(client: Client) -> None:
    """A job finishes, and its results carry ids, order, and entities whose offsets fit the text."""
    documents = [{"id": f"d{number}", "text": f"Letter {number}. {TEXT}"} for number in range(40)]
    job = client.submit(documents, ["person", "city"], metadata={"made": "here"}).wait(timeout=120)
    results = list(job.results())

    assert job.status == "succeeded"
    assert job.counts.succeeded == job.counts.total == 40
    assert job.info.metadata == {"made": "here"}
    assert [result.id for result in results] == [document["id"] for document in documents]
    for document, result in zip(documents, results, strict=True):
        assert set(entities_of(result)) >= set(ENTITIES)
        assert all(document["text"][e.start : e.end] == e.text for e in result.entities)


def test_the_async_client_does_the_same(stack: RunningStack) -> None:
    """submit, wait with progress, results, extract, map and models, all awaited."""

    async def run() -> None:
        async with AsyncClient(stack.url, stack.key) as client:
            seen: list[str] = []
            job = await client.submit([TEXT] * 3, ["person", "city"])
            await job.wait(timeout=120, on_progress=lambda info: seen.append(info.status))
            assert [entities_of(result) async for result in job.results()] == [ENTITIES] * 3
            assert seen[-1] == "succeeded"
            assert [entities_of(result) for result in await client.extract([TEXT], ["person", "city"])] == [
                ENTITIES
            ]
            assert [result.index async for result in client.map([TEXT] * 5, ["person"])] == list(range(5))
            assert [model.available for model in await client.models()] == [True]

    asyncio.run(run())


def test_results_of_a_running_job_come_as_they_are_ready(client: Client) -> None:
    """Without waiting first, the iterator hands out every document once, in order."""
    job = client.submit([f"{TEXT} {number}" for number in range(300)], ["person"])

    assert [result.index for result in job.results(page_size=50)] == list(range(300))


def test_map_over_more_than_one_job(client: Client) -> None:
    """Documents beyond one window come back in order, with ids of the whole."""
    results = list(client.map((f"{TEXT} {number}" for number in range(300)), ["person"]))

    assert [result.id for result in results] == [str(number) for number in range(300)]
    assert all(entities_of(result)[:2] == ENTITIES[:2] for result in results)


def test_a_bad_document_fails_alone(client: Client) -> None:
    """Empty texts and lone surrogates fail with their code; their neighbours succeed."""
    job = client.submit([TEXT, "", "a\ud800b", TEXT], ["person", "city"]).wait(timeout=120)
    codes = [result.error and result.error.code for result in job.results()]

    assert codes == [None, "empty_text", "invalid_text", None]
    assert job.status == "partially_succeeded"
    assert job.info.error_summary == {"empty_text": 1, "invalid_text": 1}


def test_refusals_say_what_is_wrong(client: Client, stack: RunningStack) -> None:
    """Each refusal is its own exception, with code and, where it applies, a pointer."""
    with pytest.raises(gleaner.ValidationError) as raised:
        client.submit([TEXT], ["person", ""])
    assert any(pointer.startswith("/labels") for pointer, _detail in raised.value.errors)
    with pytest.raises(gleaner.ValidationError) as raised:
        client.submit([TEXT], ["person"], model="no-such")
    assert raised.value.code == "unknown_model"
    with pytest.raises(gleaner.NotFound):
        client.job("job_00000000000000000000000000")
    with Client(stack.url, "gl_wrong") as stranger, pytest.raises(gleaner.AuthenticationError):
        stranger.models()


def test_an_idempotency_key_is_one_job(client: Client) -> None:
    """The same key and body are the same job; another body under it is refused."""
    key = f"test-{time.time_ns()}"
    first = client.submit([TEXT], ["person"], idempotency_key=key)
    again = client.submit([TEXT], ["person"], idempotency_key=key)
    assert first.id == again.id
    with pytest.raises(gleaner.ValidationError) as raised:
        client.submit([TEXT, TEXT], ["person"], idempotency_key=key)
    assert raised.value.code == "idempotency_key_reused"


def test_cancel_keeps_what_is_finished_and_delete_ends_it(client: Client) -> None:
    """A running job cannot be deleted; cancelled it can, and is gone then."""
    job = client.submit([f"{TEXT * 20} {number}" for number in range(600)], ["person"])
    with pytest.raises(gleaner.Conflict):
        job.delete()
    job.cancel().wait(timeout=120)
    counts = job.counts

    assert job.status == "cancelled"
    assert counts.cancelled > 0
    assert counts.succeeded + counts.cancelled == counts.total
    assert {result.status for result in job.results(status="cancelled")} == {"cancelled"}

    job.delete()
    with pytest.raises(gleaner.Gone):
        job.refresh()


def test_wait_can_end_first(client: Client) -> None:
    """A timeout leaves the job alone; it can be waited for again."""
    job = client.submit([f"{TEXT * 10} {number}" for number in range(200)], ["person"])
    with pytest.raises(gleaner.WaitTimeout):
        job.wait(timeout=0.05)
    assert job.wait(timeout=150).status == "succeeded"
