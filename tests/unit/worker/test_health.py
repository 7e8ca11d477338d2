from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest

from jobs.schema import Document
from jobs.tasks import Tasks
from tests.support.engine import FakeEngine, FaultWord
from worker.batching.batcher import MicroBatcher
from worker.health import HUNG_EXIT_CODE, Health, Watchdog
from worker.protocols import EngineBroken, ShardRef, Window
from worker.shards.heartbeats import Heartbeats
from worker.text import windows


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """Return an engine that no test leaves hanging."""
    engine = FakeEngine()
    yield engine
    engine.hold.set()


def make_windows(text: str) -> list[Window]:
    """Return the windows of a text."""
    document = Document(0, "0", text)
    return list(
        windows.cut_document(
            document, windows.JobContext(ShardRef("job", 0), Tasks({"a": None})), FakeEngine()
        ).windows
    )


def test_ready_from_the_first_message_to_the_drain() -> None:
    """Not ready while the model loads; ready; not ready again once SIGTERM came."""
    health = Health(1)
    assert health.check_ready() == "the model is loading"
    health.set_ready()
    assert health.check_ready() is None
    health.set_draining()
    assert health.check_ready() == "draining"


def test_loading_is_no_death(engine: FakeEngine) -> None:
    """Alive before there is a model loop, and while it idles."""
    health = Health(5)
    assert health.check_alive() is None
    with MicroBatcher(engine, 100) as batcher:
        health.watch(batcher)
        assert health.check_alive() is None


def test_a_hung_call_fails_liveness_then_ends_the_process(engine: FakeEngine) -> None:
    """The probe says so first; the watchdog acts one look later, once."""
    health, codes, ended = Health(0.3), list[tuple[int, str | None]](), Event()

    def end(code: int) -> None:
        codes.append((code, health.check_alive()))
        ended.set()

    batcher = MicroBatcher(engine, 100).start()
    health.watch(batcher)
    watchdog = Watchdog(health, interval_s=0.2, end=end)
    watchdog.start()
    began = time.monotonic()
    batcher.submit("job", make_windows(FaultWord.hang))
    while health.check_alive() is None:
        assert time.monotonic() - began < 5
        time.sleep(0.01)
    assert not codes
    assert ended.wait(5)
    watchdog.stop()
    assert codes[0][0] == HUNG_EXIT_CODE
    assert "has made no progress" in str(codes[0][1])


def test_a_lost_device_is_not_alive(engine: FakeEngine) -> None:
    """A broken engine fails liveness for good."""
    health = Health(5)
    with MicroBatcher(engine, 100) as batcher:
        health.watch(batcher)
        with pytest.raises(EngineBroken):
            batcher.submit("job", make_windows(FaultWord.broken)).result(5)
        assert health.check_alive() == "the device is lost"


def test_a_pause_of_one_look_kills_nobody(engine: FakeEngine) -> None:
    """A process that stood still as a whole (SIGSTOP, a busy machine) and goes on is left alone."""
    health, codes = Health(0.4), list[int]()
    watchdog = Watchdog(health, interval_s=0.3, end=codes.append)
    batcher = MicroBatcher(engine, 100).start()
    health.watch(batcher)
    watchdog.start()
    batcher.submit("job", make_windows(FaultWord.hang))
    while health.check_alive() is None:
        time.sleep(0.01)
    engine.hold.set()  # the call comes back before the second look
    time.sleep(0.7)
    watchdog.stop()
    batcher.close(5)
    assert codes == []


def test_work_around_the_model_that_stands_still_is_seen(engine: FakeEngine) -> None:
    """A thread stuck in cutting or merging fails liveness, as does a stuck decoder; one that waits does not."""
    health, heartbeats, go_on = Health(1.5), Heartbeats(), Event()  # an idle loop comes round each second

    def stuck() -> None:
        with heartbeats.track_thread():
            go_on.wait(5)

    with MicroBatcher(engine, 100) as batcher:
        health.watch(batcher, heartbeats)
        thread = Thread(target=stuck)
        thread.start()
        while health.check_alive() is None:
            time.sleep(0.01)
        assert "work on a document" in str(health.check_alive())
        go_on.set()
        thread.join()
        assert health.check_alive() is None
        with heartbeats.track_thread():
            heartbeats.pause()
            time.sleep(1.7)
            assert health.check_alive() is None

        decode, hold = engine.decode, Event()

        def hang(*arguments: Any) -> Any:
            hold.wait(5)
            return decode(*arguments)

        engine.decode = hang  # type: ignore[method-assign]
        futures = [batcher.submit("job", make_windows(f"Ada {at}")) for at in range(3)]
        while health.check_alive() is None:
            time.sleep(0.01)
        assert "model loop" in str(health.check_alive())
        hold.set()
        for future in futures:
            future.result(5)
