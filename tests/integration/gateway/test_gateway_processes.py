"""A gateway of several processes acts as one: one port, one set of metrics, one copy of the background services."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.http import processes
from gateway.settings import GatewaySettings
from jobs.ledger import job_channel
from jobs.observability.metrics import ProcessesMetrics
from tests.conftest import Tool
from tests.support.processes.gateways import launch
from tests.support.processes.harness import Child, wait_for
from tests.support.servers.redis_servers import RedisServer

BODY = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}
ENDED = "gleaner_gateway_processes_ended_total"


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer) -> dict[str, str]:
    """Two processes, and where their stores are."""
    redis_server.flush()
    stores = {"GLEANER_REDIS_URL": redis_server.url(1), "GLEANER_BROKER_URL": redis_server.url(0)}
    return {**stores, "GLEANER_AUTH": "off", "GLEANER_GATEWAY_PROCESSES": "2"}


@contextmanager
def launched(folder: Path, settings: dict[str, str]) -> Iterator[Child]:
    """Run a gateway of two processes, both serving."""
    child = launch(folder, settings)
    try:
        child.wait_ready()
        wait_for(lambda: samples(child, "gleaner_gateway_processes") == [2], 20, "both serve")
        yield child
    finally:
        child.kill()
        wait_for(lambda: not listens(child), 20, "its children are gone")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[Child]:
    """Run a gateway that all tests but the last leave unchanged."""
    folder = tmp_path_factory.mktemp("gateway")
    with launched(folder, {**settings, "TMPDIR": str(folder)}) as child:
        yield child


def events(gateway: Child, name: str) -> list[dict[str, object]]:
    """Return the log lines of an event."""
    return [line for line in map(json.loads, gateway.log.read_text().splitlines()) if line["event"] == name]


def listens(gateway: Child) -> bool:
    """Return whether its port accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", httpx.URL(gateway.url).port)) == 0


def children(gateway: Child) -> list[int]:
    """Return the ids of its processes."""
    return list(map(int, Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()))


def ask(gateway: Child, times: int = 1) -> list[int]:
    """Send `times` requests, each on a new connection; return the statuses, 0 for a broken connection."""

    def request_status(_: int) -> int:
        try:
            return client.get(f"{gateway.url}/v1/models").status_code
        except httpx.TransportError:
            return 0

    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(trust_env=False, timeout=20, limits=limits) as client, ThreadPoolExecutor(8) as pool:
        return list(pool.map(request_status, range(times)))


def samples(gateway: Child, name: str) -> list[float]:
    """Return the values of a metric in a scrape, in any order."""
    families = text_string_to_metric_families(gateway.probe("/metrics")[1])
    return [sample.value for family in families for sample in family.samples if sample.name == name]


def answered(gateway: Child) -> dict[object, int]:
    """Count the requests that each process has answered, by the log."""
    return dict(Counter(line["place"] for line in events(gateway, "http.request")))


def count_upkeep_connections(settings: dict[str, str]) -> int:
    """Count the connections of gateways that stand in for couriers."""
    with redis.Redis.from_url(settings["GLEANER_REDIS_URL"]) as store:
        return [client["name"] for client in store.client_list()].count("gleaner-gateway-upkeep")


def test_both_answer_and_one_scrape_tells_of_all(shared: Child, tool: Tool) -> None:
    """Counters and histograms are sums over the processes, the queue is shown once, and promtool is content."""
    while len(answered(shared)) < 2:
        assert ask(shared, 40) == [200] * 40
        assert sum(answered(shared).values()) < 2000
    wait_for(lambda: samples(shared, "gleaner_open_shards"), 10, "it stands in for couriers")

    sent = sum(answered(shared).values())
    assert samples(shared, "gleaner_http_requests_total") == [sent]
    assert samples(shared, "gleaner_http_request_seconds_count") == [sent]
    for once in ("gleaner_open_shards", "gleaner_store_up", "gleaner_store_down", "process_start_time_seconds"):
        assert len(samples(shared, once)) == 1
    promtool = [str(tool("promtool")), "check", "metrics"]
    text = shared.probe("/metrics")[1] + "\n"
    checked = subprocess.run(promtool, input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_one_that_dies_is_replaced_and_takes_nothing_with_it(shared: Child, settings: dict[str, str]) -> None:
    """If a process dies, new connections are still answered, its counts stay, and upkeep keeps its process."""
    wait_for(lambda: count_upkeep_connections(settings) == 1, 10, "upkeep is done once")
    ask(shared)
    before = samples(shared, "gleaner_http_requests_total")
    spent = samples(shared, "process_cpu_seconds_total")[0]
    victim = children(shared)[0]
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, shared, 200)
        wait_for(lambda: samples(shared, "gleaner_http_requests_total")[0] > before[0] + 20, 20, "they are asked")
        os.kill(victim, signal.SIGKILL)
        statuses = asking.result()
    wait_for(lambda: samples(shared, "gleaner_gateway_processes") == [2], 20, "both serve again")

    assert set(statuses) <= {200, 0}
    assert statuses.count(0) <= 8  # the requests that the dead process was answering
    assert shared.probe("/readyz") == (200, "ok")
    assert victim not in children(shared)
    assert len(children(shared)) == 2
    [line] = events(shared, "gateway.process_ended")
    assert (line["reason"], line["exit_code"]) == ("died", -signal.SIGKILL)
    assert sorted(samples(shared, ENDED)) == [0, 1]
    assert samples(shared, "gleaner_http_requests_total")[0] >= before[0] + statuses.count(200)
    assert samples(shared, "process_cpu_seconds_total")[0] > spent
    assert count_upkeep_connections(settings) == 1


def test_sigterm_drains_all_and_exits_0(tmp_path: Path, settings: dict[str, str]) -> None:
    """Whoever waits, at whichever process, is answered at once; nobody is left to listen."""
    with (
        launched(tmp_path, settings) as gateway,
        httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as client,
        ThreadPoolExecutor(6) as pool,
        redis.Redis.from_url(settings["GLEANER_REDIS_URL"]) as store,
    ):
        jobs = [client.post("/v1/jobs", json=BODY).json()["id"] for _ in range(6)]
        polls = [pool.submit(client.get, f"/v1/jobs/{job}", params={"wait": 60}) for job in jobs]
        waited = [job_channel(job) for job in jobs]
        wait_for(lambda: all(count for _, count in store.pubsub_numsub(*waited)), 10, "the long-polls are there")
        there = children(gateway)
        gateway.send(signal.SIGTERM)

        assert gateway.process.wait(10) == 0
        assert {(poll.result().status_code, poll.result().json()["status"]) for poll in polls} == {(200, "queued")}
    assert not listens(gateway)
    assert not [pid for pid in there if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("lacking", ["gateway.no_keys", "gateway.cannot_listen"])
def test_what_no_process_can_start_with_ends_the_gateway(
    tmp_path: Path, settings: dict[str, str], lacking: str
) -> None:
    """Missing keys or a taken port are logged and end the gateway: it does not retry permanently."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = {"GLEANER_PORT": str(other.getsockname()[1])}
        more = {"gateway.no_keys": {"GLEANER_AUTH": "on"}, "gateway.cannot_listen": taken}
        child = launch(tmp_path, {**settings, **more[lacking]})

        assert child.process.wait(20) == 1
    assert events(child, lacking)
    assert not listens(child)


@pytest.mark.anyio
async def test_one_that_hangs_is_killed(
    tmp_path: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event loop that stands still answers nobody; the other one goes on, and a new one is started."""
    for name, value in {**settings, "GLEANER_LOG_FILE": str(tmp_path / "log")}.items():
        monkeypatch.setenv(name, value)
    registry, listening = CollectorRegistry(), processes.open_listeners("127.0.0.1", 0)
    parent = processes.ProcessSupervisor(GatewaySettings(), listening, tmp_path, ProcessesMetrics(registry))
    running = asyncio.create_task(parent.serve(2))
    await until(lambda: registry.get_sample_value("gleaner_gateway_processes") == 2)
    hanging, other = parent.pids()
    os.kill(hanging, signal.SIGSTOP)
    parent.silent_s = 2.5  # more than two beats of the other one
    await until(lambda: registry.get_sample_value(ENDED, {"reason": "stalled"}) == 1)

    assert hanging not in parent.pids()
    assert other in parent.pids()
    assert parent.is_serving()
    await until(lambda: len(parent.pids()) == 2)
    # Called directly: a signal sent to this process might end the test run instead.
    parent.handle_signal(signal.SIGTERM)
    assert await running == 0
    logs = {path.name for path in tmp_path.glob("log*")}  # noqa: ASYNC240  # nobody else waits
    assert logs == {"log-0", "log-1"}


def test_children_end_with_a_parent_that_is_killed(shared: Child) -> None:
    """Nobody serves on behind its back, on a port that the next one wants; no file of it is left."""
    there = children(shared)
    assert len(list(shared.log.parent.glob("gleaner-gateway-*"))) == 1
    shared.kill()

    wait_for(lambda: not listens(shared), 10, "the port is free")
    wait_for(lambda: not [pid for pid in there if Path(f"/proc/{pid}").exists()], 10, "they are gone")
    assert not list(shared.log.parent.glob("gleaner-gateway-*"))


async def until(condition: Callable[[], bool]) -> None:
    """Await a condition while the event loop turns."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # of other processes
            await asyncio.sleep(0.02)
