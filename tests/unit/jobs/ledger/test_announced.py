"""The announcement of `complete_shard` to the process that waits for a job: its id, and small results."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis
from redis.client import PubSub

from jobs import ledger
from jobs.ledger import Ledger, Message, NewJob, Page, job_channel
from tests.support.ledger import new_job

WAITER = "gateway-0123456789abcdef:100"


def listener(client: redis.Redis, waiter: str) -> PubSub:
    """Subscribe to the waiter's channel."""
    listening: PubSub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # redis-py's
    listening.subscribe(job_channel(waiter))
    listening.get_message(timeout=1)
    return listening


def announcements(client: redis.Redis, store: Ledger, job: NewJob, result: bytes, failed: int = 0) -> list[bytes]:
    """Return the announcements on the waiter's channel while the job's first shard completes."""
    listening = listener(client, job.waiter)
    [first, *_] = store.run(ledger.create_job(job)).publish
    assert finish(store, first, result, failed) == "stored"
    client.publish(job_channel(job.waiter), "last")
    heard = []
    while (message := listening.get_message(timeout=1)) is None or message["data"] != b"last":
        heard += [message["data"]] if message else []
    listening.close()
    return heard


def finish(store: Ledger, message: Message, result: bytes, failed: int = 0) -> str:
    """Claim and complete a shard of one document."""
    assert store.run(ledger.claim_shard(message, "nonce", "worker", "rev-1")).kind == "run"
    errors = {"empty_text": failed} if failed else {}
    done = ledger.complete_shard(
        message, "nonce", ledger.ShardResult(result, b"left" * failed, 1 - failed, failed, {"windows": 1}, errors)
    )
    return store.run(done).kind


@pytest.mark.parametrize("failed", [0, 1])
def test_small_results_are_told_with_the_end(client: redis.Redis, store: Ledger, failed: int) -> None:
    """They are the results that reading the job would give, whatever bytes they consist of."""
    job = new_job("job_1", meta=b"\n\x00meta\xff", waiter=WAITER)
    [announced] = announcements(client, store, job, b"\x00result\n\xff", failed)

    job_id, _, rest = announced.partition(b"\n")
    assert job_id == b"job_1"
    page, read = ledger.parse_announced_page("job_1", rest), store.run(ledger.read_page("job_1", 0))
    assert page is not None
    assert isinstance(read, Page)
    assert replace(page, job=replace(page.job, now=read.job.now)) == read
    assert page.job.status.is_terminal


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(new_job("job_1", waiter=WAITER, meta=b"m" * 90), id="too large"),
        pytest.param(
            new_job("job_1", waiter="gateway-0123456789abcdef"), id="of a gateway that takes the id alone"
        ),
    ],
)
def test_else_the_id_alone_is_told(client: redis.Redis, store: Ledger, job: NewJob) -> None:
    """Whoever hears it reads the job."""
    assert announcements(client, store, job, b"result") == [b"job_1"]


def test_of_several_shards_the_id_alone_is_told(client: redis.Redis, store: Ledger) -> None:
    """And only at the end of the last."""
    job = new_job("job_1", (1, 1), waiter=WAITER)
    assert announcements(client, store, job, b"result") == []


@pytest.mark.parametrize("cut", [0, 1, 3, 40, -1])
def test_what_cannot_be_read_is_no_page(client: redis.Redis, store: Ledger, cut: int) -> None:
    """It is a hint then, as every other message."""
    [announced] = announcements(client, store, new_job("job_1", waiter=WAITER), b"result")
    assert ledger.parse_announced_page("job_1", announced.partition(b"\n")[2][:cut]) is None


def test_an_end_that_no_worker_brings_is_told_by_its_id(client: redis.Redis, store: Ledger) -> None:
    """A cancel, a deadline."""
    listening = listener(client, WAITER)
    store.run(ledger.create_job(new_job("job_1", waiter=WAITER)))
    assert store.run(ledger.cancel_job("job_1")) == "closed"
    message = listening.get_message(timeout=1)
    listening.close()
    assert message is not None
    assert message["data"] == b"job_1"
