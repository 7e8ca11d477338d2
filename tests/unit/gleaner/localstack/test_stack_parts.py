"""The parts of a local stack that need no running stack: server plan, ports, keys, locks, configuration."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import redis

from gleaner.localstack import ports, programs, server
from gleaner.localstack.datadir import DataDir, Lock, write_private
from gleaner.localstack.errors import AlreadyRunning, PortInUse, ServerUnreachable
from jobs.process.programs import Program, plan_stop
from tests.support.servers.redis_servers import RedisServer


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


def test_a_server_that_is_there_is_accepted(redis_server: RedisServer) -> None:
    """Both databases of a running server answer."""
    server.require_reachable(server.plan_external(redis_server.url(1), None))


@pytest.mark.parametrize("long", [False, True], ids=["socket", "tcp"])
def test_the_embedded_server_runs_from_its_configuration(tmp_path: Path, long: bool) -> None:
    """It answers at both URLs, in a folder whose name needs quoting or is too long for a socket; it keeps data."""
    directory = DataDir.from_path(tmp_path / ("x" * 100 if long else 'a "quoted" one'))
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


def test_the_tcp_servers_password_is_needed(tmp_path: Path) -> None:
    """On TCP another user of the machine can connect, so the plan has a password that the URL carries."""
    directory = DataDir.from_path(tmp_path / ("x" * 100))
    plan = server.plan_embedded(directory, 1)

    assert "requirepass" in plan.configuration
    assert "@127.0.0.1:1/1" in plan.urls.ledger_url


def test_a_port_in_use_is_named() -> None:
    """The error names the port, and a way out."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} is in use.*--port {port + 1}"):
            ports.require_free(port)
    ports.require_free(port)


def test_free_ports_differ() -> None:
    """No port is handed out twice."""
    assert len(set(ports.find_free(20))) == 20


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    """A second holder is refused until the first lets go."""
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.acquire_or_fail(tmp_path)
    with pytest.raises(AlreadyRunning, match="--data-dir"):
        second.acquire_or_fail(tmp_path)
    first.release()
    second.acquire_or_fail(tmp_path)
    second.release()


def test_private_files_are_the_owners_alone(tmp_path: Path) -> None:
    """Mode 600 whatever the umask, and the old content is replaced whole."""
    old = os.umask(0)
    try:
        write_private(tmp_path / "f", "one")
        write_private(tmp_path / "f", "two")
    finally:
        os.umask(old)

    assert (tmp_path / "f").read_text() == "two"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_an_admin_key_that_no_longer_works_is_replaced(tmp_path: Path) -> None:
    """A key is made when there is none or the keys file does not know it any more, else kept."""
    directory = DataDir.from_path(tmp_path)
    new_keys = iter(["one", "two"])

    def create(keys_file: Path) -> str:
        keys_file.touch()
        return next(new_keys)

    directory.ensure_admin_key(create, lambda _file, _key: True)
    directory.ensure_admin_key(create, lambda _file, _key: True)
    assert directory.admin_key.read_text() == "one\n"

    directory.ensure_admin_key(create, lambda _file, key: key == "two")
    assert directory.admin_key.read_text() == "two\n"


def test_the_server_stops_last(tmp_path: Path) -> None:
    """Flower, gateway, workers together, courier, server: whoever still writes finds the server."""
    listed = [
        programs.server_program(tmp_path, tmp_path, tmp_path),
        programs.courier_program(1),
        *(programs.worker_program(n, 2, 1) for n in (1, 2)),
        programs.gateway_program(1, 2),
        programs.flower_program(1, "u", "p"),
    ]

    assert [group.names for group in plan_stop(Program(**program.to_json()) for program in listed)] == [
        ("flower",),
        ("gateway",),
        ("worker-1", "worker-2"),
        ("courier",),
        ("server",),
    ]
