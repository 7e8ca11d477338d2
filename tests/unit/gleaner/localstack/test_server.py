"""URLs and configuration of the stack's Redis server."""

from __future__ import annotations

from pathlib import Path

import pytest

from gleaner.localstack import ports, server
from gleaner.localstack.datadir import DataDir
from gleaner.localstack.errors import ServerUnreachable


@pytest.mark.parametrize(
    ("ledger", "broker"),
    [
        ("redis://h:1/1", "redis://h:1/0"),
        ("redis://h:1", "redis://h:1/1"),
        ("redis://:pw@h:1/0", "redis://:pw@h:1/1"),
        ("rediss://h:1/5?ssl_cert_reqs=none", "rediss://h:1/0?ssl_cert_reqs=none"),
        ("unix:///s.sock?db=1", "unix:///s.sock?db=0"),
        ("unix:///s.sock", "unix:///s.sock?db=1"),
        (
            "redis+sentinel://:pw@h:1,i:2/m/1?sentinel_username=x",
            "redis+sentinel://:pw@h:1,i:2/m/0?sentinel_username=x",
        ),
        ("redis+sentinel://h/m", "redis+sentinel://h/m/1"),
    ],
)
def test_the_broker_gets_another_database_of_the_ledgers_server(ledger: str, broker: str) -> None:
    """The broker's database is 0, or 1 where the ledger has 0, in whatever form the URL is."""
    assert server.plan_external(ledger, None).broker_url == broker


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    """A wrong --redis-url is a clear error that does not show the password."""
    (port,) = ports.find_free(1)
    sentinel = f"redis+sentinel://:hush@127.0.0.1:{port}/m/1?sentinel_password=hush"
    for url in (f"redis://:hush@127.0.0.1:{port}/1", sentinel):
        _refused(url, port)


def _refused(url: str, port: int) -> None:
    urls = server.plan_external(url, None)
    with pytest.raises(ServerUnreachable) as raised:
        server.require_reachable(urls)

    assert str(port) in str(raised.value)
    assert "hush" not in str(raised.value)


def test_the_tcp_servers_password_is_needed(tmp_path: Path) -> None:
    """On TCP another user of the machine can connect, so the plan has a password that the URL carries."""
    directory = DataDir(tmp_path / ("x" * 100))
    plan = server.plan_embedded(directory, 1)

    assert "requirepass" in plan.configuration
    assert "@127.0.0.1:1/1" in plan.urls.ledger_url
