from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event

import pytest
import redis

from jobs import ledger, naming
from jobs.ledger import Ledger, LedgerUnavailableError, Message
from jobs.schema import Priority
from tests.support.ledger import MODEL, new_job
from worker.shards.leases import Lease, LeaseKeeper

QUEUE = naming.queue_name(MODEL, Priority.STANDARD)


@pytest.fixture
def store(ledger_url: str) -> Iterator[Ledger]:
    """Return an empty ledger."""
    with redis.Redis.from_url(ledger_url) as client:
        yield Ledger(client)


def claim_job(store: Ledger, job: str, lease_ms: int = 60_000) -> Message:
    """Claim a shard under the nonce `n`."""
    [message] = store.run(ledger.create_job(new_job(job, tenant=job))).publish  # a separate share
    assert (
        store.run(ledger.claim_shard(message, "n", "w", "rev", ledger.ClaimTerms(lease_ms=lease_ms))).kind == "run"
    )
    return message


def make_keeper(store: Ledger, ended: list[Lease] | None = None, lease_s: float = 0.2) -> LeaseKeeper:
    """Return a keeper that renews every twentieth of a second."""
    return LeaseKeeper(store, lambda: None, (ended if ended is not None else []).append, lease_s)


def test_a_held_lease_outlives_its_length(store: Ledger) -> None:
    """Nobody else can claim the shard while the block runs."""
    message = claim_job(store, "job_1", lease_ms=200)
    leases = make_keeper(store)
    leases.start()
    with leases.hold(message, "n") as lease:
        time.sleep(0.6)
        assert not lease.end_reason
        assert store.run(ledger.reclaim_shard("job_1", 0)).kind == "early"
    assert leases.count_held() == 0
    time.sleep(0.3)
    assert store.run(ledger.reclaim_shard("job_1", 0)).kind == "clean"
    leases.stop()


def test_a_cancelled_job_ends_the_lease_once(store: Ledger) -> None:
    """`stop` reaches the holder, and only once."""
    message, ended = claim_job(store, "job_1"), list[Lease]()
    leases = make_keeper(store, ended)
    with leases.hold(message, "n") as lease:
        store.run(ledger.cancel_job("job_1"))
        leases.renew_leases()
        leases.renew_leases()
    assert ended == [lease]
    assert lease.end_reason == "stop"


def test_a_lost_lease_says_so(store: Ledger) -> None:
    """A worker whose shard was claimed by another learns it at the next renewal."""
    message, ended = claim_job(store, "job_1"), list[Lease]()
    leases = make_keeper(store, ended)
    with leases.hold(message, "an older nonce") as lease:
        leases.renew_leases()
    assert (lease.end_reason, ended) == ("lost", [lease])


def test_a_drain_ends_every_lease_and_those_to_come(store: Ledger) -> None:
    """Shards claimed after the call are given back, too; a lease that had ended keeps its reason."""
    ended: list[Lease] = []
    leases = make_keeper(store, ended)
    with (
        leases.hold(claim_job(store, "job_1"), "n") as first,
        leases.hold(claim_job(store, "job_2"), "n") as second,
    ):
        first.end_reason = "stop"
        leases.end_all()
        assert (first.end_reason, second.end_reason, ended) == ("stop", "drain", [second])
        with leases.hold(claim_job(store, "job_3"), "n") as late:
            assert late.end_reason == "drain"


class Flaky(Ledger):
    """A store that fails the first times, then works."""

    def __init__(self, client: redis.Redis, failures: list[Exception]) -> None:
        super().__init__(client)
        self.failures = failures
        self.worked = Event()

    def run(self, call):  # type: ignore[no-untyped-def]
        """Fail, or work."""
        if self.failures:
            raise self.failures.pop()
        answer = super().run(call)
        self.worked.set()
        return answer


@pytest.mark.parametrize("error", [LedgerUnavailableError("down"), RuntimeError("a bug")])
def test_no_failure_ends_the_rounds(ledger_url: str, error: Exception) -> None:
    """After an outage, or a bug, the next round renews: the leases of a whole process hang on this thread."""
    with redis.Redis.from_url(ledger_url) as client:
        message = claim_job(Ledger(client), "job_1")
        store = Flaky(client, [error, error])
        leases = make_keeper(store)
        with leases.hold(message, "n"):
            leases.start()
            assert store.worked.wait(5)
        leases.stop()
