"""Fail-over by Sentinel: the master dies, its replica takes over, and every process finds it by itself."""

from __future__ import annotations

import httpx
import orjson

from gleaner.cli.commands.doctor import Deployment, run_checks
from tests.support.processes.harness import READY_S, Server, ServiceHarness, free_port, wait_for
from tests.support.record import LABELS, MODEL, Load, Record
from tests.support.servers.sentinels import SERVER, Sentinels, sentinels_over

ENDED = {"succeeded", "partially_succeeded", "failed"}


def test_what_was_accepted_survives_the_masters_death() -> None:
    """With `durability: replica` nothing acknowledged is lost: the same processes finish it at the replica."""
    harness = ServiceHarness(options=SERVER)
    master = harness.server
    replica = Server(harness.directory / "replica", *SERVER, *_replica_of(master))
    try:
        with sentinels_over(harness.directory, harness.server.port, replicas=1) as sentinels:
            flower = _start(harness, sentinels)
            _fail_over(harness, replica, sentinels)
            wait_for(lambda: _queues(flower) == {0}, READY_S, "Flower counts at the new master")
            checks = list(run_checks(Deployment(sentinels.url(1), sentinels.url(0), (MODEL,), None, None, None)))
            assert "Redis responds" in checks[0].what  # `gleaner doctor` asks Sentinel, too
            [gateway] = harness.of("gateway")
            assert [child.drain() for child in (gateway, *harness.of("worker"), *harness.of("courier"))] == [0] * 3
    finally:
        harness.close()
        for server in (master, replica):
            server.stop()


def _start(harness: ServiceHarness, sentinels: Sentinels) -> int:
    urls, port = sentinels.urls(), free_port()
    children = [
        harness.gateway(GLEANER_DURABILITY="replica", **urls),
        harness.worker(**urls),
        harness.courier(**urls),
    ]
    harness.start(
        "flower", "jobs.queue.flower", {"GLEANER_FLOWER_PORT": str(port), "GLEANER_FLOWER_PASSWORD": "pw", **urls}
    )
    for child in children:
        child.wait_ready()
    return port


def _fail_over(harness: ServiceHarness, replica: Server, sentinels: Sentinels) -> None:
    record, master = Record(harness), harness.server
    with Load(record) as load:
        load.wait(10)
        master.kill()
        accepted, harness.server = list(record.entries), replica
        wait_for(lambda: sentinels.master() == replica.port, READY_S, "Sentinel moves the master")
        wait_for(lambda: all(_ended(harness, entry.job) for entry in accepted), READY_S, "accepted work goes on")
        assert _submitted(harness) == 503  # there is no second copy now, and nothing is promised without one
        master.start(*_replica_of(replica))
        load.wait(10)
    verdict = record.verdict()
    assert verdict.clean, verdict


def _replica_of(server: Server) -> tuple[str, ...]:
    return ("--replicaof", "127.0.0.1", str(server.port))


def _ended(harness: ServiceHarness, job: str) -> bool:
    [gateway] = harness.of("gateway")
    answer = httpx.get(f"{gateway.url}/v1/jobs/{job}", timeout=10, trust_env=False)
    assert answer.status_code in (200, 503), answer.text  # never 404: the job is there once the store is
    return answer.status_code == 200 and answer.json()["status"] in ENDED


def _submitted(harness: ServiceHarness) -> int:
    [gateway] = harness.of("gateway")
    body = orjson.dumps({"labels": LABELS, "documents": [{"text": "x"}]})
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{gateway.url}/v1/jobs", content=body, headers=headers, timeout=10, trust_env=False)
    return answer.status_code


def _queues(port: int) -> set[int]:
    answer = httpx.get(
        f"http://127.0.0.1:{port}/api/queues/length", auth=("gleaner", "pw"), timeout=10, trust_env=False
    )
    return {queue["messages"] for queue in answer.json()["active_queues"]}
