"""One worker process: how it starts, says how it is, drains, and ends itself when it is beyond help."""

from __future__ import annotations

import base64
import re
import signal
import time
from collections.abc import Iterator

import orjson
import pytest

from jobs import ledger
from jobs.ledger import Ledger
from jobs.schema import Job, JobStatus
from tests.support.engine import FaultWord
from tests.support.processes.harness import Child, ServiceHarness, wait_for
from tests.support.processes.worker import SLOW
from tests.support.record import MODEL, Record, some_texts


@pytest.fixture(scope="module")
def shared_harness() -> Iterator[ServiceHarness]:
    """Start Redis, a gateway and a courier; each test starts its workers."""
    harness = ServiceHarness()
    try:
        for child in (harness.gateway(), harness.courier()):
            child.wait_ready()
        yield harness
    finally:
        harness.close()


@pytest.fixture
def harness(shared_harness: ServiceHarness) -> Iterator[ServiceHarness]:
    """Return the service with an empty ledger and no worker."""
    with shared_harness.server.client() as client:
        client.flushall()
    yield shared_harness
    shared_harness.end("worker")


@pytest.fixture
def record(harness: ServiceHarness) -> Record:
    """Return a record of the jobs that the gateway accepts."""
    return Record(harness)


def view(harness: ServiceHarness, job: str) -> Job:
    """Return a job from the ledger."""
    with harness.server.client() as client:
        job_view = Ledger(client).run(ledger.read_job(job))
    assert isinstance(job_view, Job)
    return job_view


def workers(harness: ServiceHarness) -> int:
    """Workers on the model's list."""
    with harness.server.client() as client:
        return Ledger(client).run(ledger.read_models([MODEL]))[0].workers


def begin(harness: ServiceHarness, record: Record, worker: Child, *texts: str) -> str:
    """Submit a job and wait until its first text is in the model."""
    worker.wait_ready()
    job = record.submit([SLOW, *texts])
    wait_for(lambda: view(harness, job).status is JobStatus.RUNNING, 10, "the job runs")
    time.sleep(0.2)
    return job


def test_a_worker_says_how_it_is(harness: ServiceHarness) -> None:
    """Ready once it takes messages, on its model's list meanwhile, off it and exit 0 after SIGTERM."""
    worker = harness.worker()
    wait_for(lambda: worker.probe("/livez")[0] == 200, 20, "it is alive")
    worker.wait_ready()
    wait_for(lambda: workers(harness) == 1, 5, "it is on the list")
    metrics = worker.probe("/metrics")[1]
    assert "gleaner_model_ready 1.0" in metrics
    [carried] = re.findall(r"gleaner_model_info{(.+)} 1.0", metrics)
    assert f'model="{MODEL}"' in carried
    assert re.search(r'revision="[^"]+"', carried)
    assert worker.drain() == 0
    assert workers(harness) == 0


def test_sigterm_finishes_what_runs(harness: ServiceHarness, record: Record) -> None:
    """A running shard is finished, `draining` is said meanwhile, and nothing is left for an upkeep to repair."""
    worker = harness.worker()
    begin(harness, record, worker, *some_texts(record.rng, 10))
    worker.send(signal.SIGTERM)
    wait_for(lambda: worker.probe("/readyz") == (503, "draining"), 2, "it says that it drains")
    assert worker.process.wait(10) == 0
    verdict = record.verdict(1)
    assert verdict.clean
    assert verdict.rerun == 0


def test_a_message_under_way_is_on_no_list_of_the_broker_s(harness: ServiceHarness, record: Record) -> None:
    """The ledger knows which worker runs which shard; a second record would cost two round trips."""
    worker = harness.worker()
    begin(harness, record, worker)
    with harness.server.client(0) as broker:
        assert {key for key in broker.keys("gleaner:q:*") if not key.startswith(b"gleaner:q:_kombu.")} == set()
    assert record.verdict(10).clean


def test_flower_hears_of_every_task_also_in_a_drain(harness: ServiceHarness, record: Record) -> None:
    """Events go out twice a second, and the last ones with the process."""
    worker = harness.worker()
    with harness.server.client(0) as broker:
        heard = broker.pubsub(ignore_subscribe_messages=True)
        heard.psubscribe("gleaner:q:/0.celeryev/*")
        begin(harness, record, worker)
        kinds = list[str]()

        def reported(kind: str) -> bool:
            while (message := heard.get_message()) is not None:
                body = orjson.loads(base64.b64decode(orjson.loads(message["data"])["body"]))
                kinds.extend(event["type"] for event in (body if isinstance(body, list) else [body]))
            return kind in kinds

        wait_for(lambda: reported("task-started"), 2, "the task is known to have started")
        assert not reported("task-succeeded")
        assert worker.drain() == 0
        wait_for(lambda: reported("task-succeeded"), 2, "and to have ended")
        heard.close()


def test_a_drain_gives_back_what_has_not_begun(harness: ServiceHarness, record: Record) -> None:
    """If the grace is too short, unstarted shards return at once unchanged: no attempt, no suspicion."""
    worker = harness.worker(GLEANER_SHUTDOWN_GRACE_S="9", TEST_SLOW_S="2")
    begin(harness, record, worker)
    later = [record.submit(some_texts(record.rng, 5)) for _ in range(4)]
    time.sleep(0.3)
    assert worker.drain(10) == 0
    assert [view(harness, job).counts.queued for job in later] == [5, 5, 5, 5]
    harness.worker(TEST_SLOW_S="0")
    verdict = record.verdict(15)
    assert verdict.clean
    assert verdict.rerun == 0


@pytest.mark.parametrize("down", ["killed", "stopped"])
def test_sigterm_while_the_server_is_away(harness: ServiceHarness, record: Record, down: str) -> None:
    """A worker that cannot reach the store still ends within its grace, and its shard comes back by its lease."""
    worker = harness.worker(GLEANER_SHUTDOWN_GRACE_S="4", TEST_SLOW_S="0.5")
    begin(harness, record, worker)
    server = harness.server
    if down == "killed":
        server.kill()
    else:
        server.process.send_signal(signal.SIGSTOP)
    worker.send(signal.SIGTERM)
    try:
        code = worker.process.wait(6)
    finally:
        server.mend()
    assert code in (0, 75)
    harness.worker()
    assert record.verdict(20).clean


def test_a_broken_model_is_said(harness: ServiceHarness, record: Record) -> None:
    """A worker that cannot load its model exits 78; models and waiting jobs say why, until one can."""
    job = record.submit(["Anna of Berlin"])
    worker = harness.worker(TEST_LOAD_FAILS="the weights are torn")
    assert worker.process.wait(20) == 78
    with harness.server.client() as client:
        [model] = Ledger(client).run(ledger.read_models([MODEL]))
    assert model.reason == "RuntimeError: the weights are torn"
    assert view(harness, job).status_reason == "model_unavailable: RuntimeError: the weights are torn"
    harness.worker()
    assert record.verdict(15).clean
    assert view(harness, job).status is JobStatus.SUCCEEDED
    with harness.server.client() as client:
        assert Ledger(client).run(ledger.read_models([MODEL]))[0].reason is None


def test_a_hung_model_ends_the_process(harness: ServiceHarness, record: Record) -> None:
    """Liveness fails first, then the watchdog ends the process with 70."""
    worker = harness.worker(GLEANER_HANG_TIMEOUT_S="1").wait_ready()
    record.submit([f"{FaultWord.hang}"], {0: "worker_lost"})
    wait_for(lambda: worker.probe("/livez")[0] == 503, 10, "liveness fails")
    assert worker.process.wait(10) == 70


def test_a_lost_device_ends_the_process_at_once(harness: ServiceHarness, record: Record) -> None:
    """A worker without its device must not go on taking shards."""
    worker = harness.worker().wait_ready()
    record.submit([f"{FaultWord.broken}"], {0: "worker_lost"})
    assert worker.process.wait(10) == 70


def test_a_cancel_reaches_a_running_worker(harness: ServiceHarness, record: Record) -> None:
    """The pass in the model is finished, waiting windows are dropped, and the worker goes on."""
    worker = harness.worker(GLEANER_WORKER_SLOTS="2", TEST_SLOW_S="1.5")
    first = begin(harness, record, worker)
    waiting = record.submit(some_texts(record.rng, 70))
    wait_for(lambda: view(harness, waiting).counts.running, 5, "its shards are claimed")
    with harness.server.client() as client:
        assert Ledger(client).run(ledger.cancel_job(waiting)) == "cancelling"
    wait_for(lambda: view(harness, waiting).status is JobStatus.CANCELLED, 10, "the job is cancelled")
    assert view(harness, waiting).counts.cancelled > 0
    wait_for(lambda: view(harness, first).status is JobStatus.SUCCEEDED, 10, "the other job is done")
    assert worker.drain() == 0


def test_a_suspect_runs_alone_and_its_neighbours_keep_their_results(
    harness: ServiceHarness, record: Record
) -> None:
    """After a crash a shared shard runs document by document; finished ones survive the next crash."""
    texts = some_texts(record.rng, 6)
    texts[3] += f" {FaultWord.exit}"
    job = record.submit(texts, {3: "worker_lost"})
    codes = []
    for _ in range(4):
        worker = harness.worker()
        codes.append(worker.process.wait(25))
    harness.worker()
    assert record.verdict(20).clean
    assert codes == [70] * 4
    assert view(harness, job).status is JobStatus.PARTIALLY_SUCCEEDED
