"""The stack's server as it runs: the embedded one, and one that is there."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
import redis

from gleaner.localstack import ports, server
from gleaner.localstack.datadir import DataDir, write_private
from tests.support.servers.redis_servers import RedisServer


def test_a_server_that_is_there_is_accepted(redis_server: RedisServer) -> None:
    """Both databases of a running server answer."""
    server.require_reachable(server.plan_external(redis_server.url(1), None))


@pytest.mark.parametrize("long", [False, True], ids=["socket", "tcp"])
def test_the_embedded_server_runs_from_its_configuration(tmp_path: Path, long: bool) -> None:
    """It answers at both URLs, in a folder whose name needs quoting or is too long for a socket; it keeps data."""
    directory = DataDir(tmp_path / ("x" * 100 if long else 'a "quoted" one'))
    directory.create_folders()
    (port,) = ports.find_free(1)
    plan = server.plan_embedded(directory, port)
    configuration = directory.run / "valkey.conf"
    write_private(configuration, plan.configuration)
    urls = (plan.urls.ledger_url, plan.urls.broker_url)
    assert {url.partition(":")[0] for url in urls} == {"redis" if long else "unix"}

    def run(value: bytes | None) -> None:
        process = subprocess.Popen([plan.binary, configuration], stdout=subprocess.DEVNULL)
        try:
            while any(server.connection_error(url) for url in urls):
                assert process.poll() is None
            with redis.Redis.from_url(plan.urls.ledger_url) as ledger:
                assert ledger.get("k") == value
                ledger.set("k", b"v")
                assert ledger.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            with redis.Redis.from_url(plan.urls.broker_url) as broker:
                assert broker.get("k") is None
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()

    run(None)
    run(b"v")
