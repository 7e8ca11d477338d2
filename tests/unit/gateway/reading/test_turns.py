"""Turns at decoding: never more bytes than the capacity, a share for each tenant, no request starves."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reading.turns import MIN_BYTES, Turn, Turns

pytestmark = pytest.mark.anyio
CAPACITY, SHARE = 16 * MIN_BYTES, 8 * MIN_BYTES


async def request_turn(turns: Turns, tenant: str, weight: int) -> asyncio.Task[Turn]:
    """Request a turn, and let it be granted if it can be."""
    task = asyncio.create_task(turns.acquire(tenant, weight))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_a_tenant_has_its_share_and_leaves_the_rest() -> None:
    """However many readers one tenant has, another one's turn begins at once."""
    turns = Turns(CAPACITY, SHARE)
    mine = [await request_turn(turns, "a", 2 * MIN_BYTES) for _ in range(20)]
    assert sum(task.done() for task in mine) == 4
    assert turns.has_waiting
    other = turns.try_acquire("b", SHARE)
    assert other is not None
    other.release()
    for task in mine:
        (await task).release()
    assert not turns.has_waiting


async def test_tenants_take_turns() -> None:
    """A tenant that comes later does not wait for all that another one asked before."""
    turns = Turns(CAPACITY, CAPACITY)
    everything = await turns.acquire("z", CAPACITY)
    order: list[str] = []

    async def ask(tenant: str) -> None:
        turn = await turns.acquire(tenant, CAPACITY)
        order.append(tenant)
        turn.release()

    requests = [asyncio.create_task(ask(tenant)) for tenant in "aaaab"]
    await asyncio.sleep(0)
    everything.release()
    await asyncio.gather(*requests)
    assert order.index("b") == 1


async def test_a_large_turn_is_not_overtaken() -> None:
    """A turn of the whole capacity is granted, however many small ones come; so is a larger one."""
    turns = Turns(CAPACITY, SHARE)
    small = await turns.acquire("a", MIN_BYTES)
    large = await request_turn(turns, "b", 100 * CAPACITY)
    assert turns.try_acquire("c", MIN_BYTES) is None
    later = await request_turn(turns, "c", MIN_BYTES)
    small.release()
    turn = await large
    assert turn.weight == CAPACITY
    assert not later.done()
    turn.release()
    turn.release()  # a second time changes nothing
    (await later).release()
    assert turns.try_acquire("d", CAPACITY)


async def test_a_cancelled_request_blocks_no_other() -> None:
    """A request that is cancelled while it waits, or in the moment it is served, releases its capacity."""
    turns = Turns(CAPACITY, SHARE)
    all_of_it = await turns.acquire("a", CAPACITY)
    gone, served = await request_turn(turns, "b", CAPACITY), await request_turn(turns, "c", CAPACITY)
    last = await request_turn(turns, "d", MIN_BYTES)
    gone.cancel()
    await asyncio.sleep(0)
    all_of_it.release()  # serves c, which
    served.cancel()  # does not want it any more
    (await last).release()
    assert not turns.has_waiting
    assert turns.try_acquire("e", CAPACITY)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20 * MIN_BYTES)), max_size=30), st.randoms())
def test_capacity_is_never_exceeded_and_everybody_is_served(
    wanted: list[tuple[str, int]], chance: random.Random
) -> None:
    """For any requests in any order, the running turns stay within the capacity, and every turn runs."""

    async def run() -> None:
        turns, running = Turns(CAPACITY, SHARE), [0]

        async def ask(tenant: str, weight: int) -> None:
            turn = await turns.acquire(tenant, weight)
            running[0] += turn.weight
            assert running[0] <= CAPACITY
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            running[0] -= turn.weight
            turn.release()

        await asyncio.gather(*(ask(*request) for request in wanted))
        assert not turns.has_waiting
        assert turns.try_acquire("d", CAPACITY)

    asyncio.run(run())
