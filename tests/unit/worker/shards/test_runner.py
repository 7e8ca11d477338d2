from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest

from jobs import ledger, naming
from jobs.codec import CodecError
from jobs.ledger import LedgerUnavailableError
from jobs.queue import celery_queues
from jobs.schema import Document, DocumentErrorCode, DocumentStatus, JobStatus, Priority
from jobs.tasks import Classification, RelationType, Tasks
from tests.support.engine import ALL_TASKS, FakeEngine, FaultWord
from tests.support.intake import InProcessWorker, running_worker
from tests.support.ledger import MODEL
from worker.protocols import Dropped, EngineBroken, Window
from worker.text import merging, windows
from worker.text.bounds import Budget

QUEUE = naming.queue_name(MODEL, Priority.STANDARD)


@pytest.fixture
def worker(ledger_url: str, broker_url: str) -> Iterator[InProcessWorker]:
    """Return a worker with the fake engine."""
    with running_worker(ledger_url, broker_url, FakeEngine()) as running:
        yield running


def test_a_message_becomes_a_finished_shard(worker: InProcessWorker) -> None:
    """Claim, cut, run, merge, store: the job is done, its input gone."""
    message = worker.submit("job_1", "Anna of Berlin", "nobody")
    assert worker.runner.extract_shard(message) == "stored"
    first, second = worker.results("job_1")
    assert [entity.text for entity in first.entities] == ["Anna", "Berlin"]
    assert (second.status, second.entities) == (DocumentStatus.SUCCEEDED, ())
    assert worker.get_job("job_1").status is JobStatus.SUCCEEDED
    assert worker.runner.extract_shard(message) == "gone"


def test_all_tasks_of_a_job_are_answered(ledger_url: str, broker_url: str) -> None:
    """A document that names others gets those; one that the model cannot do fails the document alone."""
    tone = Classification(labels={"good": None, "excellent": None})
    tasks = Tasks({"person": None}, {"knows": RelationType()}, {"tone": tone})
    plain = Document(1, "1", "Anna met Bo", relations={}, classifications={})
    with running_worker(ledger_url, broker_url, FakeEngine(ALL_TASKS)) as worker:
        worker.runner.extract_shard(worker.submit("job_1", "Anna met Bo", plain, tasks=tasks))
        both, entities = worker.results("job_1")
        assert [relation[:3] for relation in both.relations or ()] == [("knows", 0, 1)]
        assert [answer.label for answer in (both.classifications or {})["tone"]] == ["excellent", "good"]
        assert len(entities.entities) == 2
        assert (entities.relations, entities.classifications) == (None, None)
    with running_worker(ledger_url, broker_url, FakeEngine()) as worker:
        worker.runner.extract_shard(worker.submit("job_2", "Anna met Bo", plain, tasks=tasks))
        refused, entities = worker.results("job_2")
        assert refused.error is not None
        assert refused.error.code is DocumentErrorCode.UNSUPPORTED_TASK
        assert entities.status is DocumentStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("options", "overrides", "thresholds"),
    [
        ({}, None, (0.3, 0.3)),
        ({"threshold": 0.5}, None, (0.5, 0.5)),
        ({"threshold": {"city": 0.9}}, None, (0.3, 0.9)),
        ({"threshold": 0.6}, {"threshold": {"city": 0.9}}, (0.3, 0.9)),
        ({"flat": False}, {"explain": True}, (0.3, 0.3)),
    ],
)
def test_the_model_s_default_threshold_is_for_what_names_none(
    ledger_url: str,
    broker_url: str,
    options: dict[str, Any],
    overrides: dict[str, Any] | None,
    thresholds: tuple[float],
) -> None:
    """For a whole job, for labels without one, under a document's own options; the job says which it was."""
    engine = FakeEngine()
    with running_worker(ledger_url, broker_url, engine, default_threshold=0.3) as worker:
        document = Document(0, "0", "Anna of Berlin", options=overrides)
        message = worker.submit("job_1", document, labels={"person": None, "city": None}, options=options)
        worker.runner.extract_shard(message)
        assert worker.get_job("job_1").default_threshold == 0.3
    assert engine.forwards[-1][0].thresholds == thresholds


@pytest.mark.parametrize("script", ["claim_shard", "complete_shard"])
def test_a_lost_reply_is_asked_for_again(worker: InProcessWorker, script: str) -> None:
    """The same claim is the same lease, and the same result is stored once: nothing runs twice."""
    message = worker.submit("job_1", "Anna")
    worker.store.lose = {script: 2}
    assert worker.runner.extract_shard(message) == ("already" if script == "complete_shard" else "stored")
    assert worker.results("job_1")[0].attempts == 1
    assert worker.get_job("job_1").counts.succeeded == 1


def test_a_result_waits_for_the_store(worker: InProcessWorker) -> None:
    """The message is not acked (the task does not return) before the result is stored."""
    message = worker.submit("job_1", "Anna")
    down = Event()

    def fail() -> None:
        if not down.is_set():
            worker.store.before["complete_shard"] = fail
            raise LedgerUnavailableError("complete_shard")

    worker.store.before["complete_shard"] = fail
    answers: list[str] = []
    thread = Thread(target=lambda: answers.append(worker.runner.extract_shard(message)))
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    down.set()
    thread.join(5)
    assert answers == ["stored"]


@pytest.mark.parametrize("script", ["claim_shard", "complete_shard"])
def test_a_drain_ends_the_wait_for_the_store(worker: InProcessWorker, script: str) -> None:
    """Once the process must end, a shard is left to its lease instead of holding the process up."""
    message = worker.submit("job_1", "Anna")
    worker.store.lose = {script: 1000}
    worker.must_end.set()
    assert worker.runner.extract_shard(message) == "left"


def test_a_lease_that_ends_just_before_the_windows_are_there(worker: InProcessWorker) -> None:
    """Between the last look and the submission nothing is waiting that could be dropped; it is dropped after it."""
    message = worker.submit("job_1", "Anna")
    submit = worker.batcher.submit

    def late(*args: Any, **kwargs: Any) -> Any:
        worker.leases.end_all()
        with worker.batcher._changed:  # the model thread does not get there first
            future = submit(*args, **kwargs)
            worker.batcher.drop("job_1", 0)
            return future

    worker.batcher.submit = late  # type: ignore[method-assign]
    assert worker.runner.extract_shard(message) == "released"
    assert worker.get_job("job_1").counts.queued == 1


def test_a_shard_taken_while_giving_back_goes_back(worker: InProcessWorker) -> None:
    """A message that arrives during the last moments is not lost for a lease: released, pushed, no attempt."""
    message = worker.submit("job_1", "Anna")
    worker.leases.end_all()
    assert worker.runner.extract_shard(message) == "released"
    assert celery_queues.queue_length(worker.runner.broker, QUEUE) == 1
    claim = worker.store.run(ledger.claim_shard(message, "n", "other", "fake"))
    assert (claim.kind, claim.attempts) == ("run", 1)


def test_a_cancelled_job_is_dropped(worker: InProcessWorker) -> None:
    """A cancel that is learnt of while the texts are cut ends the shard without a forward pass."""
    message = worker.submit("job_1", "Anna")

    def cancelled(*args: Any) -> Any:
        worker.store.run(ledger.cancel_job("job_1"))
        worker.leases.renew_leases()
        raise Dropped

    worker.runner._decode_shard = cancelled  # type: ignore[method-assign]
    assert worker.runner.extract_shard(message) == "cancelled"
    assert worker.get_job("job_1").status is JobStatus.CANCELLED


@pytest.mark.parametrize("step", ["cut_document", "merge_windows"])
def test_a_bug_that_one_document_meets_is_its_own(
    worker: InProcessWorker, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever a document does to the pure code around the model, its neighbours succeed."""
    module = windows if step == "cut_document" else merging
    real = getattr(module, step)

    def faulty(first: Any, *args: Any, **kwargs: Any) -> Any:
        document = first if step == "cut_document" else first.document
        if document.text == "poison" and not getattr(first, "error", None):
            raise ZeroDivisionError
        return real(first, *args, **kwargs)

    monkeypatch.setattr(module, step, faulty)
    assert worker.runner.extract_shard(worker.submit("job_1", "Anna", "poison", "Otto")) == "stored"
    codes = [result.error and result.error.code for result in worker.results("job_1")]
    assert codes == [None, DocumentErrorCode.INFERENCE_FAILED, None]


def test_a_lost_device_is_reported_once_it_is_met(worker: InProcessWorker) -> None:
    """The process is to end; the shard stays claimed, so that its lease puts the suspects where it belongs."""
    message = worker.submit("job_1", f"{FaultWord.broken}")
    with pytest.raises(EngineBroken):
        worker.runner.extract_shard(message)
    assert worker.broken == [True]
    assert worker.crash_suspects() == {b"job_1:0"}
    assert worker.get_job("job_1").counts.running == 1


def test_a_shard_that_cannot_be_read_is_no_suspect(worker: InProcessWorker) -> None:
    """A missing key kills nobody: its lease runs out in a living worker, and no document is convicted for that."""
    message = worker.submit("job_1", "Anna")
    worker.client.hset("{gleaner}:in:job_1", "0", b"unreadable")
    with pytest.raises(CodecError):
        worker.runner.extract_shard(message)
    assert worker.crash_suspects() == set()


def test_a_shard_is_at_risk_from_its_first_text_on(worker: InProcessWorker) -> None:
    """The ledger knows of a shard before its texts are cut, not only before they are in the model."""
    seen: list[set[bytes]] = []
    cut = worker.runner.documents._cut_document

    def record_suspects(*args: Any) -> Any:
        seen.append(worker.crash_suspects())
        return cut(*args)

    worker.runner.documents._cut_document = record_suspects  # type: ignore[method-assign]
    worker.runner.extract_shard(worker.submit("job_1", "Anna"))
    assert seen == [{b"job_1:0"}]
    assert worker.crash_suspects() == set()


def test_a_suspect_goes_on_where_it_died(worker: InProcessWorker) -> None:
    """Results kept before the death stand; the rest runs document by document."""
    message = worker.crash_workers(worker.submit("job_1", "Anna", "Otto", "Rio"), deaths=2, at=1)
    assert worker.runner.extract_shard(message) == "stored"
    assert [result.attempts for result in worker.results("job_1")] == [77, 3, 3]
    assert worker.client.keys("{gleaner}:part:*") == []


def test_the_document_that_killed_three_times_alone_is_given_up(worker: InProcessWorker) -> None:
    """worker_lost for it, results for its neighbours, and its text is never touched again."""
    message = worker.crash_workers(worker.submit("job_1", "Anna", f"{FaultWord.exit}", "Rio"), deaths=4, at=1)
    assert worker.runner.extract_shard(message) == "stored"
    codes = [result.error and result.error.code for result in worker.results("job_1")]
    assert codes == [None, DocumentErrorCode.WORKER_LOST, None]


def test_a_death_after_the_last_document_is_nobodys(worker: InProcessWorker) -> None:
    """Once every document of a suspect is kept, a death before the result is stored convicts none of them."""
    message = worker.crash_workers(worker.submit("job_1", "Anna"), deaths=1)
    worker.store.lose = {"complete_shard": 1000}
    worker.must_end.set()
    assert worker.runner.extract_shard(message) == "left"
    record = worker.client.hget("{gleaner}:sh:job_1", "0")
    assert record is not None
    fields = record.decode().split("|")
    assert (fields[0], fields[5]) == ("d", "1")  # stored, its reply lost; `at` is past the last document


def test_a_suspect_that_takes_long_leaves_the_worker_to_others_in_between(ledger_url: str, broker_url: str) -> None:
    """Alone for a turn at a time: others get theirs, and at no moment is anybody at risk next to it."""
    engine = FakeEngine(seconds_per_forward=0.02)
    with running_worker(ledger_url, broker_url, engine, budget_s=0.2) as worker:
        suspect = worker.crash_workers(worker.submit("job_1", "Anna went. " * 250, "Otto"), deaths=1)
        messages = [worker.submit(f"job_2{at}", "Rio", "Lima", tenant=f"other{at}") for at in range(3)]
        seen: list[tuple[set[str], set[bytes]]] = []
        forward = engine.forward

        def record_suspects(batch: tuple[Window, ...]) -> tuple[Window, ...]:
            seen.append(({window.owner.job_id for window in batch}, worker.crash_suspects()))
            return forward(batch)

        engine.forward = record_suspects  # type: ignore[method-assign]
        with ThreadPoolExecutor() as pool:
            slow = pool.submit(worker.runner.extract_shard, suspect)
            while not seen:
                pass
            began = monotonic()
            for message in messages:
                assert pool.submit(worker.runner.extract_shard, message).result(20) == "stored"
            assert monotonic() - began < 5
            assert not slow.done()
            assert slow.result(60) == "stored"
    assert [result.status for result in worker.results("job_1")] == [DocumentStatus.SUCCEEDED] * 2
    for jobs_in_model, at_risk in seen:
        assert at_risk == {f"{job}:0".encode() for job in jobs_in_model}


def budget_of(args: Any) -> Budget:
    """Return the budget among a call's arguments."""
    return next(argument for argument in args if isinstance(argument, Budget))


@pytest.mark.parametrize("deaths", [0, 1])
@pytest.mark.parametrize("where", ["cut_document", "wait", "merge_windows"])
def test_work_ends_with_its_lease_wherever_it_is(
    ledger_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch, where: str, deaths: int
) -> None:
    """A cancel ends a shard, suspect or not, in cutting, in the model, and in merging; and the next one runs."""
    reached = Event()

    def spin(*args: Any) -> Any:
        reached.set()
        while True:
            budget_of(args).check()

    with running_worker(ledger_url, broker_url, FakeEngine(seconds_per_forward=0.01), budget_s=60) as worker:
        if where != "wait":
            monkeypatch.setattr(windows if where == "cut_document" else merging, where, spin)
        message = worker.crash_workers(
            worker.submit("job_1", "Anna went. " * (3000 if where == "wait" else 150)), deaths=deaths
        )
        with ThreadPoolExecutor() as pool:
            running = pool.submit(worker.runner.extract_shard, message)
            while (not reached.is_set() and where != "wait") or (
                not worker.batcher.window_counts[1] and where == "wait"
            ):
                pass
            worker.store.run(ledger.cancel_job("job_1"))
            worker.leases.renew_leases()
            began = monotonic()
            assert running.result(10) == "cancelled"
            assert monotonic() - began < 2
        monkeypatch.undo()
        assert worker.batcher.window_counts == (0, 0)
        assert worker.runner.extract_shard(worker.submit("job_2", "Anna")) == "stored"
        assert worker.crash_suspects() == set()


@pytest.mark.parametrize("deaths", [0, 1])
@pytest.mark.parametrize("step", ["cut_document", "merge_windows"])
def test_a_document_over_its_budget_fails_alone(
    ledger_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch, step: str, deaths: int
) -> None:
    """Too costly, in company or alone, where its neighbours succeed."""
    module = windows if step == "cut_document" else merging
    real = getattr(module, step)

    def costly(first: Any, *args: Any, **kwargs: Any) -> Any:
        document = first if step == "cut_document" else first.document
        while document.text == "costly":
            budget_of(args).check()
        return real(first, *args, **kwargs)

    monkeypatch.setattr(module, step, costly)
    with running_worker(ledger_url, broker_url, FakeEngine(), budget_s=0.1) as worker:
        message = worker.crash_workers(worker.submit("job_1", "Anna", "costly", "Otto"), deaths=deaths)
        assert worker.runner.extract_shard(message) == "stored"
        codes = [result.error and result.error.code for result in worker.results("job_1")]
        assert codes == [None, DocumentErrorCode.TOO_COSTLY, None]


def test_heavy_documents_are_cut_one_after_the_other(worker: InProcessWorker) -> None:
    """Threads share an interpreter: at once they would only take more memory, and others' turns."""
    most = now = 0
    cut = windows.cut_document

    def counted(document: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal most, now
        now += 1
        most = max(most, now)
        try:
            return cut(document, *args, **kwargs)
        finally:
            now -= 1

    messages = [worker.submit(f"job_{at}", "so it went on. " * 6000, tenant=f"t{at}") for at in range(4)]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(windows, "cut_document", counted)
        assert [*pool.map(worker.runner.extract_shard, messages)] == ["stored"] * 4
    assert most == 1
