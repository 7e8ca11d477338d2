"""Deliveries in the ledger: every transition safe to repeat, leases, caps, and nothing that is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from jobs.ledger import Ledger, webhooks
from jobs.ledger.webhooks import Delivery, DeliveryAttempt
from tests.support.processes.couriers import add_endpoint, end_job
from tests.support.servers.redis_servers import RedisServer

FINE = DeliveryAttempt(1_772_366_400_000, 200, 5, "", b"ok")
BAD = DeliveryAttempt(1_772_366_400_000, 500, 5, "http_error", b"no")
LEASE = 60_000


@pytest.fixture(params=["redis_server", "redis7_server"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """Return a client of the embedded server, and of the oldest supported one."""
    server: RedisServer = request.getfixturevalue(request.param)
    server.flush()
    with redis.Redis.from_url(server.url(1)) as connected:
        yield connected


@pytest.fixture
def store(client: redis.Redis) -> Ledger:
    """Return the ledger on it."""
    return Ledger(client)


def only_delivery(store: Ledger, name: str = "ep_1") -> str:
    """Return the only delivery of an endpoint."""
    [delivery] = store.run(webhooks.list_deliveries(name, None, 10)).deliveries
    return delivery.id


def view(store: Ledger, delivery: str) -> Delivery:
    """Return an existing delivery."""
    delivery_view = store.run(webhooks.read_delivery(delivery))
    assert delivery_view is not None
    return delivery_view


def claim(store: Ledger, delivery: str, nonce: str, cap: int = 4, lease_ms: int = LEASE) -> str:
    """Claim a delivery; return the reply."""
    return store.run(webhooks.claim_delivery(delivery, nonce, lease_ms, cap)).kind


def ids(store: Ledger, limit: int = 100, cap: int = 4) -> list[str]:
    """Return the ids of the deliveries that are due."""
    return [
        delivery_id
        for message in store.run(webhooks.take_due_deliveries(limit, cap)).messages
        for delivery_id in message
    ]


def soon(store: Ledger) -> list[str]:
    """Return the ids that are due after a millisecond or two."""
    end = time.monotonic() + 2
    while not (handed := ids(store)) and time.monotonic() < end:
        time.sleep(0.001)
    return handed


def test_a_job_writes_one_delivery_per_endpoint_that_wants_it(store: Ledger) -> None:
    """In the step that ends the job; the id is made of job, endpoint and event, so that it is the same again."""
    add_endpoint(store, "ep_1", "http://a/")
    add_endpoint(store, "ep_2", "http://a/", events=["job.failed"])
    add_endpoint(store, "ep_3", "http://a/", every=False)
    add_endpoint(store, "ep_4", "http://a/", tenant="t2")
    end_job(store, "job_1")
    end_job(store, "job_2", ok=False, endpoint_id="ep_3")
    events = {
        name: [(d.job, d.event) for d in store.run(webhooks.list_deliveries(name, None, 10)).deliveries]
        for name in ("ep_1", "ep_2", "ep_3", "ep_4")
    }
    assert sorted(events["ep_1"]) == [("job_1", "job.succeeded"), ("job_2", "job.failed")]
    assert events["ep_2"] == [("job_2", "job.failed")]
    assert events["ep_3"] == [("job_2", "job.failed")]
    assert events["ep_4"] == []


def test_a_claim_can_be_repeated_and_nobody_else_has_it(store: Ledger) -> None:
    """A repeated nonce gets the same attempt; another gets `leased`; a finished delivery is `done`."""
    add_endpoint(store, "ep_1", "http://a/")
    end_job(store, "job_1")
    delivery = only_delivery(store)
    first = store.run(webhooks.claim_delivery(delivery, "n1", LEASE, 4))
    again = store.run(webhooks.claim_delivery(delivery, "n1", LEASE, 4))
    assert first.kind == again.kind == "run"
    assert (first.job, first.event, first.attempts) == ("job_1", "job.succeeded", 0)
    assert claim(store, delivery, "n2") == "leased"
    assert store.run(webhooks.record_delivery(delivery, "n1", webhooks.AttemptVerdict("delivered"), FINE)) == (
        "delivered",
        "",
    )
    assert store.run(webhooks.record_delivery(delivery, "n1", webhooks.AttemptVerdict("delivered"), FINE)) == (
        "already",
        "",
    )
    assert claim(store, delivery, "n3") == "done"
    assert len(view(store, delivery).attempts) == 1
    assert claim(store, "dlv_unknown", "n4") == "gone"


def test_a_failure_moves_the_schedule(store: Ledger) -> None:
    """Until the next attempt is due a second message for the same delivery is dropped."""
    add_endpoint(store, "ep_1", "http://a/")
    end_job(store, "job_1")
    delivery = only_delivery(store)
    claim(store, delivery, "n1")
    assert store.run(
        webhooks.record_delivery(delivery, "n1", webhooks.AttemptVerdict("retry", delay_ms=60_000), BAD)
    ) == ("retry", "")
    assert claim(store, delivery, "n2") == "early"
    assert ids(store) == []
    seen = view(store, delivery)
    assert seen.state == "due"
    assert seen.next_at is not None


def test_an_attempt_whose_courier_died_is_interrupted_and_repeated(store: Ledger) -> None:
    """It is stored as such, handed out again by itself, and the schedule does not move."""
    add_endpoint(store, "ep_1", "http://a/")
    end_job(store, "job_1")
    delivery = only_delivery(store)
    assert ids(store) == [delivery]
    assert claim(store, delivery, "n1", lease_ms=1) == "run"
    assert soon(store) == [delivery]
    again = store.run(webhooks.claim_delivery(delivery, "n2", LEASE, 4))
    assert (again.kind, again.attempts) == ("run", 0)
    assert [a.error for a in view(store, delivery).attempts] == ["interrupted"]
    assert store.run(
        webhooks.record_delivery(delivery, "n1", webhooks.AttemptVerdict("retry", delay_ms=1), BAD)
    ) == ("stale", "")
    assert store.run(
        webhooks.record_delivery(delivery, "n2", webhooks.AttemptVerdict("retry", delay_ms=1), BAD)
    ) == ("retry", "")


def test_one_thought_dead_that_delivered_is_believed(store: Ledger) -> None:
    """Its success ends the delivery, so that the receiver does not get it once more than needed."""
    add_endpoint(store, "ep_1", "http://a/")
    end_job(store, "job_1")
    delivery = only_delivery(store)
    claim(store, delivery, "n1", lease_ms=1)
    soon(store)
    assert claim(store, delivery, "n2") == "run"
    assert store.run(webhooks.record_delivery(delivery, "n1", webhooks.AttemptVerdict("delivered"), FINE)) == (
        "delivered",
        "",
    )
    assert store.run(
        webhooks.record_delivery(delivery, "n2", webhooks.AttemptVerdict("retry", delay_ms=1), BAD)
    ) == ("stale", "")
    assert view(store, delivery).state == "delivered"


def test_what_was_handed_out_and_lost_comes_up_again(store: Ledger) -> None:
    """A message that never arrives delays; nothing hands the same delivery out twice in between."""
    add_endpoint(store, "ep_1", "http://a/")
    end_job(store, "job_1")
    assert len(ids(store)) == 1
    assert ids(store) == []
    store.run(webhooks.return_deliveries([only_delivery(store)]))
    assert len(ids(store)) == 1
    add_endpoint(store, "ep_2", "http://b/", tenant="t2")
    end_job(store, "job_2", tenant="t2")
    assert store.run(webhooks.take_due_deliveries(100, 4, again_ms=1)).messages == (
        (only_delivery(store, "ep_2"),),
    )
    assert soon(store) == [only_delivery(store, "ep_2")]


def test_concurrent_attempts_per_receiver_are_capped(store: Ledger) -> None:
    """Above the cap a claim is put off by a second; endpoints of one receiver share it; one that fails gets one."""
    add_endpoint(store, "ep_1", "http://a/", lane="same")
    add_endpoint(store, "ep_2", "http://a/", lane="same")
    for n in range(2):
        end_job(store, f"job_{n}")
    handed = ids(store, cap=4)
    assert len(handed) == 4
    assert [claim(store, delivery, f"n{delivery}", cap=2) for delivery in handed] == ["run", "run", "busy", "busy"]
    assert ids(store, cap=2) == []
    store.run(
        webhooks.record_delivery(handed[0], f"n{handed[0]}", webhooks.AttemptVerdict("retry", delay_ms=60_000), BAD)
    )
    assert claim(store, handed[2], "n", cap=2) == "busy"  # one is under way, and this receiver fails
    store.run(webhooks.record_delivery(handed[1], f"n{handed[1]}", webhooks.AttemptVerdict("delivered"), FINE))
    assert claim(store, handed[2], "n", cap=2) == "run"
    assert claim(store, handed[3], "n", cap=2) == "run"  # it is well again


def test_a_receiver_gets_as_many_messages_as_attempts_at_once(store: Ledger) -> None:
    """So nobody finds it busy; one that is done makes room for the next; others are not kept back."""
    add_endpoint(store, "ep_1", "http://a/")
    add_endpoint(store, "ep_2", "http://b/", tenant="t2")
    for n in range(60):
        end_job(store, f"job_{n}")
    end_job(store, "other", tenant="t2")
    messages = store.run(webhooks.take_due_deliveries(100, 4, most=8)).messages
    assert [len(message) for message in messages] == [8, 1, 8, 8, 8]  # the tenants' messages by turns
    assert store.run(webhooks.take_due_deliveries(100, 4, most=8)).messages == ()
    for delivery in messages[0]:
        assert claim(store, delivery, "n") == "run"
        store.run(webhooks.record_delivery(delivery, "n", webhooks.AttemptVerdict("delivered"), FINE))
    soon_after = list(map(len, messages_soon(store)))
    assert soon_after == [8]


def messages_soon(store: Ledger) -> tuple[tuple[str, ...], ...]:
    """Return the deliveries that become due within a moment, in messages of eight."""
    end = time.monotonic() + 2
    while (
        not (handed := store.run(webhooks.take_due_deliveries(100, 4, most=8)).messages) and time.monotonic() < end
    ):
        time.sleep(0.001)
    return handed


def test_only_failures_for_the_whole_period_disable(store: Ledger, client: redis.Redis) -> None:
    """A single success restarts the count; the reason is stored; the next event has no receiver."""
    add_endpoint(store, "ep_1", "http://a/")

    def attempt(job: str, attempt: DeliveryAttempt, outcome: str) -> str:
        end_job(store, job)
        [delivery] = [d for d in store.run(webhooks.list_deliveries("ep_1", None, 10)).deliveries if d.job == job]
        assert claim(store, delivery.id, job) == "run"
        done = webhooks.record_delivery(
            delivery.id, job, webhooks.AttemptVerdict(outcome), attempt, only_failures_ms=3_600_000
        )  # type: ignore[arg-type]
        return store.run(done)[1]

    def an_hour_passes() -> None:
        first = client.hget("{gleaner}:ep:ep_1", "first_fail")
        if first is not None:
            client.hset("{gleaner}:ep:ep_1", "first_fail", int(first) - 3_600_000)  # type: ignore[arg-type]

    assert attempt("job_1", BAD, "failed") == ""
    an_hour_passes()
    assert attempt("job_2", FINE, "delivered") == ""
    assert attempt("job_3", BAD, "failed") == ""
    an_hour_passes()
    assert attempt("job_4", BAD, "failed") == "only_failures"
    endpoint = store.run(webhooks.read_endpoint("ep_1"))
    assert endpoint is not None
    assert (endpoint.state, endpoint.reason, endpoint.fails) == ("disabled", "only_failures", 2)
    assert store.run(webhooks.take_due_deliveries(1, 4)).disabled == 1
    end_job(store, "job_5")
    assert "job_5" not in [d.job for d in store.run(webhooks.list_deliveries("ep_1", None, 10)).deliveries]


def test_ended_deliveries_go_after_a_week(store: Ledger, client: redis.Redis) -> None:
    """Deliveries expire with their attempts; unfinished ones stay longer than any schedule takes."""
    add_endpoint(store, "ep_1", "http://a/")
    end_job(store, "job_1")
    delivery = only_delivery(store)
    week = 7 * 24 * 3600
    for key in ("dlv:" + delivery, "due:ep_1", "dlvs:ep_1"):
        assert client.ttl("{gleaner}:" + key) > 13 * 24 * 3600
    claim(store, delivery, "n1")
    store.run(webhooks.record_delivery(delivery, "n1", webhooks.AttemptVerdict("delivered"), FINE))
    for key in ("dlv:" + delivery, "att:" + delivery):
        assert week - 5 <= client.ttl("{gleaner}:" + key) <= week  # type: ignore[operator]
    assert client.zcard("{gleaner}:due:ep_1") == 0
    client.delete("{gleaner}:dlv:" + delivery)
    assert store.run(webhooks.list_deliveries("ep_1", None, 10)).deliveries == ()
    assert client.zcard("{gleaner}:dlvs:ep_1") == 0


def test_changes_of_an_endpoint_do_not_overwrite_each_other(store: Ledger) -> None:
    """Of two concurrent changes one is asked to read again; repeating a change is harmless."""
    add_endpoint(store, "ep_1", "http://a/")
    endpoint = store.run(webhooks.read_endpoint("ep_1"))
    assert endpoint is not None
    mine, theirs = replace(endpoint, sealed=b"mine"), replace(endpoint, sealed=b"theirs")
    assert store.run(webhooks.upsert_endpoint(mine)) == "ok"
    assert store.run(webhooks.upsert_endpoint(mine)) == "ok"
    assert store.run(webhooks.upsert_endpoint(theirs)) == "conflict"
    assert store.run(webhooks.delete_endpoint("ep_1"))
    assert store.run(webhooks.upsert_endpoint(mine)) == "absent"
    assert not store.run(webhooks.delete_endpoint("ep_1"))


def test_deleting_ends_what_was_due(store: Ledger) -> None:
    """They are removed with it, also where a message for one, or an attempt at it, is already under way."""
    add_endpoint(store, "ep_1", "http://a/")
    end_job(store, "job_1")
    end_job(store, "job_2")
    first, second = ids(store)
    claim(store, first, "n1")
    store.run(webhooks.delete_endpoint("ep_1"))
    assert store.run(webhooks.record_delivery(first, "n1", webhooks.AttemptVerdict("retry", delay_ms=1), BAD)) == (
        "gone",
        "",
    )
    assert claim(store, second, "n2") == "gone"
    assert ids(store) == []
    assert store.run(webhooks.read_endpoint("ep_1")) is None
