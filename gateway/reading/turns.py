"""Bounds what a process decodes at once.

Who reads results takes a turn of as many bytes as are decoded in it; tenants are served one after another.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

CAPACITY_BYTES = 8 << 20
"""Decoded bytes of results in work at once in a process. As objects they take up to ten times as much memory."""
SHARE_BYTES = CAPACITY_BYTES // 2
"""Of these, most of one tenant; what alone is larger it may have while it has nothing else."""
LEAST_BYTES = CAPACITY_BYTES // 32
"""The weight of any turn: what is fetched to see how large it is."""


class Turn:
    """A part of a process's capacity, until it is given back.

    Attributes:
        size: bytes that may be decoded in it.
        weight: what it takes of the capacity: its size, or all there is.
    """

    def __init__(self, turns: Turns, tenant: str, size: int, weight: int) -> None:
        self._turns: Turns | None = turns
        self.tenant = tenant
        self.size = size
        self.weight = weight

    def end(self) -> None:
        """Give it back; a second time does nothing."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns._ended(self)


class Turns:
    """Hands out turns. Waiting tenants are served one after another, each with its requests in order.

    A turn that waits for room is not overtaken, or it would wait for as long as smaller ones come; one that waits
    for its own tenant's turns to end is.

    Args:
        capacity: bytes of all turns.
        share: bytes of one tenant's turns, unless it has a single one.
    """

    def __init__(self, capacity: int = CAPACITY_BYTES, share: int = SHARE_BYTES) -> None:
        self._capacity = capacity
        self._share = share
        self._free = capacity
        self._full = False
        self._taken: defaultdict[str, int] = defaultdict(int)
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[Turn]]]] = {}

    @property
    def crowded(self) -> bool:
        """True while somebody waits."""
        return bool(self._waiting)

    def take_now(self, tenant: str, size: int) -> Turn | None:
        """Return a turn if it may begin at once."""
        weight = self._weight(size)
        may_begin = weight <= self._free and self._within_share(tenant, weight)
        if self._full or tenant in self._waiting or not may_begin:
            return None
        return self._begin(tenant, size)

    async def take(self, tenant: str, size: int) -> Turn:
        """Return a turn as soon as it may begin; what is larger than the capacity takes all of it."""
        turn = self.take_now(tenant, size)
        if turn is not None:
            return turn
        future: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append((size, future))
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                future.result().end()
            else:
                self._serve()  # it may have been in the way of others
            raise

    def _weight(self, size: int) -> int:
        return min(max(size, LEAST_BYTES), self._capacity)

    def _within_share(self, tenant: str, weight: int) -> bool:
        held = self._taken.get(tenant, 0)
        return not held or held + weight <= self._share

    def _begin(self, tenant: str, size: int) -> Turn:
        weight = self._weight(size)
        self._free -= weight
        self._taken[tenant] += weight
        return Turn(self, tenant, max(size, weight), weight)

    def _ended(self, turn: Turn) -> None:
        self._free += turn.weight
        self._taken[turn.tenant] -= turn.weight
        if not self._taken[turn.tenant]:
            del self._taken[turn.tenant]
        self._serve()

    def _serve(self) -> None:
        """Begin whatever may begin."""
        while self._serve_one():
            pass

    def _serve_one(self) -> bool:
        self._full = False
        for tenant in list(self._waiting):
            queue = self._waiting[tenant]
            while queue and queue[0][1].done():  # cancelled
                queue.popleft()
            if not queue:
                del self._waiting[tenant]
                continue
            size, future = queue[0]
            weight = self._weight(size)
            if not self._within_share(tenant, weight):
                continue
            if weight > self._free:
                self._full = True
                return False
            queue.popleft()
            del self._waiting[tenant]
            if queue:
                self._waiting[tenant] = queue  # behind the other tenants
            future.set_result(self._begin(tenant, size))
            return True
        return False
