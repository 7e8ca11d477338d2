"""Delivery rate of one courier, and the effect of a dead receiver on the others."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence

import httpx
import pytest

from jobs.ledger import Ledger
from tests.support.processes.couriers import add_endpoint, end_job, start_courier
from tests.support.processes.harness import ServiceHarness
from tests.support.servers.receivers import Receiver, receiving

LONG = os.environ.get("CHAOS") == "1"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def own_harness() -> Iterator[ServiceHarness]:
    """Start Redis for this file; the test starts the courier."""
    running = ServiceHarness()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def store(own_harness: ServiceHarness) -> Iterator[Ledger]:
    """Return the ledger."""
    with own_harness.server.client() as client:
        yield Ledger(client)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on loopback."""
    with receiving() as running:
        yield running


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def healthy_latencies(
    store: Ledger, receiver: Receiver, path: str, tenants: Sequence[str], count: int
) -> list[float]:
    """Seconds from a job's end to its event's arrival, jobs ending at a steady rate."""
    ended = {}
    began = time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, began + n / 50 - time.monotonic()))  # a steady rate, not a wait for anything
        job = f"job{path.replace('/', '_')}_{n}"
        end_job(store, job, tenant=tenants[n % len(tenants)])
        ended[job] = time.monotonic()
    return [
        request.at - ended[json.loads(request.body)["data"]["job_id"]] for request in receiver.wait(path, count, 60)
    ]


def test_rate_and_a_dead_receiver(
    own_harness: ServiceHarness, store: Ledger, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """A courier keeps up with a bare HTTP client's loop; a receiver that never answers delays no other."""
    count, sample = (10_000, 1_000) if LONG else (500, 100)
    tenants = [f"t{n}" for n in range(8)]
    for tenant in tenants:
        add_endpoint(store, f"ep_{tenant}", receiver.url("/rate"), tenant=tenant)
    with httpx.Client(trust_env=False) as client:
        began = time.monotonic()
        for _ in range(min(count, 2_000)):
            client.post(receiver.url("/bare"), content=b"x" * 500)
        bare = min(count, 2_000) / (time.monotonic() - began)
    for n in range(count):
        end_job(store, f"job_{n}", tenant=tenants[n % 8])
    # Patient, and soon back: where other work keeps both cores busy, a healthy receiver may be slow as well.
    start_courier(own_harness, {"delays_s": [1.0] * 9}, webhook_timeout_s=5)
    requests = receiver.wait("/rate", count, 90)
    rate = (count - 1) / (requests[-1].at - requests[0].at)
    assert len({request.headers["webhook-id"] for request in requests}) == count

    for tenant in tenants:
        add_endpoint(store, f"alone_{tenant}", receiver.url("/alone"), tenant=f"a{tenant}")
        add_endpoint(store, f"beside_{tenant}", receiver.url("/beside"), tenant=f"b{tenant}")
    alone = healthy_latencies(store, receiver, "/alone", [f"a{tenant}" for tenant in tenants], sample)
    add_endpoint(store, "dead", receiver.url("/silent"), tenant="dead")
    for n in range(sample):
        end_job(store, f"dead_{n}", tenant="dead")
    receiver.wait("/silent", 1)
    beside = healthy_latencies(store, receiver, "/beside", [f"b{tenant}" for tenant in tenants], sample)
    with capsys.disabled():
        sys.stdout.write(
            f"\n  webhooks: {rate:.0f}/s by one courier, {bare:.0f}/s by a bare client loop, "
            f"ratio {rate / bare:.2f};"
            f"\n  p99 from job end to arrival {percentile(alone, 0.99) * 1000:.0f} ms,"
            f" {percentile(beside, 0.99) * 1000:.0f} ms beside a dead receiver"
            f" ({len(receiver.at('/silent'))} attempts there)\n"
        )
        sys.stdout.flush()
    assert percentile(beside, 0.99) < 5
