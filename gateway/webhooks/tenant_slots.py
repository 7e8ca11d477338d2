"""Bounds what one tenant has under way in this process, so that others find room."""

from __future__ import annotations

import asyncio


class TenantSlots:
    """So many slots for each tenant; for one event loop.

    Args:
        each: slots of a tenant.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, asyncio.Event] = {}

    def take(self, tenant: str) -> bool:
        """Take a slot if the tenant has one left."""
        if self._taken.get(tenant, 0) >= self._each:
            return False
        self._taken[tenant] = self._taken.get(tenant, 0) + 1
        return True

    async def wait(self, tenant: str, within_s: float) -> bool:
        """Take a slot as soon as there is one; False: there was none within the time (seconds)."""
        try:
            async with asyncio.timeout(within_s):
                while not self.take(tenant):
                    await self._waiting.setdefault(tenant, asyncio.Event()).wait()
        except TimeoutError:
            return False
        return True

    def give_back(self, tenant: str) -> None:
        """Give a slot back."""
        left = self._taken[tenant] - 1
        if left:
            self._taken[tenant] = left
        else:
            del self._taken[tenant]
        if (waiting := self._waiting.pop(tenant, None)) is not None:
            waiting.set()
