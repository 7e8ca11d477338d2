from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError
from gateway.submission.body_memory import FREE_BYTES, BodyMemory

pytestmark = pytest.mark.anyio
KIB = 1024


async def hold(memory: BodyMemory, tenant: str, size: int, until: asyncio.Event) -> None:
    """Reserve bytes in addition to `FREE_BYTES` until an event."""
    async with memory.reserve_for(tenant) as reservation:
        await reservation.resize(size + FREE_BYTES)
        await until.wait()


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_short_bodies_are_free() -> None:
    """Bytes that the HTTP server buffers anyway are not counted."""
    memory = BodyMemory(0)
    async with memory.reserve_for("a") as reservation:
        await reservation.resize(FREE_BYTES)
        assert memory.budget.free == 0


async def test_a_tenant_has_half_at_most_and_others_do_not_wait_for_it() -> None:
    """Its second body waits for its first; that of another tenant comes at once."""
    memory, end = BodyMemory(100 * KIB), asyncio.Event()
    tasks = [asyncio.create_task(hold(memory, tenant, 50 * KIB, end)) for tenant in ("a", "a", "b")]
    await settle()
    assert memory.budget.free == 0
    end.set()
    await asyncio.gather(*tasks)
    assert memory.budget.free == 100 * KIB


async def test_a_large_body_is_not_overtaken_forever() -> None:
    """Small ones that came later wait behind it."""
    memory, first, end = BodyMemory(100 * KIB), asyncio.Event(), asyncio.Event()
    holders = [asyncio.create_task(hold(memory, tenant, 40 * KIB, first)) for tenant in "ab"]
    await settle()
    large = asyncio.create_task(hold(memory, "c", 50 * KIB, end))
    await settle()
    small = asyncio.create_task(hold(memory, "d", 20 * KIB, end))
    await settle()
    assert memory.budget.free == 20 * KIB
    first.set()
    await asyncio.gather(*holders)
    await settle()
    assert memory.budget.free == 30 * KIB
    end.set()
    await asyncio.gather(large, small)


async def test_what_does_not_fit_in_time_is_refused() -> None:
    """503 with a time to come again, and nothing stays taken."""
    memory, end = BodyMemory(100 * KIB, wait_s=0.01), asyncio.Event()
    task = asyncio.create_task(hold(memory, "a", 50 * KIB, end))
    await settle()
    with pytest.raises(GatewayError) as caught:
        await hold(memory, "a", 1, end)
    assert caught.value.code == "overloaded"
    assert (caught.value.retry_after_s or 0) >= 1
    end.set()
    await task
    assert memory.budget.free == 100 * KIB


async def test_clients_that_go_away_leave_nothing() -> None:
    """Requests that still waited and requests that just got their bytes."""
    memory, end = BodyMemory(100 * KIB), asyncio.Event()
    first = asyncio.create_task(hold(memory, "a", 50 * KIB, end))
    await settle()
    waiting = [asyncio.create_task(hold(memory, "a", 50 * KIB, end)) for _ in range(3)]
    await settle()
    waiting[0].cancel()
    await settle()
    first.cancel()
    waiting[1].cancel()
    await settle()
    assert memory.budget.free == 50 * KIB  # the third
    waiting[2].cancel()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert memory.budget.free == 100 * KIB


async def test_large_bodies_are_parsed_one_at_a_time_and_tenants_take_turns() -> None:
    """Three of one tenant do not come before the first of another."""
    memory, order, free = BodyMemory(0), [], asyncio.Event()

    async def parse(tenant: str, number: int) -> None:
        async with memory.reserve_for(tenant).parsing_turn():
            order.append((tenant, number))
            await free.wait()
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(parse(tenant, number)) for tenant in "ab" for number in range(3)]
    await settle()
    assert order == [("a", 0)]
    free.set()
    await asyncio.gather(*tasks)
    assert order[1] == ("b", 0)
