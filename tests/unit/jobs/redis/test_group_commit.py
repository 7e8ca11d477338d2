"""Commands that share a round trip: each gets its own answer or its own error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from jobs import ledger
from jobs.ledger import AsyncLedger, Call
from jobs.redis.clients import connect_async
from jobs.redis.group_commit import RequestGrouper

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(ledger_url: str) -> AsyncIterator[AsyncLedger]:
    """Return the ledger of an emptied Redis."""
    client = connect_async(ledger_url, 2, "test")
    yield AsyncLedger(client)
    await client.aclose()


async def test_what_is_asked_in_one_turn_goes_together() -> None:
    """Requests share one round trip, in order; later requests form another group."""
    groups: list[Sequence[int]] = []

    async def ask(group: Sequence[int]) -> Sequence[int]:
        groups.append(group)
        return [number * 10 for number in group]

    grouped = RequestGrouper(ask)
    assert await asyncio.gather(*(grouped.submit(number) for number in range(3))) == [0, 10, 20]
    assert await grouped.submit(3) == 30
    assert groups == [[0, 1, 2], [3]]


async def test_an_error_of_one_is_no_error_of_another() -> None:
    """Only an error of the whole round trip, such as a lost connection, fails all of a group."""

    async def ask(group: Sequence[str]) -> Sequence[str | Exception]:
        if "lost" in group:
            raise ConnectionError
        return [ValueError() if requested == "bad" else requested for requested in group]

    grouped = RequestGrouper(ask)
    good, bad = await asyncio.gather(grouped.submit("good"), grouped.submit("bad"), return_exceptions=True)
    assert good == "good"
    assert isinstance(bad, ValueError)
    lost = await asyncio.gather(grouped.submit("lost"), grouped.submit("good"), return_exceptions=True)
    assert all(isinstance(error, ConnectionError) for error in lost)
    assert await grouped.submit("good") == "good"


async def test_a_caller_that_goes_away_takes_nobody_with_it() -> None:
    """The round trip goes on for the others, and its own commands may have run."""
    requested, answering = asyncio.Event(), asyncio.Event()

    async def ask(group: Sequence[int]) -> Sequence[int]:
        requested.set()
        await answering.wait()
        return group

    grouped = RequestGrouper(ask)
    gone, stays = (asyncio.create_task(grouped.submit(number)) for number in range(2))
    await requested.wait()
    gone.cancel()
    answering.set()
    assert await stays == 1
    assert gone.cancelled()


async def test_a_round_trip_that_is_cancelled_leaves_nobody_waiting() -> None:
    """Whatever cancels it, the whole group learns of it."""

    async def ask(group: Sequence[int]) -> Sequence[int]:
        raise asyncio.CancelledError

    grouped = RequestGrouper(ask)
    async with asyncio.timeout(5):
        ends = await asyncio.gather(grouped.submit(1), grouped.submit(2), return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 2


async def test_a_server_that_was_started_anew_answers_each_of_a_group(store: AsyncLedger) -> None:
    """It has no scripts then; and a script that breaks is an error of its call alone."""
    await store._client.script_flush()
    broken: Call[None] = Call("create_job", (b"no json", b"", b"", b"", b"[]", b""), lambda _: None)
    calls: list[Call[Any]] = [ledger.ping_write(), broken, ledger.read_job("job_none"), ledger.ping_write()]
    ping, error, view, again = await asyncio.gather(*map(store.run, calls), return_exceptions=True)
    assert isinstance(error, RuntimeError)
    assert "ledger script create" in str(error)
    assert view is None
    assert isinstance(ping, int)
    assert isinstance(again, int)


async def test_requests_made_during_a_round_trip_in_turn_share_the_next() -> None:
    """Round trips do not overlap, whatever their size: the next confirms all that was requested before it."""
    groups: list[Sequence[int]] = []
    requested, answering = asyncio.Event(), asyncio.Event()

    async def ask(group: Sequence[int]) -> Sequence[int]:
        groups.append(group)
        requested.set()
        await answering.wait()
        return group

    grouped = RequestGrouper(ask, max_group=2, in_turn=True)
    first = asyncio.create_task(grouped.submit(0))
    await requested.wait()
    later = [asyncio.create_task(grouped.submit(number)) for number in range(1, 6)]
    await asyncio.sleep(0)
    assert groups == [[0]]
    answering.set()
    assert await asyncio.gather(first, *later) == [0, 1, 2, 3, 4, 5]
    assert groups == [[0], [1, 2, 3, 4, 5]]
    assert await grouped.submit(6) == 6


async def test_an_error_in_turn_is_everybodys() -> None:
    """Also of those that wait: the next round trip may reach a server that never had their writes."""
    failing = asyncio.Event()

    async def ask(group: Sequence[int]) -> Sequence[int]:
        if group == [0]:
            await failing.wait()
            raise ConnectionError
        return group

    grouped = RequestGrouper(ask, in_turn=True)
    first = asyncio.create_task(grouped.submit(0))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(grouped.submit(1))
    await asyncio.sleep(0)
    failing.set()
    ends = await asyncio.gather(first, waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [ConnectionError] * 2
    assert await grouped.submit(2) == 2


@pytest.mark.parametrize("in_turn", [False, True])
async def test_a_stop_leaves_nobody_waiting(in_turn: bool) -> None:
    """Those whose round trip runs learn of it; answers that have arrived are still given."""

    async def ask(group: Sequence[int]) -> Sequence[int]:
        if 0 in group:
            await asyncio.sleep(60)
        return group

    grouped = RequestGrouper(ask, max_group=100, in_turn=in_turn)
    stuck = asyncio.create_task(grouped.submit(0))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        await grouped.stop()
        [end] = await asyncio.gather(stuck, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError)

        grouped = RequestGrouper(ask, max_group=100, in_turn=in_turn)
        answered = [asyncio.create_task(grouped.submit(number)) for number in range(1, 50)]
        await answered[0]
        await grouped.stop()
        assert await asyncio.gather(*answered) == list(range(1, 50))


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("in_turn", [False, True])
async def test_a_stop_at_any_moment_cancels_the_rest(in_turn: bool, turns: int) -> None:
    """Before the round trip has begun, while it runs, and for requests that come later: nobody waits forever."""
    groups = []

    async def ask(group: Sequence[int]) -> Sequence[int]:
        groups.append(group)
        await asyncio.sleep(60)
        return group

    grouped = RequestGrouper(ask, in_turn=in_turn)
    early = [asyncio.create_task(grouped.submit(number)) for number in range(3)]
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await grouped.stop()
        ends = await asyncio.gather(*early, grouped.submit(4), return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    await asyncio.sleep(0)
    assert len(groups) <= 1
