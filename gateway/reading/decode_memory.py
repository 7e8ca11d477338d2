"""Bounds the memory of decoded results and documents in this process, fairly among tenants.

A reader reserves as many bytes as it decodes before it decodes them.
"""

from __future__ import annotations

from gateway.fair_budget import FairBudget

CAPACITY_BYTES = 8 << 20
"""Decoded bytes in use at once in a process. As objects they take up to ten times as much memory."""
TENANT_BYTES = CAPACITY_BYTES // 2
"""Most of these that one tenant may use; a single larger reservation is granted while it has no other."""
MIN_BYTES = CAPACITY_BYTES // 32
"""Smallest reservation: the bytes that are fetched to learn how large a shard is."""


class DecodeReservation:
    """A part of the memory, until it is released.

    Attributes:
        size: bytes that may be decoded in it.
    """

    def __init__(self, budget: FairBudget, tenant: str, weight: int, size: int) -> None:
        self._budget = budget
        self._tenant = tenant
        self._weight = weight
        self.size = max(size, weight)

    def release(self) -> None:
        """Return the bytes; a second call does nothing."""
        weight, self._weight = self._weight, 0
        if weight:
            self._budget.give_back(self._tenant, weight)


class DecodeMemory:
    """Grants reservations; a reservation larger than the capacity takes all of it.

    Args:
        capacity: bytes of all reservations.
        tenant_bytes: bytes of one tenant's reservations, unless it has a single one.
    """

    def __init__(self, capacity: int = CAPACITY_BYTES, tenant_bytes: int = TENANT_BYTES) -> None:
        self._capacity = capacity
        self._budget = FairBudget(capacity, tenant_bytes)

    @property
    def has_waiting(self) -> bool:
        """True while a reader waits for a reservation."""
        return self._budget.has_waiting

    def try_reserve(self, tenant: str, size: int) -> DecodeReservation | None:
        """Return a reservation if it can be granted at once."""
        weight = self._weigh(size)
        if not self._budget.try_take(tenant, weight):
            return None
        return DecodeReservation(self._budget, tenant, weight, size)

    async def reserve(self, tenant: str, size: int) -> DecodeReservation:
        """Wait for a reservation."""
        weight = self._weigh(size)
        await self._budget.take(tenant, weight)
        return DecodeReservation(self._budget, tenant, weight, size)

    def _weigh(self, size: int) -> int:
        return min(max(size, MIN_BYTES), self._capacity)
