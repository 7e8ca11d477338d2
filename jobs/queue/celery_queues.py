"""Celery's side of the queue: the app's settings with their reasons, messages, and how they are pushed.

Celery's Redis transport is not at-least-once (a message is lost if its worker dies before it records it), so no job
depends on it: the ledger republishes lost messages.
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
    """Return the Celery app of a process; it connects on first use.

    Args:
        broker_url: a redis-py URL, or a Sentinel URL (`jobs.redis.sentinels`).
        queues: queues that this process may consume, or whose length Flower shows.
        role: worker, courier or flower; part of the connections' names.
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
        # Results go to the ledger in the same atomic step as the counts; a result backend would be a second record.
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],  # not pickle: a message must not run code
        task_acks_late=True,  # ack after the result is stored
        task_acks_on_failure=True,  # upkeep handles failed tasks; rejecting would drop the message silently
        task_acks_on_timeout=True,
        task_reject_on_worker_lost=True,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # pods wait for the broker instead of exiting after 100 tries
        broker_channel_error_retry=True,  # a full or read-only broker (an error reply) must not end the worker
        broker_connection_timeout=5,
        worker_prefetch_multiplier=1,  # for inspection only; jobs.queue.consumer limits the messages of a process
        worker_enable_prefetch_count_reduction=False,
        worker_eta_task_limit=64,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease decides, not the connection
        worker_soft_shutdown_timeout=0,  # soft shutdown is broken on the threads pool in 5.7
        worker_send_task_events=True,  # for Flower
        worker_hijack_root_logger=False,  # jobs.observability.logs configures logging
        worker_redirect_stdouts=False,
        broker_transport_options={
            "global_keyprefix": KEY_PREFIX,
            # A killed process loses its messages; the ledger detects that. kombu's own record of unacknowledged
            # messages costs a round trip before and after each message, and loses messages all the same.
            "ack_emulation": False,
            "priority_steps": [0],  # priorities are separate queues; KEDA and Flower see one list per queue
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
    options = sentinel_options(broker_url, _SENTINEL_TIMEOUT_S)
    if role != "flower":  # Flower passes these options to its own connections, which retry by themselves
        options["retry"] = Retry(NoBackoff(), 0)
    return {"master_name": sentinels.master, "sentinel_kwargs": options}


def model_queues(models: Iterable[str]) -> list[str]:
    """Return every queue of these models, interactive before standard."""
    return [naming.queue_name(model, priority) for model in models for priority in Priority]


def celery_url(url: str) -> str:
    """Return a redis-py URL in kombu's form (a Unix socket is `redis+socket://` there)."""
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
    """Return the format (%) of a queue's messages as kombu stores them; it takes job, shard and seq, six times.

    Follows Celery's task protocol 2. With it the ledger's script or the gateway's event loop can push messages:
    `send_task` blocks and costs most of a submission. A unit test compares it with the message that Celery sends.
    """
    return _envelope(EXTRACT_TASK, "%s.%s.%s", queue, '["%s",%s,%s]', "('%s', %s, %s)")


def encode_message(message: Message) -> bytes:
    """Return a shard's message as stored in its queue."""
    return message_template(message.queue) % (
        (message.job.encode(), b"%d" % message.shard, b"%d" % message.seq) * 6
    )


def _envelope(task: str, task_id: str, queue: str, arguments: str, argsrepr: str) -> bytes:
    """Return a message; `arguments` as JSON, `argsrepr` for Flower. A body without `body_encoding` is plain."""
    return orjson.dumps(
        {
            "body": f"[{arguments},{{}},{orjson.dumps(_EMBEDDED).decode()}]",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**_HEADERS, "task": task, "id": task_id, "root_id": task_id, "argsrepr": argsrepr},
            "properties": {
                **_PROPERTIES,
                "correlation_id": task_id,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "delivery_tag": task_id,
            },
        }
    )


def push_messages(broker: redis.Redis, messages: Iterable[Message]) -> None:
    """Push messages to their queues, in order, in one round trip.

    Raises:
        redis.exceptions.RedisError: some may not have arrived; upkeep republishes those.
    """
    pipeline = broker.pipeline(transaction=False)
    for message in messages:
        pipeline.lpush(KEY_PREFIX + message.queue, encode_message(message))
    pipeline.execute()


def push_deliveries(broker: redis.Redis, groups: Iterable[Sequence[str]]) -> None:
    """Push webhook deliveries to the couriers' queue: one message per group, whose deliveries are tried in turn.

    Raises:
        redis.exceptions.RedisError: some may not have arrived; they become due again.
    """
    pipeline = broker.pipeline(transaction=False)
    for group in groups:
        task_id, arguments = f"{group[0]}.{uuid4().hex[:8]}", orjson.dumps(list(group)).decode()
        message = _envelope(DELIVER_TASK, task_id, naming.WEBHOOK_QUEUE, arguments, repr(tuple(group)))
        pipeline.lpush(KEY_PREFIX + naming.WEBHOOK_QUEUE, message)
    pipeline.execute()


def queue_length(broker: redis.Redis, queue: str) -> int:
    """Return the number of messages waiting in a queue; messages taken by a process do not count."""
    return int(broker.llen(KEY_PREFIX + queue))
