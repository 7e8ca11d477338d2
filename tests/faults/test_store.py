"""Redis dies, stalls, fills up and loses data, and connections to it break; all accepted jobs finish."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from threading import Thread

import httpx
import pytest
from redis.exceptions import RedisError

from jobs import ledger, naming
from jobs.ledger import Ledger
from jobs.queue import celery_queues
from jobs.schema import Priority
from tests.faults.conftest import Strike
from tests.support.ledger import forget_memory
from tests.support.processes.harness import wait_for
from tests.support.record import MODEL, Load, some_texts
from tests.support.servers.proxy import Proxy


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_server_sigkill(strike: Strike, policy: str) -> None:
    """SIGKILL of the server while jobs come in and run: nothing acknowledged is lost."""
    strike.fault += f", appendfsync {policy}"
    with strike.harness.server.client() as client:
        client.config_set("appendfsync", policy)
    with Load(strike.record) as load:
        for _ in strike.often(2, 20):
            load.wait(5)
            time.sleep(strike.rng.random() * 0.5)
            strike.harness.server.kill()
            strike.harness.server.start()
    strike.check()


def test_server_down(strike: Strike) -> None:
    """The server is down: 503 within two seconds, and everyone comes back by themselves."""
    strike.often(1, 1)
    with Load(strike.record) as load:
        load.wait(5)
        strike.harness.server.kill()
        slowest, end = 0.0, time.monotonic() + strike.lasts(3, 30)
        [gateway] = strike.harness.of("gateway")
        while time.monotonic() < end:
            began = time.monotonic()
            answer = httpx.get(f"{gateway.url}/v1/jobs/{strike.record.entries[0].job}", timeout=10, trust_env=False)
            slowest = max(slowest, time.monotonic() - began)
            assert answer.status_code == 503
        assert gateway.probe("/readyz")[0] == 200  # clients need its 503, and it is no worse than any other gateway
        strike.harness.server.start()
        load.wait(5)
    strike.check()
    assert slowest < 4  # two seconds, plus a margin for two busy cores


def test_server_sigstop(strike: Strike) -> None:
    """While Redis is stopped with SIGSTOP, waiting clients time out, and come back afterwards."""
    strike.often(1, 1)
    with Load(strike.record) as load:
        load.wait(5)
        strike.harness.server.process.send_signal(signal.SIGSTOP)
        time.sleep(strike.lasts(3, 20))
        strike.harness.server.process.send_signal(signal.SIGCONT)
        load.wait(5)
    strike.check()


@pytest.mark.parametrize("fault", ["blackholed", "reset", "slow"])
def test_connections(strike: Strike, fault: str) -> None:
    """After broken connections of workers and courier, lost messages come again, and all processes reconnect."""
    strike.fault = f"Connections {fault}, through a proxy"
    strike.harness.end("worker")
    strike.harness.end("courier")
    with Proxy(strike.harness.server.port) as proxy:
        through = strike.harness.by_tcp(proxy.port)
        strike.harness.courier(**through)
        worker = strike.harness.worker(**through)
        for child in (*strike.harness.of("courier"), worker):
            child.wait_ready()
        with Load(strike.record) as load:
            for _ in strike.often(1, 10):
                load.wait(3)
                if fault == "blackholed":
                    proxy.deaf(True)
                    time.sleep(strike.lasts(3, 15))
                    proxy.reset()
                    proxy.deaf(False)
                elif fault == "reset":
                    proxy.reset()
                else:
                    proxy.latency_s = 0.02
        strike.check(90)
        strike.harness.end("worker")
        strike.harness.end("courier")


def test_client_kill(strike: Strike) -> None:
    """CLIENT KILL of everyone, again and again."""
    with Load(strike.record) as load, strike.harness.server.client() as client:
        for _ in strike.often(5, 60):
            load.wait(1)
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            time.sleep(strike.lasts(0.3, 1))
    strike.check()


def test_memory_full(strike: Strike) -> None:
    """With full memory no job is accepted, running ones are stored, and all goes on once memory is free."""
    with strike.harness.server.client() as client:
        for _ in strike.often(1, 10):
            for _ in range(8):
                strike.record.submit(some_texts(strike.rng, 70))
            jobs = client.zcard("{gleaner}:jobs:default")
            client.config_set("maxmemory", client.info("memory")["used_memory"])
            forget_memory(client)
            answer = strike.record.post(b'{"labels": ["a"], "documents": [{"text": "b"}]}', "full")
            assert answer is not None
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert client.zcard("{gleaner}:jobs:default") == jobs
            time.sleep(strike.lasts(1.5, 5))
            assert all(child.alive() for child in strike.harness.of("worker"))
            client.config_set("maxmemory", 0)
            assert strike.record.post(b'{"labels": ["a"], "documents": []}', "again") is not None
    strike.check(60)


def test_flushdb_of_the_broker(strike: Strike) -> None:
    """FLUSHDB of the broker: the queue is built again from the ledger."""
    with Load(strike.record, most_open=200) as load:
        for _ in strike.often(3, 20):
            load.wait(5)
            with strike.harness.server.client(0) as broker:
                broker.flushdb()
    strike.check()


def test_two_upkeeps(strike: Strike) -> None:
    """Two couriers race to repair: each loss is published once."""
    harness, times = strike.harness, strike.often(1, 10)
    for worker in harness.of("worker"):
        worker.drain()
    with harness.server.client(0) as broker, harness.server.client(1) as client:
        for _ in times:
            for _ in range(5):
                strike.record.submit(some_texts(strike.rng, 100))
            queue = naming.queue_name(MODEL, Priority.STANDARD)
            published = client.zcard("{gleaner}:pub:" + queue)
            broker.delete(celery_queues.KEY_PREFIX + queue)
            end = time.monotonic() + 20
            while celery_queues.queue_length(broker, queue) < published:
                assert time.monotonic() < end, "the queue is not built again"
            time.sleep(1.5)  # several graces
            assert celery_queues.queue_length(broker, queue) == published
            worker = harness.worker().wait_ready()
            wait_for(lambda: not strike.record.open_shards(), 30, "all is done")
            worker.drain()
    harness.worker()
    strike.check()


def test_courier_sigkill(strike: Strike) -> None:
    """SIGKILL of couriers at any point: the other goes on with the repairs."""
    with Load(strike.record) as load:
        for _ in strike.often(2, 30):
            load.wait(2)
            strike.harness.of("worker")[0].kill()
            strike.harness.of("courier")[0].kill()
            strike.harness.worker().wait_ready()
            strike.harness.courier()
    strike.check()


def post_and_die(url: str, body: bytes, key: str) -> None:
    """Send a POST without reading the response."""
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    with suppress(httpx.HTTPError):
        httpx.post(f"{url}/v1/jobs", content=body, headers=headers, timeout=60, trust_env=False)


def test_gateway_killed_between_write_and_publish(strike: Strike) -> None:
    """SIGKILL of a gateway between write and publish: the job runs, and the same key finds it."""
    for _ in strike.often(2, 10):
        texts = some_texts(strike.rng, 5)
        doomed = strike.harness.gateway("tests.support.processes.gateway").wait_ready()
        body = b'{"labels": ["person", "place", "product"], "documents": [{"text": "Anna of Berlin"}]}'
        key = f"key-{strike.rng.random()}"
        doomed_post = Thread(target=post_and_die, args=(doomed.url, body, key))
        doomed_post.start()
        strike.harness.await_strike()
        doomed.kill()
        doomed_post.join()
        answer = strike.record.post(body, key)
        assert answer is not None
        assert (answer.status_code, answer.headers.get("Idempotency-Replayed")) == (202, "true")
        strike.record.remember(answer.json()["id"], ["Anna of Berlin"])
        strike.record.submit(texts)
    strike.check()


def test_the_store_refuses_a_claim_of_a_dead_nonce(strike: Strike) -> None:
    """A reply that is lost: the same claim again is the same lease, once."""
    strike.harness.end("worker")
    job = strike.record.submit(["Anna of Berlin"])
    with strike.harness.server.client() as client, suppress(RedisError):
        store = Ledger(client)
        message = ledger.Message(naming.queue_name(MODEL, Priority.STANDARD), job, 0, 1)
        claim = ledger.claim_shard(message, "nonce", "w", "fake", ledger.ClaimTerms(lease_ms=1000))
        assert store.run(claim).kind == store.run(claim).kind == "run"
        assert (
            store.run(ledger.claim_shard(message, "other", "w2", "fake", ledger.ClaimTerms(lease_ms=1000))).kind
            == "leased"
        )
    strike.harness.worker()
    strike.check()
