"""Bounds the tasks that one tenant may run at once in this process."""

from __future__ import annotations

import asyncio


class TenantSlots:
    """A number of slots for each tenant; for use in one event loop.

    Args:
        limit: slots of one tenant.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, asyncio.Event] = {}

    def try_acquire(self, tenant: str) -> bool:
        """Take a slot if the tenant has one left."""
        if self._taken.get(tenant, 0) >= self._limit:
            return False
        self._taken[tenant] = self._taken.get(tenant, 0) + 1
        return True

    async def acquire(self, tenant: str, within_s: float) -> bool:
        """Wait up to `within_s` seconds for a slot; return whether one was taken."""
        try:
            async with asyncio.timeout(within_s):
                while not self.try_acquire(tenant):
                    await self._waiting.setdefault(tenant, asyncio.Event()).wait()
        except TimeoutError:
            return False
        return True

    def release(self, tenant: str) -> None:
        """Release a slot."""
        remaining = self._taken[tenant] - 1
        if remaining:
            self._taken[tenant] = remaining
        else:
            del self._taken[tenant]
        if (waiting := self._waiting.pop(tenant, None)) is not None:
            waiting.set()
