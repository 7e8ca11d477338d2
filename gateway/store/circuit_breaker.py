"""Keeps a store that is down or slow from holding up the gateway: a deadline on every round trip, and a breaker.

While the store stays down every one fails at once; once a second one of them is let through to see.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import redis.asyncio
from circuitbreaker import STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker
from redis.exceptions import RedisError, ResponseError

from jobs.ledger import AsyncLedger, Call, LedgerUnavailableError
from jobs.observability.metrics import GatewayMetrics

log = logging.getLogger(__name__)
T = TypeVar("T")

FAILURES_TO_OPEN = 3
PROBE_EVERY_S = 1
MAX_CONCURRENT = 64
"""Round trips under way; more wait their turn. redis-py's pool refuses the hundred and first connection, and the
server works on one at a time anyway."""


class GuardedLedger(AsyncLedger):
    """The ledger behind a deadline and a breaker.

    Args:
        client: of the ledger's database.
        deadline_s: how long a round trip may take in all, connecting and repeating included.
        metrics: where the breaker's state is shown.
    """

    def __init__(self, client: redis.asyncio.Redis, deadline_s: float, metrics: GatewayMetrics) -> None:
        super().__init__(client)
        self._deadline_s = deadline_s
        self._metrics = metrics
        self._breaker = CircuitBreaker(FAILURES_TO_OPEN, PROBE_EVERY_S, _unreachable, "ledger")
        self._probing = False
        self._turns = asyncio.Semaphore(MAX_CONCURRENT)

    async def _round_trip(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """As any ledger's, or fail at once while the store is known to be down."""
        asked = super()._round_trip
        return await self.run_guarded(", ".join(sorted({call.script for call in calls})), lambda: asked(calls))

    async def run_guarded(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do any work against the store under the same deadline and breaker.

        Raises:
            LedgerUnavailableError: from the work, or because the store is down or too slow.
        """
        async with self._turns:  # before the deadline begins: a crowd is no outage
            return await self._guarded(name, work)

    async def _guarded(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        state = self._breaker.state
        if state == STATE_OPEN or (state == STATE_HALF_OPEN and self._probing):
            raise LedgerUnavailableError(f"{name}: the store is down")
        self._probing = state == STATE_HALF_OPEN
        try:
            return await self._counted(self._within_deadline(name, work))
        finally:
            self._probing = False
            self._metrics.store_down.set(0 if self._breaker.closed else 1)
            if self._breaker.closed != (state == "closed"):
                log.warning("ledger.breaker", extra={"state": self._breaker.state})

    async def _counted(self, work: Awaitable[T]) -> T:
        """Tell the breaker how it ends. What was under way when another failed counts with it, once."""
        last = self._breaker.last_failure
        try:
            answer = await work
        except Exception as error:
            if isinstance(error, LedgerUnavailableError) or self._breaker.last_failure is last:
                with self._breaker:
                    raise
            raise
        self._breaker.reset()
        return answer

    async def _within_deadline(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await work()
        except TimeoutError as error:
            raise LedgerUnavailableError(f"{name}: no answer in {self._deadline_s:g} s") from error


def _unreachable(kind: type[BaseException], error: BaseException) -> bool:
    """A store that answers, be it with a refusal (full, read-only), is not down: reads still work."""
    return issubclass(kind, RedisError | OSError | LedgerUnavailableError) and not issubclass(kind, ResponseError)
