"""`python -m tests.support.processes.worker`: the real worker with a fake engine, and points where tests strike.

`TEST_*` variables are read here alone; production code has none of them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

from celery import Celery
from kombu.transport import virtual

from jobs.ledger import store
from jobs.queue import celery_queues
from tests.support.engine import ALL_TASKS, FakeEngine
from worker.app import run
from worker.protocols import Span, Window, Words
from worker.settings import WorkerSettings

DIES_IN_CUT = "FAULTCUT"
DIES_IN_DECODE = "FAULTLATE"
SLOW = "FAULTSLOW"


class DeadlyEngine(FakeEngine):
    """A fake engine whose process also dies where no forward pass runs, and one word of which takes its time.

    Attributes:
        pace_s: seconds a padded token takes.
        slow_s: seconds that `SLOW` takes.
    """

    pace_s = 1e-4
    slow_s = 1.5

    def split(self, text: str) -> Words:
        """Words, unless the text kills."""
        if DIES_IN_CUT in text:
            ctypes.string_at(0)
        return super().split(text)

    def forward(self, batch: tuple[Window, ...]) -> tuple[Window, ...]:
        """Run as slowly as the shipped model, or as the text demands."""
        seconds = 0.005 + self.pace_s * len(batch) * max(window.row_tokens for window in batch)
        Event().wait(seconds + self.slow_s * self._any(batch, SLOW))  # libfaketime breaks time.sleep
        self.forwards.clear()  # nobody here looks at them, and a soak must not see them grow
        return super().forward(batch)

    def decode(self, batch: tuple[Window, ...], raw: tuple[Window, ...]) -> list[Sequence[Span]]:
        """Entities, unless the text kills."""
        if self._any(batch, DIES_IN_DECODE):
            ctypes.string_at(0)
        return super().decode(batch, raw)

    @staticmethod
    def _any(windows: Sequence[Window], word: str) -> bool:
        return any(word in window.words for window in windows)


def load_fake(settings: WorkerSettings) -> FakeEngine:
    """Return the fake engine, or raise the error that a test set."""
    if reason := os.environ.get("TEST_LOAD_FAILS"):
        raise RuntimeError(reason)
    engine = DeadlyEngine(ALL_TASKS)
    engine.pace_s = float(os.environ.get("TEST_PACE_S", engine.pace_s))
    engine.slow_s = float(os.environ.get("TEST_SLOW_S", engine.slow_s))
    return engine


def strike_in_take() -> None:
    """Stop the process where the transport has taken a message and not yet recorded it."""

    def append(*_: object) -> None:
        Path(os.environ["TEST_STRIKE"]).touch()
        signal.pause()

    taking: Any = virtual.QoS
    taking.append = append


def forget_fences() -> None:
    """Accept results from any worker, as Gleaner would without its nonces; proves that tests detect it.

    The process stops itself where its first shard's results are about to be recorded: no check comes after that.
    """
    load_script = store.load_script
    strikes = iter([Path(os.environ["TEST_STRIKE"])])

    def load(name: str) -> store.Script:
        script = load_script(name)
        if name != "complete_shard":
            return script
        for path in strikes:
            path.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        source = script.source.replace("record.nonce ~= nonce", "false").replace("record.st ~= 'r'", "false")
        source = source.replace("not record or terminal(job)", "not record")
        return store.Script(source, hashlib.sha1(source.encode()).hexdigest())

    store.load_script = load


def forget_after(seconds: float) -> None:
    """Return messages to the queue after `seconds` although a worker still processes them."""
    create_app = celery_queues.build_celery_app

    def celery_app(*args: Any, **kwargs: Any) -> Celery:
        app = create_app(*args, **kwargs)
        app.conf.broker_transport_options |= {
            "ack_emulation": True,
            "visibility_timeout": seconds,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        }
        return app

    celery_queues.build_celery_app = celery_app


if __name__ == "__main__":
    if os.environ.get("TEST_PAUSE") == "take":
        strike_in_take()
    if os.environ.get("TEST_PAUSE") == "unfenced":
        forget_fences()
    if "TEST_VISIBILITY_S" in os.environ:
        forget_after(float(os.environ["TEST_VISIBILITY_S"]))
    sys.exit(run(WorkerSettings(), load_fake))
