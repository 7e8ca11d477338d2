"""Slow, silent and greedy clients against a real gateway: they are let go, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.support.processes.harness import Child, ServiceHarness

pytestmark = pytest.mark.anyio

IDLE = int(os.environ.get("TEST_IDLE", "400"))
"""2,000 take longer than a test may, and show the same: set TEST_IDLE to try."""
JOB = b'{"labels":["a"],"documents":[{"text":"b"}]}'


@pytest.fixture(scope="module")
def harness() -> Iterator[ServiceHarness]:
    """Start Redis alone."""
    harness = ServiceHarness()
    yield harness
    harness.close()


@pytest.fixture(scope="module")
def gateway(harness: ServiceHarness) -> Child:
    """Start a gateway with short timeouts."""
    patience = {
        "GLEANER_HEADER_TIMEOUT_S": "1.5",
        "GLEANER_BODY_IDLE_S": "1",
        "GLEANER_WRITE_TIMEOUT_S": "1",
    }
    return harness.gateway(**patience).wait_ready()


@contextlib.asynccontextmanager
async def connected(gateway: Child) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a raw connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def slowest_of(gateway: Child, count: int = 20) -> float:
    """Return the longest of `count` ordinary requests, each on a new connection (seconds)."""
    longest = 0.0
    for _ in range(count):
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
            began = time.monotonic()
            assert (await client.post("/v1/jobs", content=JOB, headers=_JSON)).status_code == 202
            longest = max(longest, time.monotonic() - began)
    return longest


_JSON = {"Content-Type": "application/json"}


async def test_a_head_that_does_not_end_is_answered_408(gateway: Child) -> None:
    """A byte now and then does not buy more time."""
    async with connected(gateway) as (reader, writer):
        began = time.monotonic()
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n")

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"X: y\r\n")
                    await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        answer = await asyncio.wait_for(reader.read(), 10)
        dripping.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert 1 < time.monotonic() - began < 5


async def test_a_second_head_has_no_more_time_than_the_first(gateway: Child) -> None:
    """Keep-alive is no way around it."""
    async with connected(gateway) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /li")
        assert (await asyncio.wait_for(reader.read(), 10)).count(b"HTTP/1.1 ") == 2


async def test_a_head_of_any_size_is_not_kept(gateway: Child) -> None:
    """431 after 64 KiB."""
    async with connected(gateway) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 60_000)
        await writer.drain()
        writer.write(b"y" * 60_000)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("drips", [False, True])
async def test_a_body_that_does_not_come_is_answered_408(gateway: Child, drips: bool) -> None:
    """A body that stops or trickles gets a problem that says so, and the connection is closed."""
    async with connected(gateway) as (reader, writer):
        writer.write(
            b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"
        )

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while drips:
                    writer.write(b" ")
                    await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        answer = await asyncio.wait_for(reader.read(), 10)
        dripping.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"request_timeout"' in answer


async def test_silent_connections_do_not_hold_up_others(gateway: Child) -> None:
    """Hundreds that say nothing, half a head, or half a body: the next request is answered all the same."""
    heads = (b"", b"GET / HTTP/1.1\r\n", b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{")
    async with contextlib.AsyncExitStack() as connections:
        for number in range(IDLE):
            _, writer = await connections.enter_async_context(connected(gateway))
            writer.write(heads[number % 3])
        assert await slowest_of(gateway) < 2


async def test_the_longest_idle_go_where_there_is_no_room(harness: ServiceHarness) -> None:
    """A process that may open few files keeps answering; it drops who says nothing, not who asks."""
    script = "import resource,runpy;resource.setrlimit(resource.RLIMIT_NOFILE,(320,320));runpy.run_module('gateway',run_name='__main__')"  # noqa: E501
    (harness.directory / "few_files.py").write_text(script)
    gateway = harness.gateway("few_files", PYTHONPATH=f"{harness.directory}:.").wait_ready()
    async with contextlib.AsyncExitStack() as connections:
        readers = [(await connections.enter_async_context(connected(gateway)))[0] for _ in range(150)]
        assert await slowest_of(gateway, 5) < 2
        gone = 0
        for reader in readers:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.01):
                    gone += await reader.read() == b""
        assert gone > 50


async def test_a_client_that_does_not_read_is_cut_off(gateway: Child) -> None:
    """An unread response stays in memory no longer than the setting allows."""
    async with connected(gateway) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 3000)
        async with asyncio.timeout(15):
            with contextlib.suppress(ConnectionError):
                while not writer.transport.is_closing():  # a write finds out that the connection is gone
                    writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)
    assert await slowest_of(gateway, 3) < 2
