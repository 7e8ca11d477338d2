"""Shares the memory for request bodies among requests and tenants.

A request reserves the bytes of its body before it reads them and until its job is created. No tenant may have more
than half: its large requests wait for each other only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from weakref import WeakValueDictionary

from gateway.errors import GatewayError
from gateway.fair_budget import FairBudget

FREE_BYTES = 64 * 1024
"""Bodies up to this size are not counted: the HTTP server buffers as many bytes per connection anyway."""
LARGE_BYTES = 1 << 20
"""Larger bodies are parsed one at a time."""
WAIT_S = 10.0
"""Longest wait for memory before a request is refused (seconds)."""
_RETRY_AFTER_S = 5


class BodyMemory:
    """The memory for the request bodies in this process.

    Args:
        size: total bytes.
        wait_s: longest wait for bytes (seconds).
    """

    def __init__(self, size: int, wait_s: float = WAIT_S) -> None:
        self.budget = FairBudget(size, size // 2)
        self.wait_s = wait_s
        self.parsing_lock = asyncio.Lock()
        self.tenant_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def reserve_for(self, tenant: str) -> Reservation:
        """Return an empty reservation for one request."""
        return Reservation(self, tenant)


class Reservation:
    """Bytes reserved by one request; returned at the end of the block."""

    def __init__(self, memory: BodyMemory, tenant: str) -> None:
        self.size = 0
        self._memory = memory
        self._tenant = tenant

    async def resize(self, size: int) -> None:
        """Reserve `size` bytes in all, less `FREE_BYTES`.

        Raises:
            GatewayError: overloaded, if the bytes do not become free in time.
        """
        more = max(0, size - FREE_BYTES) - self.size
        if more > 0:
            try:
                async with asyncio.timeout(self._memory.wait_s):
                    await self._memory.budget.take(self._tenant, more)
            except TimeoutError:
                detail = "the memory for request bodies is in use; send the request again later"
                raise GatewayError("overloaded", detail, retry_after_s=_RETRY_AFTER_S) from None
        elif more < 0:
            self._memory.budget.give_back(self._tenant, -more)
        self.size += more

    @asynccontextmanager
    async def parsing_turn(self) -> AsyncIterator[None]:
        """Wait until this large body may be parsed: one at a time, as its objects need more bytes than it.

        Each tenant queues one body at a time, so that a tenant with many delays no other.
        """
        tenant_lock = self._memory.tenant_locks.setdefault(self._tenant, asyncio.Lock())
        async with tenant_lock, self._memory.parsing_lock:
            yield

    async def __aenter__(self) -> Self:
        """Return the reservation."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Return all bytes."""
        if self.size:
            self._memory.budget.give_back(self._tenant, self.size)
            self.size = 0
