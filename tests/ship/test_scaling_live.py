"""KEDA's query against a live ledger -> the HPA's arithmetic -> real local workers, from none to some and back."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis

from jobs import naming
from keda.hpa import DEFAULT_UP, Hpa, Keda, Policy, Rules, Scaler
from tests.support import chart
from tests.support.processes.harness import Child, ServiceHarness, wait_for

SIZE_QUERY = """
local kind = redis.call('type', KEYS[1]).ok
local ask = {zset = 'zcard', set = 'scard', list = 'llen', hash = 'hlen', none = 'llen'}
return redis.call(ask[kind], KEYS[1])
"""
"""Script of KEDA's redis scaler: the size of the key, of any type (pkg/scalers/redis_scaler.go, 2.20.2)."""
MODEL = "gleaner-small"
PASSWORD = secrets.token_hex(8)
PACE = 15.0
"""Virtual seconds in a real one: an HPA period is a second here."""
WORKERS = 3
JOBS, DOCUMENTS = 4, 480
SCALER = Scaler(
    target=8, maximum=WORKERS, cooldown_s=60, up=DEFAULT_UP, down=Rules((Policy("Pods", 1, 30),), window_s=30)
)


@pytest.fixture
def harness() -> Iterator[ServiceHarness]:
    """Run a service with no worker."""
    running = ServiceHarness()
    try:
        yield running
    finally:
        running.close()


def keda_user() -> list[str]:
    """Return the rules of the chart's user `keda`, password included."""
    [config] = [
        manifest
        for manifest in chart.select_kinds(chart.render_manifests(), "ConfigMap")
        if "start.sh" in manifest["data"]
    ]
    rules = re.search(r"^user keda (on >keda-password .*)$", config["data"]["start.sh"], re.MULTILINE)
    assert rules
    return rules[1].replace("keda-password", PASSWORD).split()


def as_keda(harness: ServiceHarness, db: int) -> redis.Redis:
    """Connect with the rights that the chart gives KEDA, by TCP as KEDA does."""
    with harness.server.client() as client:
        client.execute_command("ACL", "SETUSER", "keda", "reset", *keda_user())
    return redis.Redis.from_url(harness.server.tcp(db).replace("//", f"//keda:{PASSWORD}@"))


def size(client: redis.Redis, key: str) -> int:
    """Return the result of KEDA's query."""
    return int(client.eval(SIZE_QUERY, 1, key))


def trigger_key() -> str:
    """Return the key that the chart's worker trigger names."""
    scaled = chart.find_manifest(
        chart.render_manifests(), "ScaledObject", f"gleaner-worker-{naming.model_slug(MODEL)}"
    )
    return str(scaled["spec"]["triggers"][0]["metadata"]["listName"])


@pytest.mark.timeout(150)
def test_workers_come_from_zero_and_go_back_while_jobs_run(harness: ServiceHarness) -> None:
    """Nothing is lost, no document runs twice, every worker that is scaled away drains and exits 0."""
    gateway = harness.gateway().wait_ready()
    harness.courier().wait_ready()
    fleet = Fleet(harness)
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as client, as_keda(harness, 1) as keda:
        jobs = [submitted(client, number) for number in range(JOBS)]
        assert size(keda, trigger_key()) == JOBS * DOCUMENTS // 32
        fleet.follow(keda, until=lambda: fleet.peak >= 2 and not fleet.wanted)
        for job in jobs:
            job_json = client.get(f"/v1/jobs/{job}").json()
            assert job_json["status"] == "succeeded"
            results = client.get(f"/v1/jobs/{job}/results", params={"limit": DOCUMENTS}).json()["data"]
            assert [result["index"] for result in results] == list(range(DOCUMENTS))
            assert {result["attempts"] for result in results} == {1}
    assert fleet.exit_codes() == {0}
    assert 2 <= fleet.peak <= WORKERS


def submitted(client: httpx.Client, number: int) -> str:
    """Submit a job; return its id."""
    documents = [{"id": str(n), "text": f"Ada Lovelace met Grace Hopper, {number}.{n}."} for n in range(DOCUMENTS)]
    answer = client.post("/v1/jobs", json={"labels": ["person"], "documents": documents})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


class Fleet:
    """As many workers as KEDA and the HPA request; the youngest goes first, busy or not, as in a ReplicaSet."""

    def __init__(self, harness: ServiceHarness) -> None:
        self._house = harness
        self._keda, self._hpa = Keda(SCALER), Hpa(SCALER)
        self._staying: list[Child] = []
        self._going: list[Child] = []
        self.wanted = self.peak = 0

    def follow(self, keda: redis.Redis, until: Callable[[], bool]) -> None:
        """Look and decide in KEDA's and the HPA's rhythm until the condition holds."""
        began, polled, synced = time.monotonic(), -1, -1

        def step() -> bool:
            nonlocal polled, synced
            now = (time.monotonic() - began) * PACE
            if now // SCALER.polling_s > polled:
                polled = int(now // SCALER.polling_s)
                self._scale(self._keda.decide(now, self.wanted, size(keda, trigger_key())))
            if now // 15 > synced:
                synced = int(now // 15)
                self._scale(self._hpa.decide(now, self.wanted, size(keda, trigger_key())))
            return until()

        wait_for(step, 110, "the jobs are done and the workers gone")

    def _scale(self, wanted: int) -> None:
        self.wanted = wanted
        while len(self._staying) < wanted:
            self._staying.append(self._house.worker(TEST_PACE_S="0.002"))
        while len(self._staying) > wanted:
            worker = self._staying.pop()
            # Started and not yet ready: Kubernetes would just end it; here its exit code is to be looked at.
            worker.wait_ready()
            worker.process.terminate()
            self._going.append(worker)
        self.peak = max(self.peak, wanted)

    def exit_codes(self) -> set[int]:
        """Return the exit codes of all workers."""
        return {worker.process.wait(30) for worker in self._going}


def test_kedas_user_can_ask_for_sizes_and_nothing_else(harness: ServiceHarness) -> None:
    """The chart's ACL lets KEDA's query through for its keys, whatever they are, and refuses all else."""
    with harness.server.client(1) as ours, as_keda(harness, 1) as keda:
        key = trigger_key()
        assert size(keda, key) == 0
        ours.zadd(key, {"job_a:0": 1, "job_a:1": 2})
        ours.hset("{gleaner}:in:job_a", "0", "text")
        assert keda.ping()
        assert size(keda, key) == 2
        for command in (
            ("HGETALL", "{gleaner}:in:job_a"),
            ("ZRANGE", key, "0", "-1"),
            ("DEL", key),
            ("KEYS", "*"),
            ("CONFIG", "GET", "*"),
            ("FLUSHALL",),
            ("EVAL", "return redis.call('hgetall', KEYS[1])", "1", "{gleaner}:in:job_a"),
            ("EVAL", "return redis.call('del', KEYS[1])", "1", key),
        ):
            with pytest.raises(redis.ResponseError):
                keda.execute_command(*command)
    with harness.server.client(0) as broker, as_keda(harness, 0) as keda:
        broker.rpush("gleaner:q:gleaner.webhooks", "a", "b", "c")
        assert size(keda, "gleaner:q:gleaner.webhooks") == 3
