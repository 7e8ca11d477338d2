"""Publishes a gateway's messages: inside the ledger's call if the broker is the same Redis, else in a second call.

The first saves a round trip, and a gateway cannot die between the two steps.
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
from jobs.redis.clients import cancel_task
from jobs.redis.group_commit import RequestGrouper
from jobs.redis.sentinels import Sentinels

log = logging.getLogger(__name__)

_PORT = 6379
_RETRY_S = 1.0
_CHECK_TIMEOUT_S = 5.0


class QueuePublisher:
    """Pushes messages from the event loop; those published at the same moment share round trips.

    Args:
        broker: client of the broker's database.
        databases: those of ledger and broker, if one server has both (`shared_server_databases`); None: it may not.
    """

    def __init__(self, broker: redis.asyncio.Redis, databases: tuple[int, int] | None = None) -> None:
        self._broker = broker
        self._databases = databases
        self._is_same_server = False
        self._check: asyncio.Task[None] | None = None
        self._grouped: RequestGrouper[Sequence[Message], None] = RequestGrouper(self._push)

    def start(self, ledger: redis.asyncio.Redis) -> None:
        """Start to check that ledger and broker are one server; until then nothing is pushed in the ledger's call.

        One check is enough: behind one address, or one Sentinel name, ledger and broker fail over together.
        """
        if self._databases is not None:
            self._check = asyncio.create_task(self.check_same_server(ledger), name="pusher")

    async def stop(self) -> None:
        """Stop checking."""
        await cancel_task(self._check)

    async def check_same_server(self, ledger: redis.asyncio.Redis) -> None:
        """Compare the run ids of ledger and broker, with retries until both have answered."""
        while True:
            try:
                async with asyncio.timeout(_CHECK_TIMEOUT_S):
                    ids = [(await client.info("server"))["run_id"] for client in (ledger, self._broker)]
            except (ResponseError, KeyError) as error:
                log.warning("pusher.unproven", extra={"reason": type(error).__name__})  # INFO is not permitted
                return
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY_S)
            else:
                self._is_same_server = ids[0] == ids[1]
                return

    def inline_push(self, queue: str) -> InlinePush | None:
        """Return how `create_job` can push to this queue; None if it cannot."""
        if self._databases is None or not self._is_same_server:
            return None
        ledger_database, database = self._databases
        return InlinePush(database, ledger_database, KEY_PREFIX + queue, message_template(queue))

    async def push(self, messages: Sequence[Message]) -> None:
        """Push messages to their queues, in order.

        Raises:
            redis.exceptions.RedisError: some may not have arrived; upkeep republishes those.
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
    """Return the databases of ledger and broker if both URLs have the same address or Sentinel name."""
    (ledger, ledger_database), (broker, broker_database) = _parse_server(ledger_url), _parse_server(broker_url)
    return (ledger_database, broker_database) if ledger == broker else None


def _parse_server(url: str) -> tuple[object, int]:
    if (sentinels := Sentinels.parse(url)) is not None:
        return (frozenset(sentinels.addresses), sentinels.master), sentinels.redis_options["db"]
    parts = parse_url(url)  # type: ignore[no-untyped-call]  # redis-py's gap
    address = (urlsplit(url).scheme, parts.get("path"), parts.get("host"), parts.get("port", _PORT))
    return address, parts.get("db", 0)
