"""Our message against Celery's own, and the names that KEDA, Flower and workers agree on."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
import redis

from jobs import naming
from jobs.ledger import Message
from jobs.queue import celery_queues
from jobs.schema import Priority

QUEUE = naming.queue_name("gleaner-small", Priority.STANDARD)


def test_our_envelope_has_the_shape_of_celerys_own(broker_url: str) -> None:
    """A message built here differs from one that Celery sends only in who sent it and when."""
    app = celery_queues.build_celery_app(broker_url, [QUEUE], "worker")
    message = Message(QUEUE, "job_1", 3, 7)
    with redis.Redis.from_url(broker_url) as broker:
        app.send_task(
            celery_queues.EXTRACT_TASK,
            args=["job_1", 3, 7],
            queue=QUEUE,
            task_id="job_1.3.7",
            headers={celery_queues.VERSION_HEADER: naming.WIRE_VERSION},
            ignore_result=True,
        )
        theirs = orjson.loads(broker.rpop(celery_queues.KEY_PREFIX + QUEUE))
        celery_queues.push_messages(broker, [message])
        ours = orjson.loads(broker.rpop(celery_queues.KEY_PREFIX + QUEUE))
    app.close()

    assert orjson.loads(base64.b64decode(theirs.pop("body"))) == orjson.loads(ours.pop("body"))
    assert theirs["properties"].pop("body_encoding") == "base64"
    for envelope in (theirs, ours):
        for field in ("reply_to", "delivery_tag"):
            envelope["properties"].pop(field)
        for field in ("origin", "argsrepr"):
            envelope["headers"].pop(field)
    assert theirs == ours


def test_kombu_reads_our_message_as_its_own(broker_url: str) -> None:
    """A worker's consumer gets the task's arguments."""
    app = celery_queues.build_celery_app(broker_url, [QUEUE], "worker")
    with redis.Redis.from_url(broker_url) as broker:
        celery_queues.push_messages(broker, [Message(QUEUE, "job_1", 3, 7)])
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        message = channel.basic_get(QUEUE)
        assert message.payload == [
            ["job_1", 3, 7],
            {},
            {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
        ]
        assert message.headers["id"] == "job_1.3.7"
        message.ack()
    app.close()


def test_push_keeps_the_order_of_publication(broker_url: str) -> None:
    """Kombu takes from the right: the message published first is read first."""
    messages = [Message(QUEUE, "job_1", n, n) for n in range(5)]
    with redis.Redis.from_url(broker_url) as broker:
        celery_queues.push_messages(broker, messages)
        assert celery_queues.queue_length(broker, QUEUE) == 5
        taken = [orjson.loads(broker.rpop(celery_queues.KEY_PREFIX + QUEUE))["headers"]["id"] for _ in range(5)]
    assert taken == [f"job_1.{n}.{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param("gleaner-small", "gleaner-small", id="already a slug"),
        pytest.param("urchade/gliner_medium-v2.1", "urchade-gliner-medium-v2-1-", id="hub id gets a hash"),
        pytest.param("Gleaner-Small", "gleaner-small-", id="case counts"),
    ],
)
def test_slugs_are_safe_and_distinct(model: str, expected: str) -> None:
    """A slug is fit for keys and Kubernetes, and only a name that is its own slug goes without a hash."""
    slug = naming.model_slug(model)
    assert slug.startswith(expected)
    assert (len(slug) == len(expected)) == (slug == model)
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("unix:///tmp/s.sock?db=3", "redis+socket:///tmp/s.sock?virtual_host=3"),
        ("unix://:secret@/tmp/s.sock?db=3", "redis+socket://:secret@/tmp/s.sock?virtual_host=3"),
    ],
)
def test_broker_urls_are_written_as_kombu_wants_them(url: str, expected: str) -> None:
    """A unix socket has another scheme there; everything else stays."""
    assert celery_queues.celery_url(url) == expected
