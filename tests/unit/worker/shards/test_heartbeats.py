"""Heartbeats of threads."""

from __future__ import annotations

from math import inf
from threading import Event, Thread

from worker.shards.heartbeats import Heartbeats


def test_the_oldest_heartbeat_is_that_of_the_thread_that_stands_still() -> None:
    """Threads that go on do not hide it; one that has ended, or waits, is not watched."""
    now = 10.0
    heartbeats, began, go_on = Heartbeats(lambda: now), Event(), Event()

    def stand_still() -> None:
        with heartbeats.track_thread():
            began.set()
            go_on.wait(5)

    assert heartbeats.oldest_beat == inf
    thread = Thread(target=stand_still)
    thread.start()
    assert began.wait(5)
    now = 20.0
    with heartbeats.track_thread():
        now = 30.0
        heartbeats.beat()
        assert heartbeats.oldest_beat == 10.0
        go_on.set()
        thread.join()
        assert heartbeats.oldest_beat == 30.0
        heartbeats.pause()
        assert heartbeats.oldest_beat == inf
        heartbeats.beat()
        assert heartbeats.oldest_beat == 30.0
    assert heartbeats.oldest_beat == inf
