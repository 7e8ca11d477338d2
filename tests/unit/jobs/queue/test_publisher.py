"""Who pushes a new job's messages: the ledger's own call, or the gateway behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
import redis.asyncio

from jobs import ledger, naming
from jobs.ledger import InlinePush, Ledger, Message
from jobs.queue import celery_queues
from jobs.queue.publisher import QueuePublisher, shared_server_databases
from jobs.schema import Priority
from tests.support.ledger import MODEL, new_job
from tests.support.processes.harness import Server

QUEUE = naming.queue_name(MODEL, Priority.STANDARD)
KEY = celery_queues.KEY_PREFIX + QUEUE
WITHIN = InlinePush(0, 1, KEY, celery_queues.message_template(QUEUE))


def waiting(broker: redis.Redis) -> list[bytes]:
    """Return the messages of the queue, in consumption order."""
    messages: list[bytes] = broker.lrange(KEY, 0, -1)
    return messages[::-1]


def test_what_is_published_is_pushed_in_the_same_step(broker_url: str, ledger_url: str) -> None:
    """The ledger pushes one message per published shard, as the gateway would have; none is left."""
    with redis.Redis.from_url(broker_url) as broker, redis.Redis.from_url(ledger_url) as client:
        store, call = Ledger(client), ledger.create_job(new_job("job_1", (1, 1, 1)), WITHIN)
        created = store.run(call)
        assert (created.kind, created.publish) == ("created", ())
        assert waiting(broker) == [
            celery_queues.encode_message(Message(QUEUE, "job_1", n, n + 1)) for n in range(2)
        ]

        assert store.run(call).kind == "exists"  # our own call, repeated, pushes nothing
        assert celery_queues.queue_length(broker, QUEUE) == 2
        assert broker.keys("{gleaner}:*") == client.keys("gleaner:q:*") == []


def test_a_queue_that_takes_nothing_leaves_the_job_and_the_messages(broker_url: str, ledger_url: str) -> None:
    """The job is created, and its creator gets the messages to push."""
    with redis.Redis.from_url(broker_url) as broker, redis.Redis.from_url(ledger_url) as client:
        broker.set(KEY, "no list")
        created = Ledger(client).run(ledger.create_job(new_job("job_1"), WITHIN))
        assert (created.kind, created.publish) == ("created", (Message(QUEUE, "job_1", 0, 1),))
        assert Ledger(client).run(ledger.read_job("job_1")).id == "job_1"


@pytest.mark.parametrize("denied", ["-select", "-lpush"])
def test_a_user_who_may_not_push_leaves_the_job_and_the_messages(
    broker_url: str, ledger_url: str, denied: str
) -> None:
    """A ledger's user without the right to the queue makes jobs as ever."""
    with redis.Redis.from_url(broker_url) as broker:
        rights = {"keys": ["*"], "channels": ["*"], "commands": ["+@all", denied]}
        broker.acl_setuser("narrow", enabled=True, nopass=True, **rights)
        try:
            with redis.Redis.from_url(ledger_url) as client:
                client.execute_command("AUTH", "narrow", "any")
                created = Ledger(client).run(ledger.create_job(new_job("job_1"), WITHIN))
                assert (created.kind, len(created.publish)) == ("created", 1)
            assert celery_queues.queue_length(broker, QUEUE) == 0
        finally:
            broker.acl_deluser("narrow")


def test_job_and_message_are_both_there_after_a_restart(tmp_path: Path) -> None:
    """The append-only file holds each in its own database."""
    server = Server(tmp_path / "s")
    try:
        with server.client() as client:
            Ledger(client).run(ledger.create_job(new_job("job_1"), WITHIN))
            client.execute_command("WAITAOF", 1, 0, 2000)
        server.kill()
        server.start()
        with server.client(0) as broker, server.client() as client:
            assert waiting(broker) == [celery_queues.encode_message(Message(QUEUE, "job_1", 0, 1))]
            assert Ledger(client).run(ledger.read_job("job_1")).id == "job_1"
            assert broker.dbsize() == 1
    finally:
        server.stop()


@pytest.mark.anyio
async def test_only_a_server_that_named_itself_at_both_ends_is_pushed_to(
    broker_url: str, ledger_url: str, tmp_path: Path
) -> None:
    """The same address is not enough; until both ends have answered the gateway pushes itself."""
    connect, server = redis.asyncio.Redis.from_url, Server(tmp_path / "s")
    try:
        async with connect(broker_url) as broker, connect(ledger_url) as store, connect(server.url(1)) as another:
            pusher = QueuePublisher(broker, shared_server_databases(ledger_url, broker_url))
            assert pusher.inline_push(QUEUE) is None
            await pusher.check_same_server(store)
            assert pusher.inline_push(QUEUE) == WITHIN
            await pusher.check_same_server(another)  # two behind one address, as a name or a proxy can have it
            assert pusher.inline_push(QUEUE) is None
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        pytest.param("redis://a:1/1", "redis://u:p@a:1/0", (1, 0), id="one server"),
        pytest.param("redis://a/1", "redis://a:6379/0", (1, 0), id="the usual port"),
        pytest.param("redis://a:1/1", "redis://a:2/0", None, id="another port"),
        pytest.param("redis://a:1/1", "redis://b:1/0", None, id="another host"),
        pytest.param("redis://a:1/1", "rediss://a:1/0", None, id="another scheme"),
        pytest.param("unix:///s?db=3", "unix:///s?db=2", (3, 2), id="a socket"),
        pytest.param("unix:///s?db=1", "unix:///t?db=0", None, id="another socket"),
        pytest.param("redis+sentinel://a,b/m/1", "redis+sentinel://b,a/m", (1, 0), id="one master"),
        pytest.param("redis+sentinel://a,b/m/1", "redis+sentinel://a,b/n", None, id="another master"),
    ],
)
def test_one_server_is_one_address(here: str, there: str, expected: tuple[int, int] | None) -> None:
    """Users may differ; an address that only might be the same is another."""
    assert shared_server_databases(here, there) == expected
