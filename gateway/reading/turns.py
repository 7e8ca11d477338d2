"""Bounds the bytes of results that a process decodes at once.

A reader acquires a turn of as many bytes as it decodes in it; tenants get turns in rotation.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

CAPACITY_BYTES = 8 << 20
"""Decoded bytes of results in use at once in a process. As objects they take up to ten times as much memory."""
TENANT_BYTES = CAPACITY_BYTES // 2
"""Most of these that one tenant may use; a single larger turn is granted while it has no other."""
MIN_BYTES = CAPACITY_BYTES // 32
"""Smallest weight of a turn: the bytes that are fetched to learn how large a shard is."""


class Turn:
    """A part of a process's capacity, until it is released.

    Attributes:
        size: bytes that may be decoded in it.
        weight: its part of the capacity: its size, or all there is.
    """

    def __init__(self, turns: Turns, tenant: str, size: int, weight: int) -> None:
        self._turns: Turns | None = turns
        self.tenant = tenant
        self.size = size
        self.weight = weight

    def release(self) -> None:
        """Return it to the capacity; a second call does nothing."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns._take_back(self)


class Turns:
    """Grants turns. Waiting tenants are served in rotation, each tenant's requests in order.

    A request that waits for free capacity is not overtaken, or smaller ones could starve it; one that waits for its
    own tenant's turns to end is.

    Args:
        capacity: bytes of all turns.
        tenant_bytes: bytes of one tenant's turns, unless it has a single one.
    """

    def __init__(self, capacity: int = CAPACITY_BYTES, tenant_bytes: int = TENANT_BYTES) -> None:
        self._capacity = capacity
        self._tenant_bytes = tenant_bytes
        self._free = capacity
        self._full = False
        self._taken: defaultdict[str, int] = defaultdict(int)
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[Turn]]]] = {}

    @property
    def has_waiting(self) -> bool:
        """True while a request waits for a turn."""
        return bool(self._waiting)

    def try_acquire(self, tenant: str, size: int) -> Turn | None:
        """Return a turn if it can be granted at once."""
        weight = self._weigh(size)
        fits = weight <= self._free and self._is_within_share(tenant, weight)
        if self._full or tenant in self._waiting or not fits:
            return None
        return self._grant(tenant, size)

    async def acquire(self, tenant: str, size: int) -> Turn:
        """Wait for a turn; one larger than the capacity takes all of it."""
        turn = self.try_acquire(tenant, size)
        if turn is not None:
            return turn
        future: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append((size, future))
        self._serve_waiting()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                future.result().release()
            else:
                self._serve_waiting()  # it may have blocked the requests behind it
            raise

    def _weigh(self, size: int) -> int:
        return min(max(size, MIN_BYTES), self._capacity)

    def _is_within_share(self, tenant: str, weight: int) -> bool:
        used = self._taken.get(tenant, 0)
        return not used or used + weight <= self._tenant_bytes

    def _grant(self, tenant: str, size: int) -> Turn:
        weight = self._weigh(size)
        self._free -= weight
        self._taken[tenant] += weight
        return Turn(self, tenant, max(size, weight), weight)

    def _take_back(self, turn: Turn) -> None:
        self._free += turn.weight
        self._taken[turn.tenant] -= turn.weight
        if not self._taken[turn.tenant]:
            del self._taken[turn.tenant]
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        self._full = False
        for tenant in list(self._waiting):
            queue = self._waiting[tenant]
            while queue and queue[0][1].done():  # cancelled
                queue.popleft()
            if not queue:
                del self._waiting[tenant]
                continue
            size, future = queue[0]
            weight = self._weigh(size)
            if not self._is_within_share(tenant, weight):
                continue
            if weight > self._free:
                self._full = True
                return False
            queue.popleft()
            del self._waiting[tenant]
            if queue:
                self._waiting[tenant] = queue  # to the end of the rotation
            future.set_result(self._grant(tenant, size))
            return True
        return False
