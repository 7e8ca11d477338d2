"""Workers die, leave, pause and lie about the time; nothing accepted is lost, and nothing is stored twice."""

from __future__ import annotations

import signal
import time

from tests.conftest import Tool
from tests.faults.conftest import Strike
from tests.support.processes.harness import LEASE_S, wait_for
from tests.support.processes.worker import SLOW
from tests.support.record import MIXED, Load, some_texts


def test_sigkill(strike: Strike) -> None:
    """SIGKILL of a worker under load of all tasks: its shards come back, and nobody is convicted."""
    strike.record.mix = MIXED
    with Load(strike.record) as load:
        for _ in strike.often(3, 50):
            load.wait(4)
            strike.rng.choice(strike.harness.of("worker")).kill()
            strike.harness.worker().wait_ready()
    strike.check()


def test_sigkill_between_take_and_record(strike: Strike) -> None:
    """SIGKILL between take and record: the message that plain Celery loses is published again."""
    strike.harness.end("worker")
    for _ in strike.often(2, 10):
        victim = strike.harness.worker(TEST_PAUSE="take")
        strike.record.submit(some_texts(strike.rng, 5))
        strike.harness.await_strike()
        victim.kill()
    strike.harness.worker().wait_ready()
    strike.check()


def test_sigterm_rolling(strike: Strike) -> None:
    """SIGTERM, rolling: each worker drains and exits 0; no document runs twice."""
    codes = []
    with Load(strike.record) as load:
        for _ in strike.often(3, 20):
            load.wait(3)
            oldest = strike.harness.of("worker")[0]
            strike.harness.worker().wait_ready()
            codes.append(oldest.drain())
    verdict = strike.check()
    assert set(codes) == {0}
    assert verdict.rerun == 0


def test_sigterm_then_sigkill(strike: Strike) -> None:
    """After SIGTERM, then SIGKILL past the grace, the documents in the model come back when the lease ends."""
    strike.harness.end("worker")
    for _ in strike.often(1, 10):
        worker = strike.harness.worker(TEST_SLOW_S="60").wait_ready()
        strike.record.submit([SLOW, *some_texts(strike.rng, 40)])
        running(strike)
        worker.send(signal.SIGTERM)
        time.sleep(0.5)
        worker.kill()
        successor = strike.harness.worker(TEST_SLOW_S="0")
        wait_for(lambda: not strike.record.open_shards(), 30, "its successor is done")
        successor.kill()
    strike.harness.worker().wait_ready()
    strike.check()


def test_second_sigterm(strike: Strike) -> None:
    """A second SIGTERM: changes nothing, the drain goes on."""
    for _ in strike.often(1, 5):
        strike.record.submit([SLOW, *some_texts(strike.rng, 60)])
        running(strike)
        worker = strike.harness.of("worker")[0]
        strike.harness.worker().wait_ready()
        for _ in range(3):
            worker.send(signal.SIGTERM)
            time.sleep(0.1)
        assert worker.drain() == 0
    assert strike.check().rerun == 0


def test_scale_to_zero_and_back(strike: Strike) -> None:
    """Scale 1 to 0 to 1: jobs are accepted with nobody there, and wait."""
    for _ in strike.often(1, 5):
        strike.record.submit(some_texts(strike.rng, 70))
        for worker in strike.harness.of("worker"):
            assert worker.drain() == 0
        strike.record.submit(some_texts(strike.rng, 70))
        assert strike.record.open_shards() > 0
        strike.harness.worker().wait_ready()
    strike.check()


def test_sigstop_past_the_lease(strike: Strike) -> None:
    """SIGSTOP past the lease: a worker that wakes too late writes nothing."""
    for _ in strike.often(1, 10):
        strike.record.submit([SLOW, *some_texts(strike.rng, 60)])
        running(strike)
        paused = strike.harness.of("worker")[0]
        paused.send(signal.SIGSTOP)
        strike.record.submit(some_texts(strike.rng, 60))
        time.sleep(LEASE_S * 1.5)
        paused.send(signal.SIGCONT)
    strike.check()


def test_a_wrong_clock(strike: Strike, tool: Tool) -> None:
    """A clock that is 120 s off: lease time is the server's."""
    faketime = next(tool("faketime").resolve().parents[1].glob("**/libfaketimeMT.so.1"))
    strike.harness.end("worker")
    with Load(strike.record) as load:
        for offset in strike.either("-120s", "+120s"):
            preload = {"LD_PRELOAD": str(faketime), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            strike.harness.worker(**preload).wait_ready()
        strike.harness.worker().wait_ready()
        load.wait(int(strike.lasts(20, 400)), within_s=strike.lasts(30, 400))
    assert strike.check().rerun == 0


def test_visibility_timeout(strike: Strike) -> None:
    """A visibility timeout shorter than a shard: second deliveries are dropped, not run."""
    strike.harness.end("worker")
    for _ in range(2):
        strike.harness.worker(TEST_VISIBILITY_S="1", TEST_SLOW_S="4").wait_ready()
    for _ in strike.often(1, 10):
        strike.record.submit([SLOW, *some_texts(strike.rng, 30)])
        strike.record.submit(some_texts(strike.rng, 60))
    assert strike.check().rerun == 0


def running(strike: Strike) -> None:
    """Await that a worker has a shard in hand."""
    with strike.harness.server.client() as client:
        end = time.monotonic() + 20
        while not client.keys("{gleaner}:run:*"):
            assert time.monotonic() < end, "no worker has begun"
            time.sleep(0.02)
