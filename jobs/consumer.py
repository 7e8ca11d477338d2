"""Runs Celery's worker in this process until SIGTERM: the one place that knows how it starts and stops."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from celery import Celery, signals
from celery.apps import worker as celery_worker
from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

log = logging.getLogger(__name__)


def process_name(role: str) -> str:
    """A name for this process that no other has: role, process and host."""
    return f"{role}-{os.getpid()}@{socket.gethostname()}"


def consume(
    app: Celery,
    name: str,
    slots: int,
    *,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> int:
    """Take messages on `slots` threads until SIGTERM, finish what runs, return the exit code.

    SIGTERM is Celery's warm shutdown: running tasks finish, reserved messages go back at once, a second SIGTERM
    changes nothing. The soft and cold shutdowns are broken on the threads pool in 5.7 and never asked for.

    Args:
        app: from `jobs.queues.celery_app`.
        name: `process_name(...)`.
        slots: threads, and messages held at once.
        on_ready: called when the consumer takes messages.
        on_stop: called in the signal handler: it may set an Event and nothing more.
    """
    _mend_closed_channels()

    # Celery keeps weak references to receivers; these live as long as this call.
    def ready(**_: object) -> None:
        on_ready()

    def stop(**_: object) -> None:
        on_stop()

    def keep_logging(**_: object) -> None:
        """A receiver of setup_logging keeps Celery from configuring logging; jobs.telemetry has."""

    # Celery writes "Warm shutdown" past logging, straight to stderr; `consumer.stopped` says it in our shape.
    celery_worker.safe_say = lambda *_, **__: None  # type: ignore[attr-defined]  # its stubs lack it
    signals.setup_logging.connect(keep_logging)
    signals.worker_ready.connect(ready)
    signals.worker_shutting_down.connect(stop)
    worker = app.Worker(
        hostname=name,
        pool_cls="threads",
        concurrency=slots,
        loglevel=logging.INFO,
        quiet=True,
        without_gossip=True,  # no worker elects or asks another anything
        without_mingle=True,
        task_events=True,
        no_color=True,
        optimization="default",
    )
    worker.start()
    log.info("consumer.stopped", extra={"exit_code": worker.exitcode or 0})
    return int(worker.exitcode or 0)


def _mend_closed_channels() -> None:
    """Let kombu report a closed channel as what it is, a lost connection.

    A message that is acked or restored after its connection was lost makes kombu 5.7 look for the address of no
    connection: AttributeError, which Celery takes for a bug and ends the worker, whatever its retry settings say.
    Every connection error it knows to survive; so that is what it gets. Remove once kombu does it itself.
    """
    closed: Any = Channel  # celery-types knows only its public side
    original = closed._connparams
    if hasattr(original, "mended"):
        return

    def connparams(channel: Channel, asynchronous: bool = False) -> dict[str, object]:
        if channel.connection.client is None:
            raise RedisConnectionError("the channel's connection is closed")
        found: dict[str, object] = original(channel, asynchronous)
        return found

    connparams.mended = True  # type: ignore[attr-defined]  # once a process, however often it consumes
    closed._connparams = connparams
