"""The Celery side of the queue: the app's settings with their reasons, a shard's message, and how it is pushed.

Celery's own Redis transport is not at-least-once (a message popped by a worker that dies before it recorded it is
gone), so nothing here is trusted with a job: the ledger publishes again what the queue loses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs import naming
from jobs.ledger import Message
from jobs.redis.clients import add_tls_options, sentinel_options, tls_options
from jobs.redis.sentinels import Sentinels
from jobs.schema import Priority

if TYPE_CHECKING:
    from celery import Celery

KEY_PREFIX = "gleaner:q:"
EXTRACT_TASK = "gleaner.extract_shard"
DELIVER_TASK = "gleaner.deliver"
VERSION_HEADER = "v"
_SENTINEL_TIMEOUT_S = 4.0


def build_celery_app(broker_url: str, queues: Iterable[str], role: str) -> Celery:
    """The Celery app of one process. Nothing is connected before it is used.

    Args:
        broker_url: in redis-py form, or of Sentinels (`jobs.redis.sentinels`).
        queues: what this process may consume; also what Flower asks the length of.
        role: worker or courier: names connections.
    """
    from celery import Celery  # a gateway pushes without it, and starts sooner
    from kombu import Queue

    app = Celery("gleaner", set_as_current=False)
    app.conf.update(
        broker_url=celery_url(broker_url),
        broker_use_ssl=tls_options(broker_url) or None,
        task_queues=tuple(Queue(name) for name in queues),
        task_default_queue=naming.WEBHOOK_QUEUE,
        task_create_missing_queues=False,
        # Results go to the ledger in the same atomic step as the counts; a result backend would be a second truth.
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],  # never pickle: a message must not run code
        task_acks_late=True,  # ack after the result is stored
        task_acks_on_failure=True,  # a failed task is upkeep's business; rejecting would drop the message silently
        task_acks_on_timeout=True,
        task_reject_on_worker_lost=True,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # pods wait for the broker instead of exiting after 100 tries
        broker_channel_error_retry=True,  # a full or read-only broker (an error reply) must not end the worker
        broker_connection_timeout=5,
        worker_prefetch_multiplier=1,  # what inspection shows; jobs.queue.consumer says what a process may hold
        worker_enable_prefetch_count_reduction=False,
        worker_eta_task_limit=64,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease decides, not the connection
        worker_soft_shutdown_timeout=0,  # soft shutdown is broken on the threads pool in 5.7
        worker_send_task_events=True,  # Flower's states and runtimes
        worker_hijack_root_logger=False,  # logging is jobs.observability.logs's
        worker_redirect_stdouts=False,
        broker_transport_options={
            "global_keyprefix": KEY_PREFIX,
            # Who is killed loses what it took: the ledger finds out by itself. kombu's own record of what was taken
            # costs a round trip before a message is worked on and one after, and loses messages all the same.
            "ack_emulation": False,
            "priority_steps": [0],  # priorities are queues of their own; KEDA and Flower see one list a queue
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "client_name": f"gleaner-{role}",
            **_sentinel_transport(broker_url, role),
        },
    )
    return app


def _sentinel_transport(broker_url: str, role: str) -> dict[str, Any]:
    if (sentinels := Sentinels.parse(broker_url)) is None:
        return {}
    own = sentinel_options(broker_url, _SENTINEL_TIMEOUT_S)
    if role != "flower":  # which reads this, too, for connections of its own kind, and has a retry for them
        own["retry"] = Retry(NoBackoff(), 0)
    return {"master_name": sentinels.master, "sentinel_kwargs": own}


def model_queues(models: Iterable[str]) -> list[str]:
    """Every queue of these models, interactive before standard."""
    return [naming.queue_name(model, priority) for model in models for priority in Priority]


def celery_url(url: str) -> str:
    """A redis-py URL as kombu writes it (a unix socket is `redis+socket://` there)."""
    if (sentinels := Sentinels.parse(url)) is not None:
        return sentinels.celery_url()
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return add_tls_options(url)
    query = parse_qs(parts.query)
    host = f"{parts.username or ''}:{parts.password}@" if parts.password else ""
    return f"redis+socket://{host}{parts.path}?virtual_host={query.get('db', ['0'])[0]}"


_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_HEADERS: dict[str, object] = {
    "lang": "py",
    "parent_id": None,
    "group": None,
    "group_index": None,
    "shadow": None,
    "retries": 0,
    "eta": None,
    "expires": None,
    "timelimit": [None, None],
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
    "kwargsrepr": "{}",
    "origin": "gleaner",
    "ignore_result": True,
    VERSION_HEADER: naming.WIRE_VERSION,
}
_PROPERTIES = {"reply_to": "", "delivery_mode": 2, "priority": 0}


@cache
def message_template(queue: str) -> bytes:
    """A queue's messages as kombu's Redis transport stores them: a format (%) of job, shard and seq, six times.

    Of Celery's task protocol 2. Made here so that the ledger's script can push it, or the gateway's event loop with
    a connection of its own: `send_task` blocks and costs most of a submission. Its unit test
    compares it with the message that Celery sends.
    """
    return _envelope(EXTRACT_TASK, "%s.%s.%s", queue, '["%s",%s,%s]', "('%s', %s, %s)")


def encode_message(message: Message) -> bytes:
    """A shard's message."""
    return message_template(message.queue) % (
        (message.job.encode(), b"%d" % message.shard, b"%d" % message.seq) * 6
    )


def _envelope(task: str, task_id: str, queue: str, arguments: str, shown: str) -> bytes:
    """A message; its arguments as JSON, and as Flower shows them. A body without `body_encoding` is plain."""
    return orjson.dumps(
        {
            "body": f"[{arguments},{{}},{orjson.dumps(_EMBEDDED).decode()}]",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**_HEADERS, "task": task, "id": task_id, "root_id": task_id, "argsrepr": shown},
            "properties": {
                **_PROPERTIES,
                "correlation_id": task_id,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "delivery_tag": task_id,
            },
        }
    )


def push_messages(broker: redis.Redis, messages: Iterable[Message]) -> None:
    """Put messages into their queues, in order, in one round trip.

    Raises:
        redis.exceptions.RedisError: some may not have arrived; upkeep publishes those again.
    """
    pipeline = broker.pipeline(transaction=False)
    for message in messages:
        pipeline.lpush(KEY_PREFIX + message.queue, encode_message(message))
    pipeline.execute()


def push_deliveries(broker: redis.Redis, groups: Iterable[Sequence[str]]) -> None:
    """Put webhook deliveries into the couriers' queue: a message a group, which one courier tries in turn.

    Raises:
        redis.exceptions.RedisError: some may not have arrived; they come up again.
    """
    pipeline = broker.pipeline(transaction=False)
    for group in groups:
        task_id, arguments = f"{group[0]}.{uuid4().hex[:8]}", orjson.dumps(list(group)).decode()
        message = _envelope(DELIVER_TASK, task_id, naming.WEBHOOK_QUEUE, arguments, repr(tuple(group)))
        pipeline.lpush(KEY_PREFIX + naming.WEBHOOK_QUEUE, message)
    pipeline.execute()


def queue_length(broker: redis.Redis, queue: str) -> int:
    """Messages waiting in a queue (taken ones are not counted)."""
    return int(broker.llen(KEY_PREFIX + queue))
