"""Slots of a tenant: never more than the limit, and none for others."""

from __future__ import annotations

import asyncio

import pytest

from gateway.webhooks.tenant_slots import TenantSlots

pytestmark = pytest.mark.anyio


async def test_a_tenant_has_its_own_limit() -> None:
    """A tenant that uses all its slots takes none from another."""
    slots = TenantSlots(2)
    assert [slots.try_acquire("a") for _ in range(3)] == [True, True, False]
    assert slots.try_acquire("b")


async def test_a_released_slot_can_be_taken_again() -> None:
    """Only as many as were released."""
    slots = TenantSlots(2)
    assert slots.try_acquire("a")
    assert slots.try_acquire("a")
    slots.release("a")
    assert [slots.try_acquire("a") for _ in range(2)] == [True, False]


async def test_a_waiting_task_gets_the_released_slot() -> None:
    """It waits no longer than it must."""
    slots = TenantSlots(1)
    assert slots.try_acquire("a")
    waiting = asyncio.create_task(slots.acquire("a", 30))
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.release("a")
    assert await asyncio.wait_for(waiting, 5)
    assert not slots.try_acquire("a")


async def test_a_wait_ends_without_a_slot() -> None:
    """A wait that took too long holds nothing afterwards."""
    slots = TenantSlots(1)
    assert slots.try_acquire("a")
    assert not await slots.acquire("a", 0.01)
    slots.release("a")
    assert slots.try_acquire("a")


async def test_many_tasks_never_exceed_the_limit() -> None:
    """All of them run in the end, and at most two at once."""
    slots, running, most, done = TenantSlots(2), 0, 0, 0

    async def work() -> None:
        nonlocal running, most, done
        assert await slots.acquire("a", 30)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done += 1
        slots.release("a")

    await asyncio.gather(*(work() for _ in range(20)))
    assert (most, done) == (2, 20)
