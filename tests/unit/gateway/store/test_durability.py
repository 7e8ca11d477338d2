"""What a 202 waits for, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.connection import AbstractConnection

from gateway.store.durability import MAX_ANSWERS_PER_TURN, Barrier
from jobs.ledger import LedgerUnavailableError
from jobs.redis.clients import connect_async
from jobs.settings import Durability

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
            await made.confirm_writes()
        except LedgerUnavailableError:
            assert not confirmed
        else:
            assert confirmed


async def test_what_a_lost_server_answered_is_not_confirmed_by_the_next(ledger_url: str) -> None:
    """A connection that is lost may lead to another server, which never had the writes: all who wait get a 503."""
    admin = connect_async(ledger_url, 10, "test")
    async with barrier(ledger_url, "disk") as made:
        await admin.client_pause(60_000, all=False)
        first = asyncio.create_task(made.confirm_writes())
        while not await _blocked(admin):  # noqa: ASYNC110  # the server's state, which sets no event here
            await asyncio.sleep(0.01)
        second = asyncio.create_task(made.confirm_writes())
        await asyncio.sleep(0)  # it waits for the turn after
        for connection in await admin.client_list():
            if connection["name"] == "test-barrier":
                await admin.client_kill_filter(_id=connection["id"])
        await admin.client_unpause()
        errors = await asyncio.gather(first, second, return_exceptions=True)
        assert all(isinstance(error, LedgerUnavailableError) for error in errors), errors
        await made.confirm_writes()
    await admin.aclose()


async def test_a_wait_does_not_move_to_another_connection(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a new one, a server that lost the write would say at once that it has all that this connection wrote."""
    admin, send = connect_async(ledger_url, 10, "test"), AbstractConnection.send_command

    async def cut_off(connection: AbstractConnection, *args: Any, **options: Any) -> Any:
        if args[0] == "WAITAOF":
            found = await admin.client_list()
            [own] = [one["id"] for one in found if one["name"] == "test-barrier"]
            await admin.client_kill_filter(_id=own)
        return await send(connection, *args, **options)

    async with barrier(ledger_url, "disk") as made:
        monkeypatch.setattr(AbstractConnection, "send_command", cut_off)
        with pytest.raises(LedgerUnavailableError):
            await made.confirm_writes()
        monkeypatch.undo()
        await made.confirm_writes()
    await admin.aclose()


async def test_the_servers_ticks_are_not_waited_for(ledger_url: str) -> None:
    """A server that looks once in a while whether somebody's wait is over answers at once, for there is none."""
    admin = connect_async(ledger_url, 10, "test")
    before = (await admin.config_get("hz"))["hz"]
    await admin.config_set("hz", 1)
    try:
        async with barrier(ledger_url, "disk") as made, asyncio.timeout(1):
            for _ in range(10):
                await made.confirm_writes()
    finally:
        await admin.config_set("hz", before)
        await admin.aclose()


async def test_a_large_group_is_answered_a_part_at_a_turn(ledger_url: str) -> None:
    """So that the first of them are back with their next requests while the last are being answered."""
    async with barrier(ledger_url, "disk") as made:
        waiting = [asyncio.create_task(made.confirm_writes()) for _ in range(3 * MAX_ANSWERS_PER_TURN)]
        seen = set()
        while not all(one.done() for one in waiting):
            await asyncio.sleep(0)
            seen.add(sum(one.done() for one in waiting))
    assert {0, MAX_ANSWERS_PER_TURN, 2 * MAX_ANSWERS_PER_TURN, 3 * MAX_ANSWERS_PER_TURN} == seen


async def _blocked(admin: redis.asyncio.Redis) -> bool:
    found = await admin.client_list()
    return any(one["name"] == "test-barrier" and "b" in one["flags"] for one in found)
