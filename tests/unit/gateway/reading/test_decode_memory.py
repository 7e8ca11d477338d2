"""Reservations of memory for decoding: their weights, and their release."""

from __future__ import annotations

import pytest

from gateway.reading.decode_memory import MIN_BYTES, DecodeMemory

pytestmark = pytest.mark.anyio
CAPACITY, SHARE = 16 * MIN_BYTES, 8 * MIN_BYTES


@pytest.mark.parametrize(
    ("size", "weight"),
    [(0, MIN_BYTES), (MIN_BYTES + 1, MIN_BYTES + 1), (100 * CAPACITY, CAPACITY)],
)
async def test_a_reservation_weighs_the_minimum_to_everything(size: int, weight: int) -> None:
    """A shard that is larger than the capacity takes all of it, and may be decoded alone."""
    memory = DecodeMemory(CAPACITY, SHARE)
    reservation = await memory.reserve("a", size)
    assert reservation.size == max(size, weight)
    more = [memory.try_reserve(f"tenant-{n}", MIN_BYTES) for n in range(16)]
    assert len([other for other in more if other]) == (CAPACITY - weight) // MIN_BYTES


async def test_a_second_release_changes_nothing() -> None:
    """A reader may release its memory from a timer and from its end."""
    memory = DecodeMemory(CAPACITY, SHARE)
    first, second = await memory.reserve("a", CAPACITY), None
    first.release()
    first.release()
    second = memory.try_reserve("b", CAPACITY)
    assert second is not None
    first.release()
    assert memory.try_reserve("c", MIN_BYTES) is None


async def test_a_tenant_has_its_share_and_leaves_the_rest() -> None:
    """However much one tenant reserves, another one reads at once."""
    memory = DecodeMemory(CAPACITY, SHARE)
    mine = [memory.try_reserve("a", 2 * MIN_BYTES) for _ in range(20)]
    assert len([reservation for reservation in mine if reservation]) == 4
    assert memory.try_reserve("b", SHARE) is not None
    assert not memory.has_waiting
