"""Real couriers, a real queue and real receivers, by a schedule that is short enough to wait for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from jobs import naming
from jobs.ledger import Ledger, webhooks
from jobs.ledger.webhooks import Delivery
from jobs.queue.celery_queues import KEY_PREFIX
from tests.support.processes.couriers import add_endpoint, end_job, start_courier
from tests.support.processes.harness import ServiceHarness, wait_for
from tests.support.servers.certificates import Authority
from tests.support.servers.receivers import Receiver, receiving

DELAYS_S = (0.3, 0.5, 0.7)
RULES = {"delays_s": DELAYS_S, "requeue_s": 5.0}
SHORT = {"webhook_connect_s": 0.5, "webhook_timeout_s": 1.0}


@pytest.fixture
def harness() -> Iterator[ServiceHarness]:
    """Start Redis; the test starts the couriers."""
    running = ServiceHarness()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def store(harness: ServiceHarness) -> Iterator[Ledger]:
    """Return the ledger."""
    with harness.server.client() as client:
        yield Ledger(client)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on loopback."""
    with receiving() as running:
        yield running


def only(store: Ledger, endpoint: str) -> Delivery:
    """Return the only delivery of an endpoint."""
    [delivery] = store.run(webhooks.list_deliveries(endpoint, None, 10)).deliveries
    return delivery


def gaps(delivery: Delivery) -> list[float]:
    """Seconds from the end of each attempt to the start of the next."""
    pairs = zip(delivery.attempts, delivery.attempts[1:], strict=False)
    return [(after.at - before.at - before.ms) / 1000 for before, after in pairs]


def test_each_behaviour_gets_its_documented_schedule(
    harness: ServiceHarness, store: Ledger, receiver: Receiver, tmp_path: Path
) -> None:
    """Hostile receivers of every kind at once: each is tried as documented, none keeps another waiting."""
    authority = Authority.make(tmp_path)
    with (
        receiving(tls=authority.issue("localhost")) as trusted,
        receiving(tls=authority.issue("other.example.com")) as misnamed,
    ):
        urls = {
            "fine": receiver.url("/fine"),
            "500": receiver.url("/500"),
            "503": receiver.url("/503/1"),
            "429": receiver.url("/429/1"),
            "410": receiver.url("/410"),
            "abort": receiver.url("/abort"),
            "disable": receiver.url("/disable"),
            "redirect": receiver.url("/redirect"),
            "timeout": receiver.url("/silent"),
            "drip": receiver.url("/drip"),
            "huge": receiver.url("/huge"),
            "reset": receiver.url("/reset"),
            "nobody": "http://127.0.0.1:1025/",
            "private": "http://192.168.0.1:8080/",
            "tls": trusted.url("/tls", host="localhost"),
            "wrong_name": misnamed.url("/tls", host="localhost"),
        }
        secrets = {name: add_endpoint(store, name, url, tenant=name) for name, url in urls.items()}
        for name in urls:
            end_job(store, f"job_{name}", tenant=name)
        start_courier(harness, RULES, **SHORT, webhook_ca_file=authority.path).wait_ready()
        seen: dict[str, Delivery] = {}

        def all_ended() -> bool:
            seen.update({name: only(store, name) for name in urls})
            return all(delivery.state in ("delivered", "failed") for delivery in seen.values())

        wait_for(all_ended, 30, "every delivery has ended")

    delivered = {"fine", "disable", "huge", "tls"}
    once = delivered | {"410", "abort"}
    assert {name for name, delivery in seen.items() if delivery.state == "delivered"} == delivered
    errors = {
        "500": "http_error",
        "503": "http_error",
        "429": "http_error",
        "410": "http_error",
        "abort": "http_error",
        "redirect": "redirect",
        "timeout": "timeout",
        "drip": "timeout",
        "reset": "connection_lost",
        "nobody": "connect_failed",
        "private": "address_forbidden",
        "wrong_name": "tls_failed",
    }
    for name, delivery in seen.items():
        assert len(delivery.attempts) == (1 if name in once else len(DELAYS_S) + 1), name
        assert {attempt.error for attempt in delivery.attempts} == {errors.get(name, "")}, name
        assert all(attempt.ms < 1500 for attempt in delivery.attempts), name
        for gap, delay in zip(gaps(delivery), DELAYS_S, strict=False):
            retry_after = min(1.0, 2 * delay) if name in ("503", "429") else 0.0  # up to double
            assert max(0.8 * delay, retry_after) - 0.01 <= gap, name
    states = {name: store.run(webhooks.read_endpoint(name)) for name in urls}
    disabled = {name: state.reason for name, state in states.items() if state and state.state == "disabled"}
    assert disabled == {"410": "gone", "disable": "asked"}
    for request in receiver.seen:
        name = next(name for name in urls if urls[name].endswith(request.path))
        event = Webhook(secrets[name]).verify(request.body, request.headers)
        assert (event["data"]["job_id"], request.headers["webhook-id"]) == (f"job_{name}", seen[name].id)


def test_two_couriers_deliver_everything_once(harness: ServiceHarness, store: Ledger, receiver: Receiver) -> None:
    """No event twice, none left out; Flower sees tasks that carry ids and nothing else."""
    for n in range(4):
        add_endpoint(store, f"ep_{n}", receiver.url("/both"), tenant=f"t{n}")
    for n in range(100):
        end_job(store, f"job_{n}", tenant=f"t{n % 4}")
    couriers = [start_courier(harness), start_courier(harness)]
    for courier in couriers:
        courier.wait_ready()
    requests = receiver.wait("/both", 100)
    assert [courier.drain() for courier in couriers] == [0, 0]
    assert len(receiver.at("/both")) == 100
    assert len({request.headers["webhook-id"] for request in requests}) == 100
    with harness.server.client(db=0) as broker:
        assert broker.llen(KEY_PREFIX + naming.WEBHOOK_QUEUE) == 0


def test_sigterm_finishes_what_is_under_way(harness: ServiceHarness, store: Ledger, receiver: Receiver) -> None:
    """The running attempt is finished and stored, waiting ones are left to the next courier; exit code 0."""
    add_endpoint(store, "ep_1", receiver.url("/gate"))
    for n in range(40):
        end_job(store, f"job_{n}")
    courier = start_courier(harness, {"cap": 2, "requeue_s": 1.0})
    receiver.wait("/gate", 2)
    courier.send(signal.SIGTERM)
    wait_for(lambda: "draining" in courier.probe("/readyz")[1] or not courier.alive(), 10, "it says that it drains")
    receiver.gate.set()
    assert courier.process.wait(20) == 0
    deliveries = store.run(webhooks.list_deliveries("ep_1", None, 100)).deliveries
    assert {attempt.error for delivery in deliveries for attempt in delivery.attempts} == {""}
    assert 2 <= sum(delivery.state == "delivered" for delivery in deliveries) < 40
    start_courier(harness, {"cap": 2, "requeue_s": 1.0})
    receiver.wait("/gate", 40)
    assert len({request.headers["webhook-id"] for request in receiver.at("/gate")}) == 40
