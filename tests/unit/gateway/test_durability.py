"""What a 202 waits for, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio

from gateway.durability import Barrier
from jobs.ledger import LedgerUnavailableError
from jobs.settings import Durability
from jobs.stores import connect_async

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def barrier(url: str, durability: Durability) -> AsyncIterator[Barrier]:
    """One that confirms."""
    client = connect_async(url, 10, "test-barrier")
    made = Barrier(client, durability)
    made.start()
    try:
        yield made
    finally:
        await made.stop()
        await client.aclose()


@pytest.mark.parametrize(("durability", "confirmed"), [("process", True), ("disk", True), ("replica", False)])
async def test_a_server_without_a_replica(ledger_url: str, durability: Durability, confirmed: bool) -> None:
    """It confirms what it has itself, and never what only a replica could."""
    async with barrier(ledger_url, durability) as made:
        try:
            await made.confirm()
        except LedgerUnavailableError:
            assert not confirmed
        else:
            assert confirmed


async def test_what_a_lost_server_answered_is_not_confirmed_by_the_next(ledger_url: str) -> None:
    """A connection that is lost may lead to another server, which never had the writes: all who wait get a 503."""
    admin = connect_async(ledger_url, 10, "test")
    async with barrier(ledger_url, "disk") as made:
        await admin.client_pause(60_000, all=False)
        first = asyncio.create_task(made.confirm())
        while not await _blocked(admin):  # noqa: ASYNC110  # the server's state, which sets no event here
            await asyncio.sleep(0.01)
        second = asyncio.create_task(made.confirm())
        await asyncio.sleep(0)  # it waits for the turn after
        for connection in await admin.client_list():
            if connection["name"] == "test-barrier":
                await admin.client_kill_filter(_id=connection["id"])
        await admin.client_unpause()
        errors = await asyncio.gather(first, second, return_exceptions=True)
        assert all(isinstance(error, LedgerUnavailableError) for error in errors), errors
        await made.confirm()
    await admin.aclose()


async def _blocked(admin: redis.asyncio.Redis) -> bool:
    found = await admin.client_list()
    return any(one["name"] == "test-barrier" and "b" in one["flags"] for one in found)
