"""How a gateway's messages reach the queues: in the ledger's own call if the broker is the same server, else after.

One round trip less, and no moment between the two in which a gateway can die.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

import redis.asyncio
from redis.connection import parse_url
from redis.exceptions import RedisError, ResponseError

from jobs.ledger import InlinePush, Message
from jobs.queue.celery_queues import KEY_PREFIX, encode_message, message_template
from jobs.redis.pipelining import RequestGrouper
from jobs.redis.sentinels import Sentinels

log = logging.getLogger(__name__)

_PORT = 6379
_AGAIN_S = 1.0
_ANSWERS_S = 5.0


class QueuePublisher:
    """Pushes for the event loop; what is published at the same moment shares round trips.

    Args:
        broker: of the broker's database.
        databases: those of ledger and broker, if one server has both (`shared_server_databases`); None: it may not.
    """

    def __init__(self, broker: redis.asyncio.Redis, databases: tuple[int, int] | None = None) -> None:
        self._broker = broker
        self._databases = databases
        self._proven = False
        self._proving: asyncio.Task[None] | None = None
        self._grouped: RequestGrouper[Sequence[Message], None] = RequestGrouper(self._push)

    def start(self, ledger: redis.asyncio.Redis) -> None:
        """Begin to ask both ends who they are; until they named one server, nothing is pushed in the ledger's call.

        Once is enough: behind one address, or one Sentinel's name, ledger and broker fail over together.
        """
        if self._databases is not None:
            self._proving = asyncio.create_task(self.check_same_server(ledger), name="pusher")

    async def stop(self) -> None:
        """Ask no more."""
        if self._proving is not None:
            self._proving.cancel()
            await asyncio.wait((self._proving,))

    async def check_same_server(self, ledger: redis.asyncio.Redis) -> None:
        """Ask until both ends have answered."""
        while True:
            try:
                async with asyncio.timeout(_ANSWERS_S):
                    here, there = [(await client.info("server"))["run_id"] for client in (ledger, self._broker)]
            except (ResponseError, KeyError) as error:
                log.warning("pusher.unproven", extra={"reason": type(error).__name__})  # may not ask: it stays so
                return
            except (RedisError, OSError):
                await asyncio.sleep(_AGAIN_S)
            else:
                self._proven = here == there
                return

    def inline_push(self, queue: str) -> InlinePush | None:
        """How the ledger's call pushes to this queue itself; None where it cannot."""
        if self._databases is None or not self._proven:
            return None
        back, database = self._databases
        return InlinePush(database, back, KEY_PREFIX + queue, message_template(queue))

    async def push(self, messages: Sequence[Message]) -> None:
        """Put messages into their queues, in order.

        Raises:
            redis.exceptions.RedisError: some may not have arrived; upkeep publishes those again.
        """
        await self._grouped.submit(messages)

    async def _push(self, groups: Sequence[Sequence[Message]]) -> Sequence[None]:
        pipeline = self._broker.pipeline(transaction=False)
        queued: dict[str, list[bytes]] = {}
        for messages in groups:
            for message in messages:
                queued.setdefault(KEY_PREFIX + message.queue, []).append(encode_message(message))
        for key, envelopes in queued.items():
            pipeline.lpush(key, *envelopes)
        await pipeline.execute()
        return [None] * len(groups)


def shared_server_databases(ledger_url: str, broker_url: str) -> tuple[int, int] | None:
    """The databases of ledger and broker, if both URLs lead to one server: the same address, or Sentinel's name."""
    (here, database), (there, other) = _place(ledger_url), _place(broker_url)
    return (database, other) if here == there else None


def _place(url: str) -> tuple[object, int]:
    if (sentinels := Sentinels.parse(url)) is not None:
        return (frozenset(sentinels.addresses), sentinels.master), sentinels.redis_options["db"]
    found = parse_url(url)  # type: ignore[no-untyped-call]  # redis-py's gap
    where = (urlsplit(url).scheme, found.get("path"), found.get("host"), found.get("port", _PORT))
    return where, found.get("db", 0)
