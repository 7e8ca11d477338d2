"""Upkeep against a real ledger and broker: each loss is found, once, and a healthy backlog is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson
import pytest
import redis
from prometheus_client import CollectorRegistry

from jobs import ledger, naming
from jobs.ledger import Ledger, Message
from jobs.observability.metrics import UpkeepMetrics
from jobs.queue import celery_queues
from jobs.schema import Job, JobStatus, Priority
from jobs.upkeep import Upkeep, UpkeepLoop
from tests.support.ledger import MODEL, new_job
from tests.support.processes.harness import wait_for

QUEUE = naming.queue_name(MODEL, Priority.STANDARD)


@dataclass
class House:
    client: redis.Redis
    broker: redis.Redis
    store: Ledger
    upkeep: Upkeep

    def submit(self, job: str, shards: int = 1, **more: object) -> tuple[Message, ...]:
        created = self.store.run(ledger.create_job(new_job(job, (1,) * shards, **more)))  # type: ignore[arg-type]
        celery_queues.push_messages(self.broker, created.publish)
        return created.publish

    def take(self) -> Message | None:
        """Pop a message as a worker would, which is where plain Celery loses it."""
        raw = self.broker.rpop(celery_queues.KEY_PREFIX + QUEUE)
        if raw is None:
            return None
        job, shard, seq = orjson.loads(raw)["headers"]["id"].split(".")
        return Message(QUEUE, job, int(shard), int(seq))

    def job(self, name: str) -> Job:
        view = self.store.run(ledger.read_job(name))
        assert isinstance(view, Job)
        return view

    def age_beat(self) -> None:
        """Pretend that upkeep has been ticking: no outage, leases may expire."""
        self.store.run(ledger.upkeep_tick())
        self.client.hset("{gleaner}:sys", "no_expire_until", 0)


@pytest.fixture
def house(ledger_url: str, broker_url: str) -> Iterator[House]:
    """Yield an empty ledger and broker with an upkeep that has been ticking."""
    with redis.Redis.from_url(ledger_url) as client, redis.Redis.from_url(broker_url) as broker:
        store = Ledger(client)
        upkeep = Upkeep(store, broker, UpkeepMetrics(CollectorRegistry()), grace_s=0.05)
        house = House(client, broker, store, upkeep)
        house.age_beat()
        yield house


def ticks(house: House, until: Callable[[], bool], most: int = 100) -> None:
    """Tick as the courier does until a condition holds."""
    for _ in range(most):
        house.upkeep.tick()
        if until():
            return
        time.sleep(0.02)
    pytest.fail("upkeep did not get there")


def test_a_popped_and_lost_message_is_published_again(house: House) -> None:
    """A worker that died between taking a message and claiming its shard costs a grace, not the job."""
    house.submit("job_1")
    assert house.take() is not None  # and never claimed
    ticks(house, lambda: celery_queues.queue_length(house.broker, QUEUE) == 1)
    again = house.take()
    assert again is not None
    assert house.store.run(ledger.claim_shard(again, "n", "w", "rev")).kind == "run"


def test_a_healthy_backlog_is_not_multiplied(house: House) -> None:
    """Messages that wait behind others are not lost: fifty ticks add none, however old they are."""
    for n in range(20):
        house.submit(f"job_{n}", tenant=f"t{n}")
    for _ in range(50):
        house.upkeep.tick()
        time.sleep(0.005)
    assert celery_queues.queue_length(house.broker, QUEUE) == 20


def test_the_queue_is_rebuilt_after_flushdb(house: House) -> None:
    """An emptied broker gets one message for every published shard."""
    for n in range(250):
        house.submit(f"job_{n}", shards=2, tenant=f"t{n}")
    house.broker.flushdb()
    ticks(house, lambda: celery_queues.queue_length(house.broker, QUEUE) == 500)
    seen = {(m.job, m.shard) for m in iter(house.take, None)}
    assert len(seen) == 500


def test_two_upkeeps_publish_a_lost_shard_once(house: House) -> None:
    """Racing replicas compare before they set."""
    house.submit("job_1", shards=2)
    house.broker.flushdb()
    other = Upkeep(house.store, house.broker, UpkeepMetrics(CollectorRegistry()), grace_s=0.05)
    for _ in range(30):
        house.upkeep.tick()
        other.tick()
        time.sleep(0.01)
    messages = list(iter(house.take, None))
    latest = {m.shard: m for m in messages}
    for message in latest.values():
        assert house.store.run(ledger.claim_shard(message, f"n{message.shard}", "w", "rev")).kind == "run"
    assert {m.shard for m in messages} == {0, 1}


def test_a_silent_worker_loses_its_shard(house: House) -> None:
    """A lease that ran out brings the shard back; a later write of the dead worker is stale."""
    [message] = house.submit("job_1")
    house.take()
    house.store.run(ledger.claim_shard(message, "dead", "w1", "rev", ledger.ClaimTerms(lease_ms=10)))
    time.sleep(0.02)
    ticks(house, lambda: celery_queues.queue_length(house.broker, QUEUE) == 1)
    again = house.take()
    assert again is not None
    claim = house.store.run(ledger.claim_shard(again, "live", "w2", "rev"))
    assert (claim.kind, claim.attempts, claim.isolated) == ("run", 2, False)
    assert (
        house.store.run(ledger.complete_shard(message, "dead", ledger.ShardResult(b"x", b"", 1, 0, {}, {}))).kind
        == "stale"
    )
    assert (
        house.store.run(ledger.complete_shard(again, "live", ledger.ShardResult(b"x", b"", 1, 0, {}, {}))).kind
        == "stored"
    )


def test_a_broker_that_is_down_stops_only_the_pushing(house: House) -> None:
    """Leases and deadlines are the ledger's alone; the message follows once there is a broker again."""
    [message] = house.submit("job_1")
    house.take()
    house.store.run(ledger.claim_shard(message, "dead", "w1", "rev", ledger.ClaimTerms(lease_ms=10)))
    time.sleep(0.02)
    nowhere = redis.Redis(port=1, socket_connect_timeout=1)
    deaf = Upkeep(house.store, nowhere, UpkeepMetrics(CollectorRegistry()), grace_s=0.05)
    with pytest.raises(redis.ConnectionError):
        deaf.tick()
    assert house.job("job_1").counts.running == 0
    ticks(house, lambda: celery_queues.queue_length(house.broker, QUEUE) == 1)


def test_an_outage_does_not_expire_leases(house: House) -> None:
    """After a silence of upkeep itself, workers get a whole lease to renew before anything is taken from them."""
    [message] = house.submit("job_1")
    house.take()
    house.store.run(ledger.claim_shard(message, "n", "w", "rev", ledger.ClaimTerms(lease_ms=10)))
    house.client.hset("{gleaner}:sys", "beat", 0)
    time.sleep(0.02)
    for _ in range(5):
        house.upkeep.tick()
    assert house.store.run(ledger.renew_leases([("job_1", 0, "n")])) == ("ok",)


def test_short_leases_survive_a_short_outage(house: House) -> None:
    """A silence of half a lease holds leases back, too: an outage of a few seconds must not end them all."""
    [message] = house.submit("job_1")
    house.take()
    house.store.run(ledger.claim_shard(message, "n", "w", "rev", ledger.ClaimTerms(lease_ms=10)))
    now = house.store.run(ledger.ping_write())
    house.client.hset("{gleaner}:sys", "beat", now - 2000)
    time.sleep(0.02)
    Upkeep(house.store, house.broker, UpkeepMetrics(CollectorRegistry()), lease_s=2).tick()
    assert house.store.run(ledger.renew_leases([("job_1", 0, "n")])) == ("ok",)


def test_blame_reaches_only_what_was_in_the_forward(house: House) -> None:
    """A shard in the forward of a dying process runs isolated next time; its neighbour in the process does not."""
    inside, outside = house.submit("job_1", shards=2)
    for message in (inside, outside):
        house.take()
        house.store.run(
            ledger.claim_shard(message, f"n{message.shard}", "w", "rev", ledger.ClaimTerms(lease_ms=10))
        )
    house.store.run(ledger.set_crash_suspects("w", [("job_1", 0), ("job_1", 1)]))
    house.store.run(ledger.set_crash_suspects("w", [("job_1", 0)], left=[("job_1", 1)]))
    time.sleep(0.02)
    ticks(house, lambda: celery_queues.queue_length(house.broker, QUEUE) == 2)
    claims = [house.store.run(ledger.claim_shard(m, f"again{m.shard}", "w", "rev")) for m in iter(house.take, None)]
    assert sorted(claim.isolated for claim in claims) == [False, True]


def test_a_shard_is_at_risk_from_its_claim_to_its_completion(house: House) -> None:
    """Most shards need no separate call to be suspects; one given back is off the list, too."""

    def at_risk() -> set[bytes]:
        return set(house.store._client.smembers("{gleaner}:run:w"))  # type: ignore[arg-type]  # redis-py's gap

    first, second = house.submit("job_1", shards=2)
    for message in (first, second):
        house.store.run(
            ledger.claim_shard(message, f"n{message.shard}", "w", "rev", ledger.ClaimTerms(at_risk=True))
        )
    assert at_risk() == {b"job_1:0", b"job_1:1"}
    house.store.run(ledger.complete_shard(first, "n0", ledger.ShardResult(b"x", b"", 1, 0, {}, {})))
    house.store.run(ledger.release_shard("job_1", 1, "n1"))
    assert at_risk() == set()


def test_isolated_deaths_are_counted_for_the_document_that_ran(house: House) -> None:
    """Deaths while a document ran isolated count for that document only, and partial results survive them."""
    house.store.run(ledger.create_job(new_job("job_1", (3,))))
    message = Message(QUEUE, "job_1", 0, 1)
    for death, (isolated, at, deaths) in enumerate([(False, 0, 0), (True, 0, 0), (True, 1, 1), (True, 1, 2)]):
        claim = house.store.run(ledger.claim_shard(message, f"n{death}", "w", "rev", ledger.ClaimTerms(lease_ms=1)))
        assert (claim.isolated, claim.first_document, claim.isolated_deaths) == (isolated, at, deaths)
        if death == 1:  # document 0 done, document 1 begins, and kills
            assert house.store.run(ledger.record_progress("job_1", 0, "n1", 0)) == "ok"
            assert house.store.run(ledger.record_progress("job_1", 0, "n1", 1, b"result of 0")) == "ok"
        if death == 3:
            assert claim.partial_results == (b"result of 0",)
            assert house.store.run(ledger.record_progress("job_1", 0, "n3", 2, b"worker_lost")) == "ok"
            break
        house.store.run(ledger.set_crash_suspects("w", [("job_1", 0)]))
        time.sleep(0.01)
        [message] = house.store.run(ledger.reclaim_shard("job_1", 0)).publish
    done = house.store.run(
        ledger.complete_shard(message, "n3", ledger.ShardResult(b"all", b"left", 2, 1, {}, {"worker_lost": 1}))
    )
    assert done.job_state == "partially_succeeded"


def test_a_death_with_two_possible_causes_convicts_neither(house: House) -> None:
    """An isolated shard is not counted against when something else was at risk in the same process."""
    message = Message(QUEUE, "job_1", 0, 1)
    house.store.run(ledger.create_job(new_job("job_1")))
    for death, at_risk in enumerate([["job_1"], ["job_1", "job_2"], ["job_1", "job_2"]]):
        house.store.run(ledger.claim_shard(message, f"n{death}", "w", "rev", ledger.ClaimTerms(lease_ms=1)))
        house.store.run(ledger.set_crash_suspects("w", [(job, 0) for job in at_risk]))
        time.sleep(0.01)
        [message] = house.store.run(ledger.reclaim_shard("job_1", 0)).publish
    claim = house.store.run(ledger.claim_shard(message, "n", "w", "rev"))
    assert (claim.isolated, claim.isolated_deaths) == (True, 0)


def test_a_deadline_ends_a_job_and_keeps_what_finished(house: House) -> None:
    """Finished documents stay succeeded, the rest are expired, and the job says so."""
    first, _ = house.submit("job_1", shards=2, deadline_s=0.05)
    house.store.run(ledger.claim_shard(first, "n", "w", "rev"))
    house.store.run(ledger.complete_shard(first, "n", ledger.ShardResult(b"x", b"", 1, 0, {}, {})))
    ticks(house, lambda: house.job("job_1").status.is_terminal)
    job = house.job("job_1")
    assert job.status is JobStatus.EXPIRED
    assert (job.counts.succeeded, job.counts.expired) == (1, 1)


def test_results_are_purged_past_their_time(house: House) -> None:
    """After result_ttl nothing is left but the tombstone."""
    [message] = house.submit("job_1", ttl_s=0.05)
    house.store.run(ledger.claim_shard(message, "n", "w", "rev"))
    house.store.run(ledger.complete_shard(message, "n", ledger.ShardResult(b"x", b"", 1, 0, {}, {})))
    ticks(house, lambda: house.store.run(ledger.read_job("job_1")) == ledger.Gone("t1"))
    assert list(house.client.keys("*job_1*")) == [b"{gleaner}:gone:job_1"]


def test_a_newer_record_is_given_back_and_comes_again(house: House) -> None:
    """An older worker hands a shard of a newer version back; it is published again for those who can."""
    [message] = house.submit("job_1", version=naming.WIRE_VERSION + 1)
    house.take()
    assert house.store.run(ledger.claim_shard(message, "n", "old", "rev")).kind == "newer"
    house.client.zadd("{gleaner}:open:gleaner-small", {"job_1:0": 1})  # its half minute is over
    ticks(house, lambda: celery_queues.queue_length(house.broker, QUEUE) == 1)
    again = house.take()
    assert again is not None
    assert (
        house.store.run(
            ledger.claim_shard(again, "n", "new", "rev", ledger.ClaimTerms(max_version=naming.WIRE_VERSION + 1))
        ).kind
        == "run"
    )


def test_a_lapsed_stage_returns_its_reservation(house: House) -> None:
    """A submission that never was committed leaves nothing behind."""
    house.store.run(ledger.stage_shards("job_9", 0, [b"blob"], terms=ledger.StageTerms(ttl_s=0.01)))
    time.sleep(0.02)
    ticks(house, lambda: not house.client.exists("{gleaner}:in:job_9"))
    house.upkeep.tick()
    assert int(house.client.hget("{gleaner}:sys", "reserve") or 0) == 0


def test_audit_mends_broken_books(house: House) -> None:
    """Counts, open and pub that a crash or an operator broke are mended from the shard records."""
    house.submit("job_1", shards=2)
    house.client.hset("{gleaner}:job:job_1", mapping={"run": 5, "ok": 9})
    house.client.delete("{gleaner}:open:gleaner-small", f"{{gleaner}}:pub:{QUEUE}")
    house.upkeep.tick()
    assert house.client.zcard("{gleaner}:open:gleaner-small") == 2
    assert house.client.zcard(f"{{gleaner}}:pub:{QUEUE}") == 2
    assert house.job("job_1").counts.queued == 2


def test_a_stand_by_stays_out_while_a_courier_ticks(house: House) -> None:
    """It does nothing while another's beat is young, and steps in when that is old.

    Then it stays in, and ticks as often as a courier, or leases would never expire. A second one stays out, and
    a courier that is back ends it.
    """
    here, there = (Upkeep(house.store, house.broker, UpkeepMetrics(CollectorRegistry())) for _ in range(2))
    house.upkeep.tick()
    assert here.tick(silent_s=30) is False
    house.client.hset("{gleaner}:sys", "beat", 1)
    assert [here.tick(silent_s=30), there.tick(silent_s=30), here.tick(silent_s=30)] == [True, False, True]
    house.upkeep.tick()
    assert here.tick(silent_s=30) is False


def test_a_stand_by_alone_brings_back_what_a_dead_worker_held(house: House) -> None:
    """Leases are held for a moment after the silence that made it step in, not again at each of its ticks."""
    [message] = house.submit("job_1")
    house.take()
    house.store.run(ledger.claim_shard(message, "n", "w", "rev", ledger.ClaimTerms(lease_ms=10)))
    now = house.store.run(ledger.ping_write())
    house.client.hset("{gleaner}:sys", "beat", now - 31_000)
    alone = Upkeep(house.store, house.broker, UpkeepMetrics(CollectorRegistry()), lease_s=1)
    loop = UpkeepLoop(alone, every_s=0.02, silent_s=30)
    loop.start()
    wait_for(lambda: celery_queues.queue_length(house.broker, QUEUE) == 1, 30, "the shard is published again")
    assert loop.is_ticking()
    loop.stop()
