"""Decides whether a gateway stays in its Service while Redis fails.

All gateways use the same Redis. If all left their Service with it, clients would get the load balancer's bare 503
instead of `storage_unavailable` with Retry-After, and no documentation or console. So an outage of Redis makes no
gateway leave. A fault of this gateway alone does: until its first write, which stops the update to a version with a
wrong address, and after `SILENCE_S` without an answer from Redis' address, or with its login refused.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Self
from urllib.parse import urlsplit

import redis

from jobs.ledger import Ledger, LedgerUnavailableError, ping_write
from jobs.redis.clients import cancel_task, connect
from jobs.redis.sentinels import Sentinels

FRESH_S = 1.0
SILENCE_S = 120.0
"""Kubernetes takes a lost node's pods out of their Service after about 50 s. From then on connections to a Redis
there are refused, which counts as an answer: a longer silence is this gateway's own."""
_CHECK_S = 1.0
"""Timeout of a check's connection and of its command; a probe of the chart waits for 5 s in all."""
_KNOCK_S = 0.3
_REFUSED_LOGIN = (redis.AuthenticationError, redis.exceptions.NoPermissionError)


class State(StrEnum):
    """State of a gateway that stays in its Service: `degraded` answers most requests with 503."""

    OK = "ok"
    DEGRADED = "degraded"


class LedgerCheck:
    """Checks by a write, which Redis keeps in its append-only file; for one thread at a time.

    Args:
        ledger: the ledger to write to.
        url: of its Redis.
        clock: returns seconds.
    """

    def __init__(self, ledger: Ledger, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._addresses = _list_addresses(url)
        self._clock = clock
        self._answered_at: float | None = None

    @classmethod
    def connect(cls, url: str, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> Self:
        """Return a check with a connection to Redis; `timeout_s` is the longest round trip of other calls."""
        return cls(Ledger(connect(url, min(timeout_s, _CHECK_S), "gleaner-gateway-probes")), url, clock)

    def run(self) -> State:
        """Return the state of a gateway that stays in its Service.

        Raises:
            LedgerUnavailableError: Redis cannot be written, and the gateway should leave.
        """
        try:
            self._ledger.run(ping_write())
        except LedgerUnavailableError as error:
            if self._is_isolated(error):
                raise
            return State.DEGRADED
        self._answered_at = self._clock()
        return State.OK

    def _is_isolated(self, error: LedgerUnavailableError) -> bool:
        if self._answered_at is None:
            return True
        if not isinstance(error.__cause__, _REFUSED_LOGIN) and _any_answers(self._addresses):
            self._answered_at = self._clock()
        return self._clock() - self._answered_at > SILENCE_S


class Readiness:
    """Shares one check among all probes within `FRESH_S`.

    Args:
        check: run in a thread.
    """

    def __init__(self, check: LedgerCheck) -> None:
        self._check = check
        self._check_task: asyncio.Task[State | str] | None = None
        self._checked_at = 0.0

    def start(self) -> asyncio.Task[State | str]:
        """Begin a check; the first one early, or an outage before the first probe looked like no first write."""
        self._check_task = asyncio.create_task(self._run_check(), name="readiness")
        return self._check_task

    async def stop(self) -> None:
        """Cancel a check that runs."""
        await cancel_task(self._check_task)

    async def check(self) -> State:
        """Return the latest check's result.

        Raises:
            LedgerUnavailableError: Redis cannot be written, and the gateway should leave its Service.
        """
        task = self._check_task
        if task is None or (task.done() and time.monotonic() - self._checked_at > FRESH_S):
            task = self.start()
        result = await asyncio.shield(task)
        if not isinstance(result, State):
            raise LedgerUnavailableError(result)
        return result

    async def _run_check(self) -> State | str:
        try:
            return await asyncio.to_thread(self._check.run)
        except LedgerUnavailableError as error:
            return str(error)
        finally:
            self._checked_at = time.monotonic()


def _list_addresses(url: str) -> tuple[tuple[str, int], ...]:
    """Return host and port of the server or of its Sentinels; nothing for a Unix socket."""
    if (sentinels := Sentinels.parse(url)) is not None:
        return sentinels.addresses
    parts = urlsplit(url)
    return () if parts.scheme == "unix" else ((parts.hostname or "localhost", parts.port or 6379),)


def _any_answers(addresses: tuple[tuple[str, int], ...]) -> bool:
    return not addresses or any(_is_answered(address) for address in addresses)


def _is_answered(address: tuple[str, int]) -> bool:
    """Return whether the network knows the address: connected, refused or without a name, but not silent."""
    try:
        socket.create_connection(address, _KNOCK_S).close()
    except socket.gaierror as error:
        return error.errno != socket.EAI_AGAIN
    except OSError as error:
        return isinstance(error, ConnectionError)
    return True
