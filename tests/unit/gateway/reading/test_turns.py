"""Turns at decoding: never more bytes than the capacity, a share for each tenant, nobody waits for good."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reading.turns import LEAST_BYTES, Turn, Turns

pytestmark = pytest.mark.anyio
CAPACITY, SHARE = 16 * LEAST_BYTES, 8 * LEAST_BYTES


async def begun(turns: Turns, tenant: str, weight: int) -> asyncio.Task[Turn]:
    """A request for a turn that has had its chance."""
    task = asyncio.create_task(turns.take(tenant, weight))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_a_tenant_has_its_share_and_leaves_the_rest() -> None:
    """However many readers one tenant has, another one's turn begins at once."""
    turns = Turns(CAPACITY, SHARE)
    mine = [await begun(turns, "a", 2 * LEAST_BYTES) for _ in range(20)]
    assert sum(task.done() for task in mine) == 4
    assert turns.crowded
    other = turns.take_now("b", SHARE)
    assert other is not None
    other.end()
    for task in mine:
        (await task).end()
    assert not turns.crowded


async def test_tenants_take_turns() -> None:
    """A tenant that comes later does not wait for all that another one asked before."""
    turns = Turns(CAPACITY, CAPACITY)
    everything = await turns.take("z", CAPACITY)
    order: list[str] = []

    async def ask(tenant: str) -> None:
        turn = await turns.take(tenant, CAPACITY)
        order.append(tenant)
        turn.end()

    asked = [asyncio.create_task(ask(tenant)) for tenant in "aaaab"]
    await asyncio.sleep(0)
    everything.end()
    await asyncio.gather(*asked)
    assert order.index("b") == 1


async def test_a_large_turn_is_not_overtaken() -> None:
    """What needs the whole capacity gets it, however many small ones come; what needs more has it too."""
    turns = Turns(CAPACITY, SHARE)
    small = await turns.take("a", LEAST_BYTES)
    large = await begun(turns, "b", 100 * CAPACITY)
    assert turns.take_now("c", LEAST_BYTES) is None
    later = await begun(turns, "c", LEAST_BYTES)
    small.end()
    turn = await large
    assert turn.weight == CAPACITY
    assert not later.done()
    turn.end()
    turn.end()  # a second time changes nothing
    (await later).end()
    assert turns.take_now("d", CAPACITY)


async def test_who_goes_away_holds_nothing_up() -> None:
    """A request that is cancelled while it waits, or in the moment it is served, gives back what it had."""
    turns = Turns(CAPACITY, SHARE)
    all_of_it = await turns.take("a", CAPACITY)
    gone, served = await begun(turns, "b", CAPACITY), await begun(turns, "c", CAPACITY)
    last = await begun(turns, "d", LEAST_BYTES)
    gone.cancel()
    await asyncio.sleep(0)
    all_of_it.end()  # serves c, which
    served.cancel()  # does not want it any more
    (await last).end()
    assert not turns.crowded
    assert turns.take_now("e", CAPACITY)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20 * LEAST_BYTES)), max_size=30), st.randoms())
def test_capacity_is_never_exceeded_and_everybody_is_served(
    wanted: list[tuple[str, int]], chance: random.Random
) -> None:
    """Whatever is asked in whatever order, the sum of what runs stays below the capacity and all of it runs."""

    async def run() -> None:
        turns, running = Turns(CAPACITY, SHARE), [0]

        async def ask(tenant: str, weight: int) -> None:
            turn = await turns.take(tenant, weight)
            running[0] += turn.weight
            assert running[0] <= CAPACITY
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            running[0] -= turn.weight
            turn.end()

        await asyncio.gather(*(ask(*one) for one in wanted))
        assert not turns.crowded
        assert turns.take_now("d", CAPACITY)

    asyncio.run(run())
