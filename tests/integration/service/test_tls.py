"""The service over TLS with client certificates, each process as its user of docs/reference/security-redis.md."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from gateway.settings import GatewaySettings
from jobs.redis.clients import add_tls_options, connect, tls_options
from tests.conftest import Tool
from tests.support.processes.harness import READY_S, ServiceHarness, free_port, wait_for
from tests.support.servers.certificates import Authority
from tests.support.servers.receivers import Receiver, receiving
from tests.support.servers.tls_acl_redis import TlsAclRedis, tls_acl_redis

KEDA = """
local kind = redis.call('type', KEYS[1]).ok
if kind == 'zset' then return redis.call('zcard', KEYS[1]) end
return redis.call('llen', KEYS[1])
"""
"""What KEDA's redis scaler runs (pkg/scalers/redis_scaler.go), in its essence."""


@dataclass(frozen=True)
class TlsService:
    """The processes, and the server that they are users of."""

    server: TlsAclRedis
    gateway: str
    flower: str


@pytest.fixture(scope="module")
def service(tool: Tool) -> Iterator[TlsService]:
    """Gateway, worker, courier and Flower, each as its own user, over TLS alone."""
    binary = tool("redis-server")
    directory = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
    harness = ServiceHarness()
    port, flower_port = free_port(), free_port()
    try:
        with tls_acl_redis(binary, directory) as server:
            hooks = {"GLEANER_WEBHOOK_ALLOW": "127.0.0.0/8", "GLEANER_WEBHOOK_ALLOW_HTTP": "true"}
            limits = {"GLEANER_TENANT_REQUESTS_PER_S": "1000", "GLEANER_KEY_DOCUMENTS_PER_DAY": "1000"}
            cached = {"GLEANER_RESULT_CACHE_TTL_S": "60"}
            gateway = {**server.urls("gateway"), "GLEANER_PORT": str(port), **hooks, **limits}
            flower = {"GLEANER_FLOWER_PORT": str(flower_port), "GLEANER_FLOWER_PASSWORD": "pw"}
            started = [
                harness.start("gateway", "gateway", gateway),
                harness.start("worker", "tests.support.processes.worker", {**server.urls("worker"), **cached}),
                harness.start("courier", "gateway.courier", {**server.urls("courier"), **hooks}),
            ]
            harness.start("flower", "jobs.queue.flower", {**server.urls("flower"), **flower})
            for child in started:
                child.wait_ready()
            yield TlsService(server, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{flower_port}")
    finally:
        harness.close()
        shutil.rmtree(directory, ignore_errors=True)


def test_a_job_and_its_webhook_pass_and_nobody_is_refused_anything(service: TlsService) -> None:
    """Submission with a key, wait, results, cancel, delete, delivery: the users may do all of it, and no more."""
    with receiving() as receiver, httpx.Client(base_url=service.gateway, trust_env=False, timeout=40) as client:
        _whole_life(client, receiver)

    assert service.server.denied() == []


def _whole_life(client: httpx.Client, receiver: Receiver) -> None:
    body = {
        "labels": ["name"],
        "documents": [{"text": f"Ada Lovelace {n}"} for n in range(100)],
        "webhook": {"url": receiver.url("/ok")},
    }
    job = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "a"})
    assert job.status_code == 202, job.text
    assert client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "a"}).json()["id"] == job.json()["id"]
    path = f"/v1/jobs/{job.json()['id']}"
    assert client.get(path, params={"wait": 30}).json()["status"] == "succeeded"
    assert len(client.get(f"{path}/results").json()["data"]) == 100
    assert client.post(f"{path}/cancel").status_code == 200
    assert client.get("/v1/limits").json()["rates"][0]["remaining"] > 0
    assert client.get("/readyz").status_code == 200
    receiver.wait("/ok", 1)  # DELETE cancels the deliveries that have not been sent
    assert client.delete(path).status_code == 204
    few = client.post("/v1/extract", json={"labels": ["a"], "documents": [{"text": "Ada"}]})
    assert few.status_code == 200, few.text


def test_flower_sees_workers_and_queues(service: TlsService) -> None:
    """Its own connection to the broker is encrypted, too."""
    with httpx.Client(base_url=service.flower, auth=("gleaner", "pw"), trust_env=False) as client:
        # Flower asks by itself once, at its start, and gives each a second: on a busy machine one may miss it.
        wait_for(lambda: _seen_by_flower(client) == 2, READY_S, "Flower knows worker and courier")
        queues = client.get("/api/queues/length").json()["active_queues"]
        assert {queue["messages"] for queue in queues} == {0}
    assert service.server.denied() == []


def _seen_by_flower(client: httpx.Client) -> int:
    answer = client.get("/api/workers", params={"refresh": "1"}, timeout=15)
    return len(answer.json()) if answer.status_code == 200 else 0


def test_keda_counts_and_sees_nothing_else(service: TlsService) -> None:
    """KEDA's user can read the number of open shards and nothing else."""
    with service.server.client("keda") as keda:
        assert keda.eval(KEDA, 1, "{gleaner}:open:gleaner-small") == 0
        for command in ("GET {gleaner}:sys", "HGETALL {gleaner}:job:x", "ZRANGE {gleaner}:open:x 0 1"):
            with pytest.raises(NoPermissionError):
                keda.execute_command(*command.split())


@pytest.mark.parametrize("user", ["gateway", "worker", "courier", "flower", "keda", "backup"])
@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "CONFIG GET *", "KEYS *", "SCAN 0", "SAVE", "SHUTDOWN", "MONITOR", "ACL LIST",
        "CLIENT LIST", "REPLICAOF NO ONE", "MIGRATE a 1 b 0 1", "GET other:key", "SET other:key 1",
        "FUNCTION LIST", "PUBLISH other 1", "SWAPDB 0 1", "MODULE LIST", "SLOWLOG GET",
    ],
)  # fmt: skip
def test_nobody_may_do_what_no_process_needs(service: TlsService, user: str, command: str) -> None:
    """Whatever gets hold of a process's password cannot take the server over, or another program's keys."""
    with service.server.client(user) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("gateway", "RPOP gleaner:q:gleaner.gleaner-small.standard"),
        ("gateway", "LRANGE gleaner:q:gleaner.gleaner-small.standard 0 -1"),
        ("worker", "HGETALL {gleaner}:idem:acme:x"),
        ("worker", "ZRANGE {gleaner}:jobs:acme 0 -1"),
        ("worker", "GET {gleaner}:limit:x"),
        ("worker", "LPUSH gleaner:q:gleaner.webhooks x"),
        ("courier", "HGETALL gleaner:q:unacked"),
        ("flower", "LPUSH gleaner:q:gleaner.webhooks x"),
        ("flower", "BRPOP gleaner:q:gleaner.gleaner-small.standard 1"),
        ("flower", "HGETALL {gleaner}:job:x"),
        ("keda", "SCARD {gleaner}:open:x"),
        ("keda", "ZRANGE {gleaner}:open:x 0 -1"),
        ("backup", "GET {gleaner}:sys"),
        ("backup", "CONFIG GET *"),
    ],
)
def test_each_may_do_its_own_and_not_another_s(service: TlsService, user: str, command: str) -> None:
    """A user may run its process's commands and no others, so that one compromised process is not all."""
    with service.server.client(user) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


def test_the_server_lets_no_one_in_without_name_and_certificate(service: TlsService) -> None:
    """Neither the default user nor a client without a certificate of the authority."""
    server = service.server
    with server.client() as client:
        anonymous = redis.Redis.from_url(f"rediss://localhost:{server.port}/1", **_files(client))
    with pytest.raises(AuthenticationError):
        anonymous.ping()
    with pytest.raises(RedisError):
        server.client(ssl_certfile=None, ssl_keyfile=None).ping()
    with pytest.raises(RedisError):
        redis.Redis(port=server.port, socket_timeout=2).ping()


def test_a_server_of_another_authority_or_name_is_not_believed(service: TlsService, tmp_path: Path) -> None:
    """No secret goes to whoever answers at the address."""
    server = service.server
    stranger = Authority.make(tmp_path)
    files = {name.removeprefix("GLEANER_").lower(): path for name, path in server.settings.items()}
    url = server.url("gateway", 1)
    for changed in (
        {"redis_ca_file": str(stranger.path)},
        {"redis_url": url.replace("localhost", "127.0.0.1")},
    ):
        settings = GatewaySettings(**{"redis_url": url, **files, **changed}, auth="off")
        with pytest.raises(RedisError, match=r"(?i)certificate|mismatch"):
            connect(settings.redis_url, 2, "test").ping()
    good = GatewaySettings(redis_url=url, **files, auth="off")
    connect(good.redis_url, 2, "test").ping()


def test_a_tls_url_is_never_left_unchecked() -> None:
    """Certificates are verified, which kombu alone would not do; options in the URL stay."""
    assert add_tls_options("redis://a/0") == "redis://a/0"
    assert add_tls_options("unix:///s?db=1") == "unix:///s?db=1"
    assert add_tls_options("rediss://a:1/0") == "rediss://a:1/0?ssl_cert_reqs=required"
    assert (
        add_tls_options("rediss://a/0?ssl_ca_certs=mine", Path("ca"))
        == "rediss://a/0?ssl_cert_reqs=required&ssl_ca_certs=mine"
    )
    assert tls_options("redis://a/0") == {}
    assert tls_options("rediss://a/0") == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert tls_options("rediss://a/0?ssl_check_hostname=false")["ssl_check_hostname"] is False


def _files(client: redis.Redis) -> dict[str, str]:
    options = client.connection_pool.connection_kwargs
    return {name: options[name] for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")}
