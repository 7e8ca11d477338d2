from __future__ import annotations

import pytest
import redis
import redis.asyncio

from tests.support.servers.redis_servers import RedisServer


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_gets_an_emptied_server(ledger_url: str, broker_url: str, attempt: int) -> None:
    """Keys of one test, in either database, are gone in the next."""
    for url in (ledger_url, broker_url):
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 0
            client.set("left", "behind")


def test_the_server_is_set_up_like_the_local_stacks(ledger_url: str) -> None:
    """Durability and eviction suit the ledger: an append-only file, and nothing is ever evicted."""
    with redis.Redis.from_url(ledger_url) as client:
        settings = client.config_get("appendonly", "maxmemory-policy", "hz", "save")
    assert settings == {"appendonly": "yes", "maxmemory-policy": "noeviction", "hz": "500", "save": ""}


@pytest.mark.anyio
async def test_async_tests_run_on_asyncio(ledger_url: str) -> None:
    """A coroutine test can use the async client against the same server."""
    async with redis.asyncio.Redis.from_url(ledger_url) as client:
        assert await client.ping()


def test_redis_7_0_runs_unpacked(redis7_server: RedisServer) -> None:
    """The oldest promised server starts from `.tools/` without being installed."""
    with redis.Redis.from_url(redis7_server.url(1)) as client:
        assert client.info("server")["redis_version"].startswith("7.0.")
