"""Sentinel over TLS, with client certificates and passwords on both sides: each kind of client gets through."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from redis.exceptions import RedisError

from jobs.queue.celery_queues import build_celery_app
from jobs.redis.clients import connect, connect_async
from jobs.settings import Settings
from tests.conftest import Tool
from tests.support.processes.harness import free_port, wait_for
from tests.support.servers.tls_acl_redis import KEEPER, TlsAclRedis, tls_acl_redis

PASSWORD = "sentinels-own"  # pragma: allowlist secret

pytestmark = pytest.mark.anyio


@contextmanager
def _sentinel(binary: Path, server: TlsAclRedis) -> Iterator[int]:
    """Run a Sentinel that knows the server by name; yield its port."""
    port, directory = free_port(), server.directory / "sentinel"
    directory.mkdir()
    certificate, key = server.authority.issue("localhost")
    settings = directory / "sentinel.conf"
    settings.write_text(
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile {directory}/log\n"
        f"tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {server.authority.path}\n"
        f"tls-auth-clients yes\ntls-replication yes\nrequirepass {PASSWORD}\n"
        "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n"
        f"sentinel monitor gleaner localhost {server.port} 1\n"
        f"sentinel auth-user gleaner {KEEPER}\nsentinel auth-pass gleaner {KEEPER}-password\n"
    )
    process = subprocess.Popen(
        [str(binary), str(settings), "--sentinel"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _settings(server: TlsAclRedis, port: int, password: str) -> Settings:
    keeper = f"{KEEPER}:{KEEPER}-password"
    url = f"rediss+sentinel://{keeper}@localhost:{port}/gleaner/0?sentinel_password={password}"
    files = {name.removeprefix("GLEANER_").lower(): value for name, value in server.settings.items()}
    return Settings(redis_url=url, broker_url=url, **files)  # type: ignore[arg-type]


def _answers(url: str) -> bool:
    try:
        with connect(url, 2.0, "test") as client:
            return bool(client.ping())
    except RedisError:
        return False


async def test_clients_of_both_kinds_and_kombu_get_through(tool: Tool) -> None:
    """Certificates are checked on both ways, each side has its own password, and a wrong one is refused."""
    binary = tool("redis-server")
    directory = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
    try:
        with tls_acl_redis(binary, directory) as server, _sentinel(binary, server) as port:
            url = _settings(server, port, PASSWORD).redis_url
            wait_for(lambda: _answers(url), 10, "the master is found")
            async with connect_async(url, 2.0, "test") as client:
                assert await client.ping()
            app = build_celery_app(url, ["gleaner.webhooks"], "courier")
            with Connection(
                app.conf.broker_url,
                ssl=app.conf.broker_use_ssl,
                transport_options=app.conf.broker_transport_options,
            ) as broker:
                channel: Any = broker.default_channel
                assert channel.client.ping()
            app.close()
            assert not _answers(_settings(server, port, "wrong").redis_url)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
