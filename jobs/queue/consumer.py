"""Runs Celery's worker in this process until SIGTERM: the one place that knows how it starts and stops."""

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
    """A name for this process that no other has: role, process and host."""
    return f"{role}-{os.getpid()}@{socket.gethostname()}"


def run_consumer(
    app: Celery,
    name: str,
    slots: int,
    *,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> int:
    """Take messages of the app's queues until SIGTERM, finish what runs, return the exit code.

    SIGTERM is Celery's warm shutdown: running tasks finish, and a second SIGTERM changes nothing. The soft and cold
    shutdowns are broken on the threads pool in 5.7 and never asked for.

    Args:
        app: from `jobs.queue.celery_queues.build_celery_app`.
        name: `process_name(...)`.
        slots: messages of each queue held at once, a thread for each.
        on_ready: called when the consumer takes messages.
        on_stop: called in the signal handler: it may set an Event and nothing more.
    """

    # Celery keeps weak references to receivers; these live as long as this call.
    def ready(**_: object) -> None:
        on_ready()

    def stop(**_: object) -> None:
        on_stop()

    def keep_logging(**_: object) -> None:
        """A receiver of setup_logging keeps Celery from configuring logging; jobs.observability.logs has."""

    # Celery writes "Warm shutdown" past logging, straight to stderr; `consumer.stopped` says it in our shape.
    celery_worker.safe_say = lambda *_, **__: None  # type: ignore[attr-defined]  # its stubs lack it
    signals.setup_logging.connect(keep_logging)
    signals.worker_ready.connect(ready)
    signals.worker_shutting_down.connect(stop)
    app.steps["consumer"].add(_slots_of_its_own(slots))
    app.steps["consumer"].add(_EventsLater)
    worker = app.Worker(
        hostname=name,
        pool_cls="threads",
        concurrency=slots * len(app.conf.task_queues),
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


def _slots_of_its_own(slots: int) -> type[StartStopStep]:
    """A step of Celery's consumer that gives every queue its own slots: a flood in one shuts out no other.

    Celery takes from all its queues by one blocking pop, and counts what it holds of them together. Here each queue
    has a channel, and so a pop of its own, which is only sent while the queue has a free slot: no message is taken
    that would have to wait for one.
    """

    class SlotsOfItsOwn(StartStopStep):
        requires = (Tasks,)

        def __init__(self, parent: Consumer, **kwargs: object) -> None:
            super().__init__(parent, **kwargs)
            self._consumers: list[Any] = []

        def start(self, parent: Any) -> None:
            """After Celery has made its own consumer, and before it would begin to take messages."""
            parent.task_consumer.consume = lambda: None  # it only says, to Flower, what is taken here
            self._consumers = [
                parent.app.amqp.TaskConsumer(
                    parent.connection.channel(), [queue], on_decode_error=parent.on_decode_error
                )
                for queue in parent.task_consumer.queues
            ]
            for consumer in self._consumers:
                [queue] = consumer.queues
                # What was taken is running, since nothing waits for a slot: a lost connection gives none back.
                consumer.channel.do_restore = False
                consumer.channel.qos.can_consume = partial(has_free_slot, queue.name, slots)
                consumer.on_message = parent.create_task_handler()
                consumer.consume()

        def stop(self, parent: Any) -> None:
            """Take no more; what runs is acknowledged on the same channel, which ends with the connection."""
            for consumer in self._consumers:
                ignore_errors(parent, consumer.cancel)

    return SlotsOfItsOwn


def has_free_slot(queue: str, slots: int) -> bool:
    """Whether this process holds fewer than `slots` messages of the queue.

    By Celery's own list of requests, which a message leaves however its task ends: one that was counted apart could
    be forgotten, and its slot with it.
    """
    held = list(state.requests.values())  # a copy in one step: threads take out theirs
    return len(held) < slots or sum(each.delivery_info["routing_key"] == queue for each in held) < slots


class _EventsLater(StartStopStep):
    """Sends the events that Flower shows of tasks twice a second.

    Celery sends each as it comes: between taking a message and working on it, for a client that waits.
    """

    requires = (Events,)
    _timer: Any = None

    def start(self, parent: Any) -> None:
        """From now on."""
        dispatcher = parent.event_dispatcher
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = 1000  # of a flood, which nobody should have to send in one piece
        self._timer = parent.timer.call_repeatedly(EVENTS_EVERY_S, dispatcher.flush)

    def stop(self, parent: Any) -> None:
        """No timer runs while the process drains: again as they come."""
        if self._timer is None:  # the connection was lost before this had begun
            return
        self._timer.cancel()
        self._timer = None
        parent.event_dispatcher.on_send_buffered = parent.on_send_event_buffered
        parent.event_dispatcher.flush()
