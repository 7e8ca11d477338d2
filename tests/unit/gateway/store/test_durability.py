"""The durability barrier, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.connection import AbstractConnection

from gateway.store.durability import Barrier
from jobs.ledger import LedgerUnavailableError, record_key
from jobs.redis.clients import connect_async
from jobs.redis.group_commit import MAX_ANSWERS_PER_TURN
from jobs.settings import Durability

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def barrier(url: str, durability: Durability) -> AsyncIterator[Barrier]:
    """Run a barrier."""
    client = connect_async(url, 10, "test-barrier")
    confirming = Barrier(client, durability)
    try:
        yield confirming
    finally:
        await confirming.stop()
        await client.aclose()


@pytest.mark.parametrize(("durability", "confirmed"), [("process", True), ("disk", True), ("replica", False)])
async def test_a_server_without_a_replica(ledger_url: str, durability: Durability, confirmed: bool) -> None:
    """It confirms its own disk, and never a replica."""
    async with barrier(ledger_url, durability) as confirming:
        try:
            await confirming.confirm_writes()
        except LedgerUnavailableError:
            assert not confirmed
        else:
            assert confirmed


async def test_what_a_lost_server_answered_is_not_confirmed_by_the_next(ledger_url: str) -> None:
    """A connection that is lost may lead to another server, which never had the writes: all waiting calls fail."""
    admin = connect_async(ledger_url, 10, "test")
    async with barrier(ledger_url, "disk") as confirming:
        await admin.client_pause(60_000, all=False)
        first = asyncio.create_task(confirming.confirm_writes())
        while not await _blocked(admin):  # noqa: ASYNC110  # the server's state, which sets no event here
            await asyncio.sleep(0.01)
        second = asyncio.create_task(confirming.confirm_writes())
        await asyncio.sleep(0)  # it waits for the turn after
        for connection in await admin.client_list():
            if connection["name"] == "test-barrier":
                await admin.client_kill_filter(_id=connection["id"])
        await admin.client_unpause()
        errors = await asyncio.gather(first, second, return_exceptions=True)
        assert all(isinstance(error, LedgerUnavailableError) for error in errors), errors
        await confirming.confirm_writes()
    await admin.aclose()


async def test_a_server_confirms_only_the_records_that_it_has(ledger_url: str) -> None:
    """A job that another server took is not confirmed by this one, and does not spoil the others' confirmation."""
    admin = connect_async(ledger_url, 10, "test")
    await admin.set(record_key("job_here"), 1)
    await admin.set(record_key("ep_here"), 1)
    async with barrier(ledger_url, "disk") as confirming:
        records = ["job_here", "job_elsewhere", "ep_here", "ep_elsewhere", ""]
        answers = await asyncio.gather(*map(confirming.confirm_writes, records), return_exceptions=True)
        assert [isinstance(answer, LedgerUnavailableError) for answer in answers] == [
            False,
            True,
            False,
            True,
            False,
        ]
    await admin.aclose()


async def test_a_wait_does_not_move_to_another_connection(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a new one, a server that lost the write would say at once that it has all that this connection wrote."""
    admin, send = connect_async(ledger_url, 10, "test"), AbstractConnection.send_command

    async def cut_off(connection: AbstractConnection, *args: Any, **options: Any) -> Any:
        if args[0] == "WAITAOF":
            clients = await admin.client_list()
            [client_id] = [client["id"] for client in clients if client["name"] == "test-barrier"]
            await admin.client_kill_filter(_id=client_id)
        return await send(connection, *args, **options)

    async with barrier(ledger_url, "disk") as confirming:
        monkeypatch.setattr(AbstractConnection, "send_command", cut_off)
        with pytest.raises(LedgerUnavailableError):
            await confirming.confirm_writes()
        monkeypatch.undo()
        await confirming.confirm_writes()
    await admin.aclose()


async def test_the_servers_ticks_are_not_waited_for(ledger_url: str) -> None:
    """A server that looks once per second whether somebody's wait is over answers at once, for there is none."""
    admin = connect_async(ledger_url, 10, "test")
    before = (await admin.config_get("hz"))["hz"]
    await admin.config_set("hz", 1)
    try:
        async with barrier(ledger_url, "disk") as confirming, asyncio.timeout(5):
            for _ in range(20):
                await confirming.confirm_writes()
    finally:
        await admin.config_set("hz", before)
        await admin.aclose()


async def test_a_large_group_is_answered_a_part_at_a_turn(ledger_url: str) -> None:
    """So that the first of them are back with their next requests while the last are being answered."""
    async with barrier(ledger_url, "disk") as confirming:
        waiting = [asyncio.create_task(confirming.confirm_writes()) for _ in range(3 * MAX_ANSWERS_PER_TURN)]
        seen = set()
        while not all(task.done() for task in waiting):
            await asyncio.sleep(0)
            seen.add(sum(task.done() for task in waiting))
    assert {0, MAX_ANSWERS_PER_TURN, 2 * MAX_ANSWERS_PER_TURN, 3 * MAX_ANSWERS_PER_TURN} == seen


async def _blocked(admin: redis.asyncio.Redis) -> bool:
    clients = await admin.client_list()
    return any(client["name"] == "test-barrier" and "b" in client["flags"] for client in clients)
