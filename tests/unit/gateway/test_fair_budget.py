"""A budget shared by tenants: never more than the capacity, a share for each tenant, no request starves."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fair_budget import FairBudget

pytestmark = pytest.mark.anyio
CAPACITY, SHARE = 16, 8


async def request_part(budget: FairBudget, tenant: str, amount: int) -> asyncio.Task[None]:
    """Request a part, and let it be granted if it can be."""
    task = asyncio.create_task(budget.take(tenant, amount))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_a_tenant_has_its_share_and_leaves_the_rest() -> None:
    """However many requests one tenant has, another one's is granted at once."""
    budget = FairBudget(CAPACITY, SHARE)
    mine = [await request_part(budget, "a", 2) for _ in range(20)]
    assert sum(task.done() for task in mine) == 4
    assert budget.has_waiting
    assert budget.try_take("b", SHARE)
    assert not budget.try_take("b", 1)
    budget.give_back("b", SHARE)
    for task in mine:
        await task
        budget.give_back("a", 2)
    assert not budget.has_waiting
    assert budget.free == CAPACITY


async def test_part_of_what_a_tenant_holds_can_be_returned() -> None:
    """The rest still counts."""
    budget = FairBudget(CAPACITY, SHARE)
    assert budget.try_take("a", SHARE)
    waiting = await request_part(budget, "a", 3)
    budget.give_back("a", 2)
    assert not waiting.done()
    budget.give_back("a", 1)
    await waiting
    assert budget.free == CAPACITY - SHARE


async def test_tenants_take_turns() -> None:
    """A tenant that comes later does not wait for all that another one requested before."""
    budget, order = FairBudget(CAPACITY, CAPACITY), list[str]()
    await budget.take("z", CAPACITY)

    async def use_all(tenant: str) -> None:
        await budget.take(tenant, CAPACITY)
        order.append(tenant)
        budget.give_back(tenant, CAPACITY)

    requests = [asyncio.create_task(use_all(tenant)) for tenant in "aaaab"]
    await asyncio.sleep(0)
    budget.give_back("z", CAPACITY)
    await asyncio.gather(*requests)
    assert order.index("b") == 1


async def test_a_large_part_is_not_overtaken() -> None:
    """A request for the whole capacity is granted, however many small ones come later."""
    budget = FairBudget(CAPACITY, SHARE)
    await budget.take("a", 1)
    large = await request_part(budget, "b", CAPACITY)
    assert not budget.try_take("c", 1)
    later = await request_part(budget, "c", 1)
    budget.give_back("a", 1)
    await large
    assert not later.done()
    budget.give_back("b", CAPACITY)
    await later


async def test_a_cancelled_request_blocks_no_other() -> None:
    """A request that is cancelled while it waits, or in the moment it is served, holds nothing."""
    budget = FairBudget(CAPACITY, SHARE)
    await budget.take("a", CAPACITY)
    gone, served = await request_part(budget, "b", CAPACITY), await request_part(budget, "c", CAPACITY)
    last = await request_part(budget, "d", 1)
    gone.cancel()
    await asyncio.sleep(0)
    budget.give_back("a", CAPACITY)  # serves c, which
    served.cancel()  # does not want it any more
    await last
    budget.give_back("d", 1)
    assert not budget.has_waiting
    assert budget.try_take("e", CAPACITY)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, CAPACITY)), max_size=30), st.randoms())
def test_capacity_is_never_exceeded_and_everybody_is_served(
    requests: list[tuple[str, int]], chance: random.Random
) -> None:
    """For any requests in any order, tenants stay within capacity and share, and every request is granted."""

    async def run() -> None:
        budget, in_use = FairBudget(CAPACITY, SHARE), dict.fromkeys("abc", 0)

        async def use(tenant: str, amount: int) -> None:
            await budget.take(tenant, amount)
            assert not in_use[tenant] or in_use[tenant] + amount <= SHARE
            in_use[tenant] += amount
            assert budget.free >= 0
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            in_use[tenant] -= amount
            budget.give_back(tenant, amount)

        await asyncio.gather(*(use(*request) for request in requests))
        assert not budget.has_waiting
        assert budget.free == CAPACITY

    asyncio.run(run())
