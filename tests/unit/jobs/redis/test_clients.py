"""Clients of Redis: options by URL, and tasks that swallow their cancellation."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from jobs.redis import clients
from jobs.settings import Settings
from tests.unit.jobs.redis.test_sentinels import FULL


def test_both_clients_ask_with_the_same_options() -> None:
    """TLS, verified, to Sentinels and servers; a Sentinel that is silent costs a part of a call's time."""
    for client in (clients.connect(FULL, 2.0, "test"), clients.connect_async(FULL, 2.0, "test")):
        pool: Any = client.connection_pool
        server, manager = pool.connection_kwargs, pool.sentinel_manager
        assert (server["username"], server["password"], server["db"]) == ("us:er", "p@ss", 3)
        assert "SSL" in pool.connection_class.__name__
        assert (server["ssl_cert_reqs"], server["ssl_ca_certs"]) == (ssl.CERT_REQUIRED, "/ca.pem")
        assert server["socket_timeout"] == 2.0
        options = [sentinel.connection_pool.connection_kwargs for sentinel in manager.sentinels]
        assert [(arguments["host"], arguments["port"]) for arguments in options] == [
            ("one", 26380),
            ("two", 26379),
            ("::1", 26381),
        ]
        for arguments in options:
            assert (arguments["username"], arguments["password"]) == ("watch", "s&p")
            assert arguments["ssl_ca_certs"] == "/ca.pem"
            assert arguments["socket_timeout"] == 0.5


def test_the_files_of_the_settings_are_for_sentinel_urls_too() -> None:
    """The files are added as for `rediss://`."""
    settings = Settings(redis_url="rediss+sentinel://one/gleaner/1", redis_ca_file="/ca.pem")  # type: ignore[arg-type]
    options = clients.tls_options(settings.redis_url)
    assert (options["ssl_ca_certs"], options["ssl_cert_reqs"]) == ("/ca.pem", ssl.CERT_REQUIRED)


def test_a_call_has_a_time_limit_and_a_name() -> None:
    """Both clients: by default the whole call; a watched one limits its calls itself, and only connecting here."""
    plain: Any = clients.connect("redis://one/1", 2.0, "gleaner-test").connection_pool.connection_kwargs
    watched: Any = clients.connect_async("redis://one/1", 2.0, "gleaner-test", watched=True).connection_pool
    options = watched.connection_kwargs

    assert (plain["socket_timeout"], plain["socket_connect_timeout"]) == (2.0, 2.0)
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (None, 2.0)
    assert plain["client_name"] == options["client_name"] == "gleaner-test"
    assert [kwargs["retry"].get_retries() for kwargs in (plain, options)] == [1, 1]


def test_a_unix_socket_has_no_options_of_tcp() -> None:
    """redis-py refuses them there."""
    options: Any = clients.connect("unix:///s?db=1", 2.0, "test").connection_pool.connection_kwargs

    assert options["socket_timeout"] == 2.0
    assert {"socket_keepalive", "socket_connect_timeout"}.isdisjoint(options)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://one/1", {}),
        ("rediss://one/1", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("rediss://one/1?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": ssl.CERT_NONE}),
        (
            "rediss://one?ssl_check_hostname=False",
            {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": False},
        ),
        ("rediss://one?ssl_check_hostname=1", {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}),
    ],
)
def test_tls_is_verified_unless_the_url_says_otherwise(url: str, expected: dict[str, Any]) -> None:
    """In redis-py's values, whatever the spelling."""
    assert clients.tls_options(url) == expected


def test_a_task_that_swallows_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py does so during a time-out; no task, or one that has ended, is nothing to do."""
    monkeypatch.setattr(clients, "_CANCEL_AGAIN_S", 0.01)
    swallowed: list[int] = []

    async def call_redis() -> None:
        while len(swallowed) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append(1)
        await asyncio.Event().wait()

    async def run() -> bool:
        await clients.cancel_task(None)
        task = asyncio.create_task(call_redis())
        await asyncio.sleep(0)
        await clients.cancel_task(task)
        is_cancelled = task.cancelled()  # before the loop's own end cancels it
        await clients.cancel_task(task)
        return is_cancelled

    assert asyncio.run(run())
    assert len(swallowed) == 2
