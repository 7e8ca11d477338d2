"""Protects the gateway from a slow or absent Redis: a deadline for every round trip, and a circuit breaker.

While Redis is down, round trips fail at once; one per second is let through as a probe.
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
"""Round trips at the same time; more are queued. redis-py's pool refuses the 101st connection, and Redis runs one
command at a time anyway."""


class GuardedLedger(AsyncLedger):
    """The ledger behind a deadline and a circuit breaker.

    Args:
        client: of the ledger's database.
        deadline_s: longest round trip, including connecting and retries (seconds).
        metrics: exports the breaker's state.
    """

    def __init__(self, client: redis.asyncio.Redis, deadline_s: float, metrics: GatewayMetrics) -> None:
        super().__init__(client)
        self._deadline_s = deadline_s
        self._metrics = metrics
        self._breaker = CircuitBreaker(FAILURES_TO_OPEN, PROBE_EVERY_S, _is_unreachable, "ledger")
        self._probing = False
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def _round_trip(self, calls: Sequence[Call[Any]]) -> list[Any]:
        round_trip = super()._round_trip
        return await self.run_guarded(", ".join(sorted({call.script for call in calls})), lambda: round_trip(calls))

    async def run_guarded(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work`, which calls Redis, under the same deadline and breaker.

        Raises:
            LedgerUnavailableError: raised by `work`, or because Redis is down or too slow.
        """
        async with self._slots:  # before the deadline begins: queueing is not an outage
            state = self._breaker.state
            if state == STATE_OPEN or (state == STATE_HALF_OPEN and self._probing):
                raise LedgerUnavailableError(f"{name}: Redis is down")
            self._probing = state == STATE_HALF_OPEN
            try:
                return await self._record_outcome(self._run_within_deadline(name, work))
            finally:
                self._probing = False
                self._metrics.store_down.set(0 if self._breaker.closed else 1)
                if self._breaker.closed != (state == "closed"):
                    log.warning("ledger.breaker", extra={"state": self._breaker.state})

    async def _record_outcome(self, work: Awaitable[T]) -> T:
        """Report the outcome to the breaker; concurrent work that fails together counts once."""
        last = self._breaker.last_failure
        try:
            result = await work
        except Exception as error:
            if isinstance(error, LedgerUnavailableError) or self._breaker.last_failure is last:
                with self._breaker:
                    raise
            raise
        self._breaker.reset()
        return result

    async def _run_within_deadline(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await work()
        except TimeoutError as error:
            raise LedgerUnavailableError(f"{name}: no answer in {self._deadline_s:g} s") from error


def _is_unreachable(kind: type[BaseException], error: BaseException) -> bool:
    """Return whether Redis is down: an error reply (full, read-only) is not, as reads still work."""
    return issubclass(kind, RedisError | OSError | LedgerUnavailableError) and not issubclass(kind, ResponseError)
