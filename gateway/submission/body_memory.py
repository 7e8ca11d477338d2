"""Shares the memory that request bodies may fill, among requests and tenants.

A request holds as many bytes as it keeps of its body, from before they come until its job is made. No tenant holds
more than half: its largest requests wait for each other, and for nobody else's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

from gateway.http.problems import Problem

FREE_BYTES = 64 * 1024
"""Bodies up to this size are not counted: the server buffers as much of any connection."""
LARGE_BYTES = 1 << 20
"""Larger bodies are parsed one after the other."""
WAIT_S = 10.0
"""Longest wait for memory before a request is refused (seconds)."""
_RETRY_AFTER_S = 5


@dataclass(eq=False, slots=True)
class _Waiting:
    tenant: str
    size: int
    granted: asyncio.Future[None]


class BodyMemory:
    """The bytes of request bodies that this process keeps at once.

    Args:
        size: bytes in all.
        wait_s: longest wait (seconds).

    Attributes:
        held: bytes held now.
    """

    def __init__(self, size: int, wait_s: float = WAIT_S) -> None:
        self.held = 0
        self._parsing = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._size = size
        self._wait_s = wait_s
        self._of_tenant: dict[str, int] = {}
        self._waiting: deque[_Waiting] = deque()

    def hold(self, tenant: str) -> Holding:
        """Begin to hold memory for one request."""
        return Holding(self, tenant)

    async def take(self, tenant: str, size: int) -> None:
        """Take bytes for a tenant, in the order of requests.

        Raises:
            Problem: overloaded, if they are not there in time.
        """
        if not self._waiting and self._fits(tenant, size):
            self._add(tenant, size)
            return
        waiting = _Waiting(tenant, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._grant()
        try:
            async with asyncio.timeout(self._wait_s):
                await waiting.granted
        except BaseException as error:
            if waiting.granted.done() and not waiting.granted.cancelled():
                self.give(tenant, size)
            else:
                self._waiting.remove(waiting)
                self._grant()
            if isinstance(error, TimeoutError):
                detail = "the service is reading as many bytes of requests as it has memory for"
                raise Problem("overloaded", detail, headers={"Retry-After": str(_RETRY_AFTER_S)}) from None
            raise

    @asynccontextmanager
    async def parsing(self, tenant: str) -> AsyncIterator[None]:
        """Wait for the turn of a tenant's large body: one is parsed at a time, as its objects are larger than it.

        Each tenant waits with one body; its others come after those of the other tenants.
        """
        turn = self._turns.setdefault(tenant, asyncio.Lock())
        async with turn, self._parsing:
            yield

    def give(self, tenant: str, size: int) -> None:
        """Give bytes back."""
        self._add(tenant, -size)
        self._grant()

    def _fits(self, tenant: str, size: int) -> bool:
        return self.held + size <= self._size and self._of_tenant.get(tenant, 0) + size <= self._size // 2

    def _add(self, tenant: str, size: int) -> None:
        self.held += size
        self._of_tenant[tenant] = self._of_tenant.get(tenant, 0) + size
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]

    def _grant(self) -> None:
        """Serve those who wait, in order; a tenant that has its half lets others pass."""
        full: set[str] = set()
        for waiting in tuple(self._waiting):
            if waiting.tenant in full or waiting.granted.done():
                continue
            if self._fits(waiting.tenant, waiting.size):
                self._waiting.remove(waiting)
                self._add(waiting.tenant, waiting.size)
                waiting.granted.set_result(None)
            elif self._of_tenant.get(waiting.tenant, 0) + waiting.size > self._size // 2:
                full.add(waiting.tenant)
            else:
                return  # smaller ones behind it would keep it waiting


class Holding:
    """What one request holds; given back at the end of the block."""

    def __init__(self, memory: BodyMemory, tenant: str) -> None:
        self.size = 0
        self._memory = memory
        self._tenant = tenant

    async def set(self, size: int) -> None:
        """Hold this many bytes, less what is free for every request.

        Raises:
            Problem: overloaded.
        """
        more = max(0, size - FREE_BYTES) - self.size
        if more > 0:
            await self._memory.take(self._tenant, more)
        elif more < 0:
            self._memory.give(self._tenant, -more)
        self.size += more

    def parsing(self) -> AbstractAsyncContextManager[None]:
        """Wait for the turn of this request's large body, as `BodyMemory.parsing`."""
        return self._memory.parsing(self._tenant)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give everything back."""
        if self.size:
            self._memory.give(self._tenant, self.size)
            self.size = 0
