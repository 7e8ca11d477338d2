"""Webhooks go in turns by tenant: slow receivers, however many, are slowed alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.ledger import Ledger, webhooks
from jobs.ledger.webhooks import DeliveryAttempt
from tests.support.processes.couriers import add_endpoint, end_job, start_courier
from tests.support.processes.harness import ServiceHarness
from tests.support.servers.receivers import Receiver, receiving
from tests.support.servers.redis_servers import RedisServer

pytestmark = pytest.mark.alone

SLOTS = 16
LEASE = 60_000


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Connect to an empty server."""
    redis_server.flush()
    with redis.Redis.from_url(redis_server.url(1)) as connected:
        yield connected


@pytest.fixture
def store(client: redis.Redis) -> Ledger:
    """Return the ledger on it."""
    return Ledger(client)


@pytest.fixture
def harness() -> Iterator[ServiceHarness]:
    """Start a server for one test's courier."""
    running = ServiceHarness()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on loopback."""
    with receiving() as running:
        yield running


def flood(store: Ledger, tenant: str, url: str, count: int, *, lanes: int | None = None) -> None:
    """End `count` jobs, each with an endpoint at a separate receiver (or at one of `lanes`)."""
    for n in range(count):
        name = f"{tenant}_{n}"
        lane = name if lanes is None else f"{tenant}_lane_{n % lanes}"
        add_endpoint(store, name, url, tenant=tenant, every=False, lane=lane, kind="inline")
        end_job(store, f"job_{name}", tenant=tenant, endpoint_id=name)


def due(store: Ledger, limit: int = 64, slots: int = SLOTS, courier: str = "c1", **more: int) -> list[str]:
    """Return the deliveries that a courier is handed now, as the tenants they belong to, in the queue's order."""
    call = webhooks.take_due_deliveries(limit, 4, courier=webhooks.CourierSlots(courier, slots), **more)
    return [delivery for message in store.run(call).messages for delivery in message]


def tenants(store: Ledger, ids: list[str]) -> list[str]:
    """Return the tenants of these deliveries."""
    views = [store.run(webhooks.read_delivery(delivery)) for delivery in ids]
    return [view.tenant for view in views if view is not None]


def finish(store: Ledger, delivery: str, ms: int) -> None:
    """Attempt a delivery, which takes `ms` and succeeds."""
    assert store.run(webhooks.claim_delivery(delivery, delivery, LEASE, 4)).kind == "run"
    attempt = DeliveryAttempt(1_772_366_400_000, 200, ms, "", b"")
    store.run(webhooks.record_delivery(delivery, delivery, webhooks.AttemptVerdict("delivered"), attempt))


def test_many_slow_receivers_of_one_tenant_delay_no_other(harness: ServiceHarness, receiver: Receiver) -> None:
    """128 jobs with webhooks to receivers that take 14 s each; another tenant's comes within 2 s."""
    with harness.server.client() as client:
        store = Ledger(client)
        add_endpoint(store, "b", receiver.url("/b"), tenant="b")
        flood(store, "a", receiver.url("/wait/14/a"), 128)
        start_courier(harness)
        receiver.wait("/wait/14/a", SLOTS // 2)
        for n in range(1, 4):
            end_job(store, f"b_{n}", tenant="b")
            ended = time.monotonic()
            assert receiver.wait("/b", n)[-1].at - ended < 2
        assert len(receiver.at("/wait/14/a")) <= SLOTS // 2


def test_a_tenant_has_half_of_the_slots_of_all_couriers(store: Ledger) -> None:
    """However many of its deliveries are due; a courier that joins makes the half larger."""
    flood(store, "a", "http://a/", 60)
    assert len(due(store)) == 8
    assert due(store) == []
    assert len(due(store, courier="c2")) == 8
    flood(store, "b", "http://b/", 60)
    assert tenants(store, due(store)) == ["b"] * 8  # up to the last quarter, which is for those with few under way
    flood(store, "c", "http://c/", 3)
    assert tenants(store, due(store)) == ["c"] * 2


def test_the_queue_takes_a_message_of_each_tenant_before_the_second_of_any(store: Ledger) -> None:
    """So nobody stands behind all that another tenant has."""
    for tenant in ("a", "b", "c"):
        flood(store, tenant, "http://x/", 4)
    handed = tenants(store, due(store, slots=64))
    assert [sorted(handed[n : n + 3]) for n in range(0, 12, 3)] == [["a", "b", "c"]] * 4


def test_a_tenant_that_is_slow_gets_two_slots_and_recovers(store: Ledger, client: redis.Redis) -> None:
    """An average above 5 s: two; quick attempts, or ten quiet minutes, and it has its half again."""
    flood(store, "a", "http://a/", 100)
    for delivery in due(store):
        finish(store, delivery, 14_000)
    slow = due(store)
    assert len(slow) == 2
    for _ in range(12):
        for delivery in slow:
            finish(store, delivery, 10)
        slow = due(store)
    assert len(slow) == 8
    client.set("{gleaner}:pace:@a", 14_000)
    finish(store, slow[0], 14_000)
    assert 0 < client.pttl("{gleaner}:pace:@a") <= 600_000  # type: ignore[operator]


def test_one_slow_attempt_slows_nobody(store: Ledger) -> None:
    """An average, not the last attempt, counts."""
    flood(store, "a", "http://a/", 40)
    first, *remaining = due(store)
    finish(store, first, 15_000)
    for delivery in remaining:
        finish(store, delivery, 10)
    assert len(due(store)) == 8


def test_slow_tenants_together_have_half_of_the_slots(store: Ledger, client: redis.Redis) -> None:
    """Eleven of them with two each would be all."""
    for n in range(11):
        client.set(f"{{gleaner}}:pace:@slow{n}", 14_000)
        flood(store, f"slow{n}", "http://x/", 3)
    slow = tenants(store, due(store))
    assert len(slow) == 8
    flood(store, "quick", "http://x/", 3)
    assert tenants(store, due(store)) == ["quick"] * 3
    assert due(store) == []


def test_a_slow_receiver_gets_two_attempts_at_once(store: Ledger, client: redis.Redis) -> None:
    """Its tenant's other receivers keep theirs."""
    client.set("{gleaner}:pace:a_lane_0", 14_000)
    flood(store, "a", "http://a/", 10, lanes=2)
    receivers = Counter(endpoint(store, delivery)[-1] for delivery in due(store))
    assert [sum(count for n, count in receivers.items() if int(n) % 2 == odd) for odd in (0, 1)] == [2, 4]


def test_what_older_versions_wrote_and_tried_is_served(store: Ledger, client: redis.Redis) -> None:
    """An older courier takes retries from the receiver's list alone, and reads `eps` alone."""
    flood(store, "a", "http://a/", 20)
    handed = due(store)
    for delivery in handed:  # as an older version ends an attempt
        name = endpoint(store, delivery)
        client.hset(f"{{gleaner}}:dlv:{delivery}", "state", "delivered")
        client.zrem(f"{{gleaner}}:due:{name}", delivery)
        client.zrem(f"{{gleaner}}:hand:{name}", delivery)
    assert len(due(store)) == 8
    due_at = dict(client.zrange("{gleaner}:eps", 0, -1, withscores=True))
    waiting = {name.decode() for name in client.zrange("{gleaner}:due:@a", 0, -1)}
    assert waiting
    assert waiting <= {
        name.decode() for name in due_at
    }  # so an older courier finds them, should no newer one be left


def test_a_courier_that_died_does_not_take_its_slots_with_it(store: Ledger) -> None:
    """Its attempts count as long as its slots do; a courier started later has separate slots."""
    flood(store, "a", "http://a/", 60)
    assert len(due(store, courier="died")) == 8
    flood(store, "b", "http://b/", 60)
    assert len(due(store, courier="died")) == 4
    assert len(due(store, courier="next")) >= 8


class Turns:
    """Hands out and finishes deliveries by a script, and checks the limits against those in progress."""

    def __init__(self, store: Ledger) -> None:
        self.store = store
        self.under_way: dict[str, str] = {}
        self.done: set[str] = set()

    def hand_out(self) -> int:
        """Take the due deliveries; return their number."""
        handed = due(self.store)
        self.under_way.update(zip(handed, tenants(self.store, handed), strict=True))
        counts = Counter(self.under_way.values())
        assert len(self.under_way) <= SLOTS
        assert max(counts.values(), default=0) <= SLOTS // 2
        return len(handed)

    def finish(self, most: int, ms: int) -> None:
        """Finish the oldest `most` that are under way."""
        for delivery in list(self.under_way)[:most]:
            finish(self.store, delivery, ms)
            del self.under_way[delivery]
            self.done.add(delivery)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.lists(st.integers(1, 25), min_size=1, max_size=5),
    steps=st.lists(st.tuples(st.integers(1, SLOTS), st.sampled_from([5, 6_000, 14_000])), min_size=1, max_size=8),
)
def test_whatever_is_due_is_handed_out_once_and_within_the_limits(
    store: Ledger, client: redis.Redis, sizes: list[int], steps: list[tuple[int, int]]
) -> None:
    """Any number of tenants, any pace: nobody above its share, nothing lost, nothing twice."""
    client.flushdb()
    for n, size in enumerate(sizes):
        flood(store, f"t{n}", "http://x/", size)
    turns = Turns(store)
    for most, ms in steps:
        turns.hand_out()
        turns.finish(most, ms)
    end = time.monotonic() + 20
    while len(turns.done) < sum(sizes):
        assert turns.hand_out() or turns.under_way or time.monotonic() < end
        turns.finish(SLOTS, 5)
    assert len(turns.done) == sum(sizes)


def test_webhooks_of_single_jobs_that_wait_are_limited(store: Ledger) -> None:
    """A finished job and delivery makes space for another webhook; registered endpoints do not count."""

    def put(name: str) -> str:
        record = webhooks.Endpoint(name, "a", 0, b"s", (), "inline", False, name, "active", created=0, now=0)
        return store.run(webhooks.upsert_endpoint(record, ttl_ms=60_000, most=3, job=f"job_{name}"))

    for name in ("e1", "e2", "e3"):
        assert put(name) == "ok"
        end_job(store, f"job_{name}", tenant="a", endpoint_id=name)
    assert put("e3") == "ok"  # repeated
    assert put("e4") == "full"  # three deliveries wait
    [first, *_] = due(store)
    finish(store, first, 5)
    assert put("e4") == "ok"
    assert put("e5") == "full"  # the job of e4 is still to be made
    add_endpoint(store, "registered", "http://a/", tenant="a")


def endpoint(store: Ledger, delivery: str) -> str:
    """Return a delivery's endpoint."""
    view = store.run(webhooks.read_delivery(delivery))
    assert view is not None
    return view.endpoint
