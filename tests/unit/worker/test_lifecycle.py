"""The threads of a worker, from start to stop."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest
import redis
from prometheus_client import CollectorRegistry

from jobs import ledger
from jobs.ledger import Ledger, Message
from jobs.observability.metrics import WorkerMetrics
from tests.support.engine import FakeEngine
from tests.support.ledger import MODEL, new_job
from tests.support.processes.harness import wait_for
from worker import lifecycle as lifecycle_module
from worker.batching.batcher import MicroBatcher
from worker.health import Health
from worker.lifecycle import CUT_SHORT_EXIT_CODE, Lifecycle
from worker.shards.heartbeats import Heartbeats
from worker.shards.leases import LeaseKeeper


@pytest.fixture
def make_lifecycle(ledger_url: str) -> Callable[..., Lifecycle]:
    """Return a function that makes the lifecycle of a worker without Celery."""
    store = Ledger(redis.Redis.from_url(ledger_url))

    def make(grace_s: float) -> Lifecycle:
        batcher = MicroBatcher(FakeEngine(), 500)
        return Lifecycle(
            health=Health(60),
            batcher=batcher,
            leases=LeaseKeeper(
                store,
                lambda: store.run(ledger.announce_worker(MODEL, "w", 4, "rev")),
                lambda lease: None,
            ),
            heartbeats=Heartbeats(),
            metrics=WorkerMetrics(CollectorRegistry()),
            deregister=lambda: store.run(ledger.deregister_worker(MODEL, "w")),
            grace_s=grace_s,
            hang_timeout_s=60,
        )

    return make


def count_workers(url: str) -> int:
    """Return the model's live workers."""
    with redis.Redis.from_url(url) as client:
        return Ledger(client).run(ledger.read_models([MODEL]))[0].workers


def test_a_worker_is_listed_from_start_to_stop(make_lifecycle: Callable[..., Lifecycle], ledger_url: str) -> None:
    """Ready between its first message and the drain; after the stop no thread of it is left at work."""
    lifecycle = make_lifecycle(60)
    lifecycle.start()
    wait_for(lambda: count_workers(ledger_url) == 1, 5, "it is listed")
    assert lifecycle.health.check_ready() == "the model is loading"
    lifecycle.set_ready()
    assert lifecycle.health.check_ready() is None
    lifecycle.begin_drain()
    assert lifecycle.health.check_ready() == "draining"
    lifecycle.stop()
    assert count_workers(ledger_url) == 0
    assert not lifecycle.must_end.is_set()
    assert lifecycle.batcher.close(0)


def test_near_the_end_of_the_grace_period_shards_are_given_back(
    make_lifecycle: Callable[..., Lifecycle], ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running ones are asked back; if that does not end the process in time, it is ended."""
    codes, exited = list[int](), Event()

    def leave(code: int) -> None:
        codes.append(code)
        exited.set()

    monkeypatch.setattr(lifecycle_module, "GIVE_BACK_S", 0.2)
    monkeypatch.setattr("worker.lifecycle.os._exit", leave)
    with redis.Redis.from_url(ledger_url) as client:
        store = Ledger(client)
        [message] = store.run(ledger.create_job(new_job("job_1"))).publish
        store.run(ledger.claim_shard(message, "n", "w", "rev"))
    lifecycle = make_lifecycle(0.4)
    lifecycle.start()
    with lifecycle.leases.hold(Message(message.queue, "job_1", 0, 1), "n") as lease:
        lifecycle.begin_drain()
        wait_for(lambda: lease.end_reason == "drain", 5, "the shard is to be given back")
        assert exited.wait(5)
    assert codes == [CUT_SHORT_EXIT_CODE]
    lifecycle.stop()
