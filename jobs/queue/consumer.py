"""Runs Celery's worker in this process until SIGTERM; no other module starts or stops it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery, signals
from celery.apps import worker as celery_worker
from celery.bootsteps import StartStopStep
from celery.worker import state
from celery.worker.consumer import Consumer, Events, Tasks
from kombu.common import ignore_errors

log = logging.getLogger(__name__)

EVENTS_EVERY_S = 0.5


def process_name(role: str) -> str:
    """Return a unique name for this process: role, process id and host."""
    return f"{role}-{os.getpid()}@{socket.gethostname()}"


def run_consumer(
    app: Celery,
    name: str,
    slots: int,
    *,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> int:
    """Consume the app's queues until SIGTERM, finish running tasks, and return the exit code.

    SIGTERM is Celery's warm shutdown: running tasks finish, and a second SIGTERM changes nothing. The soft and cold
    shutdowns are broken on the threads pool in 5.7 and are not used.

    Args:
        app: from `jobs.queue.celery_queues.build_celery_app`.
        name: from `process_name`.
        slots: messages of each queue processed at once, one thread each.
        on_ready: called when the consumer is ready to take messages.
        on_stop: called in the signal handler: it may set an Event and nothing more.
    """

    # Celery keeps weak references to receivers; these live as long as this call.
    def ready(**_: object) -> None:
        on_ready()

    def stop(**_: object) -> None:
        on_stop()

    def keep_logging(**_: object) -> None:
        """Receive setup_logging, which keeps Celery from configuring logging; jobs.observability.logs does."""

    # Celery writes "Warm shutdown" straight to stderr; `consumer.stopped` is our log event for it.
    celery_worker.safe_say = lambda *_, **__: None  # type: ignore[attr-defined]  # its stubs lack it
    signals.setup_logging.connect(keep_logging)
    signals.worker_ready.connect(ready)
    signals.worker_shutting_down.connect(stop)
    app.steps["consumer"].add(_slots_per_queue(slots))
    app.steps["consumer"].add(_BufferedEvents)
    worker = app.Worker(
        hostname=name,
        pool_cls="threads",
        concurrency=slots * len(app.conf.task_queues),
        loglevel=logging.INFO,
        quiet=True,
        without_gossip=True,  # workers do not coordinate with each other
        without_mingle=True,
        task_events=True,
        no_color=True,
        optimization="default",
    )
    worker.start()
    log.info("consumer.stopped", extra={"exit_code": worker.exitcode or 0})
    return int(worker.exitcode or 0)


def _slots_per_queue(slots: int) -> type[StartStopStep]:
    """Return a step of Celery's consumer that gives every queue its own slots: a flood in one blocks no other.

    Celery takes from all its queues with one blocking pop and counts their messages together. Here each queue has
    its channel and so its pop, which is only sent while the queue has a free slot: no message is taken that would
    have to wait for one.
    """

    class SlotsPerQueue(StartStopStep):
        requires = (Tasks,)

        def __init__(self, parent: Consumer, **kwargs: object) -> None:
            super().__init__(parent, **kwargs)
            self._consumers: list[Any] = []

        def start(self, parent: Any) -> None:
            """Replace Celery's consumer before it begins to take messages."""
            parent.task_consumer.consume = lambda: None  # it only tells Flower the queues
            self._consumers = [
                parent.app.amqp.TaskConsumer(
                    parent.connection.channel(), [queue], on_decode_error=parent.on_decode_error
                )
                for queue in parent.task_consumer.queues
            ]
            for consumer in self._consumers:
                [queue] = consumer.queues
                # Every message taken is running, since none waits for a slot: a lost connection restores none.
                consumer.channel.do_restore = False
                consumer.channel.qos.can_consume = partial(has_free_slot, queue.name, slots)
                consumer.on_message = parent.create_task_handler()
                consumer.consume()

        def stop(self, parent: Any) -> None:
            """Stop taking messages; running ones are acknowledged on the same channel, which stays open."""
            for consumer in self._consumers:
                ignore_errors(parent, consumer.cancel)

    return SlotsPerQueue


def has_free_slot(queue: str, slots: int) -> bool:
    """Return True if this process has fewer than `slots` messages of the queue.

    Counts Celery's own list of requests, which a message leaves however its task ends; a separate counter could
    miss an end and lose a slot.
    """
    requests = list(state.requests.values())  # an atomic copy: other threads remove theirs
    return len(requests) < slots or sum(r.delivery_info["routing_key"] == queue for r in requests) < slots


class _BufferedEvents(StartStopStep):
    """Sends task events to Flower twice a second.

    Celery sends each event at once, between taking a message and working on it, which delays waiting clients.
    """

    requires = (Events,)
    _timer: Any = None

    def start(self, parent: Any) -> None:
        """Begin to buffer events."""
        dispatcher = parent.event_dispatcher
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = 1000  # bounds the size of one flush
        self._timer = parent.timer.call_repeatedly(EVENTS_EVERY_S, dispatcher.flush)

    def stop(self, parent: Any) -> None:
        """Send events at once again, since no timer runs while the process drains."""
        if self._timer is None:  # the connection was lost before `start`
            return
        self._timer.cancel()
        self._timer = None
        parent.event_dispatcher.on_send_buffered = parent.on_send_event_buffered
        parent.event_dispatcher.flush()
