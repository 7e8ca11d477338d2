"""Shares the memory for request bodies among requests and tenants.

A request reserves the bytes of its body before it reads them and until its job is created. No tenant may have more
than half: its large requests wait for each other only.
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

from gateway.errors import GatewayError

FREE_BYTES = 64 * 1024
"""Bodies up to this size are not counted: the HTTP server buffers as many bytes per connection anyway."""
LARGE_BYTES = 1 << 20
"""Larger bodies are parsed one at a time."""
WAIT_S = 10.0
"""Longest wait for memory before a request is refused (seconds)."""
_RETRY_AFTER_S = 5


@dataclass(eq=False, slots=True)
class _Waiting:
    tenant: str
    size: int
    granted: asyncio.Future[None]


class BodyMemory:
    """Budget of bytes for the request bodies in this process.

    Args:
        size: total bytes.
        wait_s: longest wait for bytes (seconds).

    Attributes:
        bytes_in_use: bytes reserved now.
    """

    def __init__(self, size: int, wait_s: float = WAIT_S) -> None:
        self.bytes_in_use = 0
        self._parsing_lock = asyncio.Lock()
        self._tenant_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._size = size
        self._wait_s = wait_s
        self._bytes_by_tenant: dict[str, int] = {}
        self._waiting: deque[_Waiting] = deque()

    def reserve_for(self, tenant: str) -> Reservation:
        """Return an empty reservation for one request."""
        return Reservation(self, tenant)

    async def take_bytes(self, tenant: str, size: int) -> None:
        """Take bytes for a tenant; requests are served in order.

        Raises:
            GatewayError: overloaded, if the bytes do not become free in time.
        """
        if not self._waiting and self._has_free_bytes(tenant, size):
            self._add_bytes(tenant, size)
            return
        waiting = _Waiting(tenant, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._grant_waiting()
        try:
            async with asyncio.timeout(self._wait_s):
                await waiting.granted
        except BaseException as error:
            if waiting.granted.done() and not waiting.granted.cancelled():
                self.return_bytes(tenant, size)
            else:
                self._waiting.remove(waiting)
                self._grant_waiting()
            if isinstance(error, TimeoutError):
                detail = "the memory for request bodies is in use; send the request again later"
                raise GatewayError("overloaded", detail, retry_after_s=_RETRY_AFTER_S) from None
            raise

    @asynccontextmanager
    async def parsing_turn(self, tenant: str) -> AsyncIterator[None]:
        """Wait until a tenant's large body may be parsed: one at a time, as its objects need more bytes than it.

        Each tenant queues one body at a time, so that a tenant with many delays no other.
        """
        tenant_lock = self._tenant_locks.setdefault(tenant, asyncio.Lock())
        async with tenant_lock, self._parsing_lock:
            yield

    def return_bytes(self, tenant: str, size: int) -> None:
        """Return bytes and serve the requests that wait for them."""
        self._add_bytes(tenant, -size)
        self._grant_waiting()

    def _has_free_bytes(self, tenant: str, size: int) -> bool:
        return (
            self.bytes_in_use + size <= self._size
            and self._bytes_by_tenant.get(tenant, 0) + size <= self._size // 2
        )

    def _add_bytes(self, tenant: str, size: int) -> None:
        self.bytes_in_use += size
        self._bytes_by_tenant[tenant] = self._bytes_by_tenant.get(tenant, 0) + size
        if not self._bytes_by_tenant[tenant]:
            del self._bytes_by_tenant[tenant]

    def _grant_waiting(self) -> None:
        """Serve waiting requests in order; those of a tenant that has its half are passed by."""
        full: set[str] = set()
        for waiting in tuple(self._waiting):
            if waiting.tenant in full or waiting.granted.done():
                continue
            if self._has_free_bytes(waiting.tenant, waiting.size):
                self._waiting.remove(waiting)
                self._add_bytes(waiting.tenant, waiting.size)
                waiting.granted.set_result(None)
            elif self._bytes_by_tenant.get(waiting.tenant, 0) + waiting.size > self._size // 2:
                full.add(waiting.tenant)
            else:
                return  # smaller requests behind it would keep it waiting


class Reservation:
    """Bytes reserved by one request; returned at the end of the block."""

    def __init__(self, memory: BodyMemory, tenant: str) -> None:
        self.size = 0
        self._memory = memory
        self._tenant = tenant

    async def resize(self, size: int) -> None:
        """Reserve `size` bytes in all, less `FREE_BYTES`.

        Raises:
            GatewayError: overloaded.
        """
        more = max(0, size - FREE_BYTES) - self.size
        if more > 0:
            await self._memory.take_bytes(self._tenant, more)
        elif more < 0:
            self._memory.return_bytes(self._tenant, -more)
        self.size += more

    def parsing_turn(self) -> AbstractAsyncContextManager[None]:
        """Wait until this request's large body may be parsed, as `BodyMemory.parsing_turn`."""
        return self._memory.parsing_turn(self._tenant)

    async def __aenter__(self) -> Self:
        """Return the reservation."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Return all bytes."""
        if self.size:
            self._memory.return_bytes(self._tenant, self.size)
            self.size = 0
