"""Divides a limited amount of something, such as bytes or threads, among tenants."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque


class FairBudget:
    """An amount of which tenants take parts; for use in one event loop.

    Waiting tenants are served in rotation, each tenant's requests in order. A request that waits for free capacity
    is not overtaken, or smaller ones could starve it; one that waits for its own tenant's parts is.

    Args:
        capacity: the whole amount.
        share: most that one tenant holds at once; a single larger part is granted while it holds nothing.
    """

    def __init__(self, capacity: int, share: int) -> None:
        self.free = capacity
        self._share = share
        self._is_blocked = False
        self._in_use: defaultdict[str, int] = defaultdict(int)
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    @property
    def has_waiting(self) -> bool:
        """True while a request waits."""
        return bool(self._waiting)

    def try_take(self, tenant: str, amount: int) -> bool:
        """Take a part if it can be granted at once; return whether it was."""
        is_granted = (
            not self._is_blocked
            and tenant not in self._waiting
            and amount <= self.free
            and self._is_within_share(tenant, amount)
        )
        if is_granted:
            self._add(tenant, amount)
        return is_granted

    async def take(self, tenant: str, amount: int) -> None:
        """Wait for a part; one larger than the capacity is never granted."""
        if self.try_take(tenant, amount):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append((amount, granted))
        self._serve_waiting()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give_back(tenant, amount)
            else:
                self._serve_waiting()  # it may have blocked the requests behind it
            raise

    def give_back(self, tenant: str, amount: int) -> None:
        """Return a part, or some of it, and serve the requests that wait."""
        self._add(tenant, -amount)
        self._serve_waiting()

    def _add(self, tenant: str, amount: int) -> None:
        self.free -= amount
        self._in_use[tenant] += amount
        if not self._in_use[tenant]:
            del self._in_use[tenant]

    def _is_within_share(self, tenant: str, amount: int) -> bool:
        in_use = self._in_use.get(tenant, 0)
        return not in_use or in_use + amount <= self._share

    def _serve_waiting(self) -> None:
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        self._is_blocked = False
        for tenant in list(self._waiting):
            queue = self._waiting[tenant]
            while queue and queue[0][1].done():  # cancelled
                queue.popleft()
            if not queue:
                del self._waiting[tenant]
                continue
            amount, granted = queue[0]
            if not self._is_within_share(tenant, amount):
                continue
            if amount > self.free:
                self._is_blocked = True
                return False
            queue.popleft()
            del self._waiting[tenant]
            if queue:
                self._waiting[tenant] = queue  # to the end of the rotation
            self._add(tenant, amount)
            granted.set_result(None)
            return True
        return False
