"""Couriers and the server killed in the middle of deliveries: every event arrives, under one id."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from jobs.ledger import Ledger, webhooks
from tests.support.processes.couriers import add_endpoint, end_job, start_courier
from tests.support.processes.harness import ServiceHarness, wait_for
from tests.support.servers.receivers import Receiver, receiving

LONG = os.environ.get("CHAOS") == "1"
SEED = int(os.environ.get("CHAOS_SEED", "1"))
RULES = {"delays_s": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0], "lease_s": 1.0, "requeue_s": 1.0}
TENANTS = 4


@pytest.fixture
def own_harness() -> Iterator[ServiceHarness]:
    """Start Redis for this file; the test starts the couriers."""
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


def check(store: Ledger, receiver: Receiver, path: str, jobs: int) -> Counter[str]:
    """Check that every job's event arrived, each with its id; return how often each id arrived."""
    expected: dict[str, str] = {}
    for tenant in range(TENANTS):
        start = None
        while True:
            page = store.run(webhooks.list_deliveries(f"ep_{tenant}", start, 200))
            expected |= {delivery.id: delivery.state for delivery in page.deliveries}
            start = page.next
            if start is None:
                break
    arrived = Counter(request.headers["webhook-id"] for request in receiver.at(path))
    assert len(expected) == jobs
    assert set(arrived) == set(expected)
    assert set(expected.values()) == {"delivered"}
    bodies = {(request.headers["webhook-id"], request.body) for request in receiver.at(path)}
    assert len(bodies) == jobs  # a repeated event is the same, byte by byte
    return arrived


def all_delivered(store: Ledger, jobs: int) -> bool:
    """Return whether every delivery succeeded."""
    delivered = 0
    for tenant in range(TENANTS):
        start = None
        while True:
            page = store.run(webhooks.list_deliveries(f"ep_{tenant}", start, 200, "delivered"))
            delivered += len(page.deliveries)
            start = page.next
            if start is None:
                break
    return delivered == jobs


def test_couriers_killed_during_deliveries_lose_nothing(
    own_harness: ServiceHarness, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every event at least once, doubles under the same webhook-id, the interrupted attempts written down."""
    jobs, kills = (2_000, 20) if LONG else (150, 3)
    rng = random.Random(SEED)
    with own_harness.server.client() as client:
        store = Ledger(client)
        for tenant in range(TENANTS):
            add_endpoint(store, f"ep_{tenant}", receiver.url("/slow"), tenant=f"t{tenant}")
        for n in range(jobs):
            end_job(store, f"job_{n}", tenant=f"t{n % TENANTS}")
        for _ in range(kills):
            courier = start_courier(own_harness, RULES)
            target = min(len(receiver.at("/slow")) + rng.randint(5, max(6, jobs // (kills + 1))), jobs - 1)
            receiver.wait("/slow", target, 30)
            time.sleep(rng.random() * 0.02)  # anywhere within an attempt
            courier.kill()
        start_courier(own_harness, RULES)
        wait_for(lambda: all_delivered(store, jobs), 60, "everything is delivered")
        arrived = check(store, receiver, "/slow", jobs)
        interrupted = sum(
            attempt.error == "interrupted"
            for tenant in range(TENANTS)
            for delivery in store.run(webhooks.list_deliveries(f"ep_{tenant}", None, 1000)).deliveries
            for attempt in delivery.attempts
        )
    with capsys.disabled():
        doubled = sum(times - 1 for times in arrived.values())
        sys.stdout.write(f"\n  {jobs} deliveries, {kills} kills: {doubled} doubled, {interrupted} interrupted\n")
        sys.stdout.flush()


def test_the_schedule_survives_courier_and_server(own_harness: ServiceHarness, receiver: Receiver) -> None:
    """Each event fails once, so that all wait for their second attempt; then courier and server are killed."""
    jobs = 200 if LONG else 40
    with own_harness.server.client() as client:
        store = Ledger(client)
        for tenant in range(TENANTS):
            add_endpoint(store, f"ep_{tenant}", receiver.url("/flaky"), tenant=f"t{tenant}")
        for n in range(jobs):
            end_job(store, f"job_{n}", tenant=f"t{n % TENANTS}")
        courier = start_courier(own_harness, RULES)
        receiver.wait("/flaky", jobs // 2, 30)
        own_harness.server.kill()
        courier.kill()
        own_harness.server.start()
    with own_harness.server.client() as client:
        store = Ledger(client)
        start_courier(own_harness, RULES)
        wait_for(lambda: all_delivered(store, jobs), 60, "everything is delivered")
        arrived = check(store, receiver, "/flaky", jobs)
    assert min(arrived.values()) >= 2


def test_a_courier_outlives_the_server(own_harness: ServiceHarness, receiver: Receiver) -> None:
    """The server is killed and comes back while a courier delivers: it goes on by itself."""
    jobs = 60
    with own_harness.server.client() as client:
        store = Ledger(client)
        for tenant in range(TENANTS):
            add_endpoint(store, f"ep_{tenant}", receiver.url("/slow"), tenant=f"t{tenant}")
        for n in range(jobs):
            end_job(store, f"job_{n}", tenant=f"t{n % TENANTS}")
        courier = start_courier(own_harness, RULES)
        receiver.wait("/slow", 10, 30)
        own_harness.server.kill()
        own_harness.server.start()
    with own_harness.server.client() as client:
        store = Ledger(client)
        wait_for(lambda: all_delivered(store, jobs), 60, "everything is delivered")
        check(store, receiver, "/slow", jobs)
        assert courier.alive()
        assert courier.drain() == 0
