"""A shard's documents through cutting, micro-batches and merging, without a ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from jobs.ledger import Message
from jobs.observability.metrics import WorkerMetrics
from jobs.schema import Document, DocumentErrorCode, DocumentResult, DocumentStatus
from jobs.tasks import Tasks
from tests.support.engine import FakeEngine, FaultWord, small_engine
from worker.batching.batcher import MicroBatcher
from worker.protocols import Dropped, Engine, Failed, ShardRef, Span
from worker.shards import documents
from worker.shards.documents import DocumentRunner, Work
from worker.shards.leases import Lease
from worker.shards.shards_at_risk import ShardsAtRisk
from worker.text import merging, windows
from worker.text.bounds import Budget
from worker.text.merging import Findings
from worker.text.windows import JobContext, cut_document

OWNER = ShardRef("job", 0)
LABELS = {"person": None, "place": None}
CONTEXT = JobContext(OWNER, Tasks(LABELS))
LONG = "Ada met Bob in Rome. " * 30


class Risks:
    """The list of shards at risk in the ledger."""

    def __init__(self) -> None:
        self.shards: set[ShardRef] = set()

    def write(self, added: frozenset[ShardRef], removed: frozenset[ShardRef]) -> None:
        """Change the list."""
        self.shards = self.shards - removed | added


@contextmanager
def running(engine: Engine, risks: Risks | None = None, **options: Any) -> Iterator[DocumentRunner]:
    """Run a micro-batcher, and documents through it."""
    at_risk = ShardsAtRisk((risks or Risks()).write)
    with MicroBatcher(engine, 500) as batcher, at_risk.track(OWNER):
        metrics = WorkerMetrics(CollectorRegistry())
        yield DocumentRunner(batcher=batcher, tokenizer=engine, at_risk=at_risk, metrics=metrics, **options)


def make_work(*texts: str) -> Work:
    """Return texts as the documents of a shard."""
    return Work(CONTEXT, [Document(number, str(number), text) for number, text in enumerate(texts)], attempts=3)


def make_lease() -> Lease:
    """Return a lease of the shard."""
    return Lease(Message("queue", *OWNER, 1), "nonce")


def run_isolated(runner: DocumentRunner, work: Work, lease: Lease) -> list[DocumentResult]:
    """Run the documents one by one."""
    return [runner.run_isolated(work, document, lease, 1 << 20) for document in work.documents]


def run_batched(runner: DocumentRunner, work: Work, lease: Lease) -> list[DocumentResult]:
    """Run the documents together."""
    return runner.run_batched(work, lease)


Run = Callable[[DocumentRunner, Work, Lease], list[DocumentResult]]
both_ways = pytest.mark.parametrize("run", [run_batched, run_isolated])


def test_isolated_documents_have_the_results_of_batched_ones() -> None:
    """In their order, with the shard's attempts; short ones, long ones, and one that is empty."""
    work = make_work("Ada met Bob.", LONG, "", "Nobody.")
    with running(small_engine()) as runner:
        batched, isolated = run_batched(runner, work, make_lease()), run_isolated(runner, work, make_lease())
    assert batched == isolated
    assert [result.index for result in batched] == [0, 1, 2, 3]
    assert {result.attempts for result in batched} == {3}
    assert batched[1].windows > 10
    assert [entity.text for entity in batched[0].entities] == ["Ada", "Bob"]
    assert [result.error and result.error.code for result in batched] == [None, None, "empty_text", None]


@both_ways
def test_a_document_that_fails_does_not_fail_its_neighbours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the model, while it is cut, or while it is merged; the message never quotes the text."""
    work = make_work("Ada.", f"{FaultWord.error} Secret", "Cut me", "Merge me", "Bob.")
    real_cut, real_merge = windows.cut_document, merging.merge_windows

    def cut(document: Document, *rest: Any) -> Any:
        if document.text == "Cut me":
            raise ValueError(document.text)
        return real_cut(document, *rest)

    def merge(plan: Any, *rest: Any) -> Any:
        if plan.document.text == "Merge me":
            raise ValueError(plan.document.text)
        return real_merge(plan, *rest)

    monkeypatch.setattr(windows, "cut_document", cut)
    monkeypatch.setattr(merging, "merge_windows", merge)
    with running(FakeEngine()) as runner:
        results = run(runner, work, make_lease())
    assert [result.status for result in results] == [
        DocumentStatus.SUCCEEDED, *[DocumentStatus.FAILED] * 3, DocumentStatus.SUCCEEDED
    ]  # fmt: skip
    errors = [result.error for result in results[1:4]]
    assert {error.code for error in errors if error} == {DocumentErrorCode.INFERENCE_FAILED}
    assert not any(word in str(errors) for word in ("Secret", "Cut me", "Merge me"))


@both_ways
def test_a_document_over_its_budget_is_too_costly(run: Run) -> None:
    """By the processor's time outside the model."""
    with running(small_engine(), budget_s=-1.0) as runner:
        [result] = run(runner, make_work(LONG), make_lease())
    assert result.error is not None
    assert result.error.code is DocumentErrorCode.TOO_COSTLY


@both_ways
def test_work_without_a_lease_ends(run: Run) -> None:
    """Nothing of it stays in the batcher or at risk."""
    lease, risks = make_lease(), Risks()
    lease.end_reason = "stop"
    with running(FakeEngine(), risks) as runner:
        with pytest.raises(Dropped):
            run(runner, make_work("Ada."), lease)
        assert runner.batcher.window_counts == (0, 0)
        runner.at_risk.flush()
    assert risks.shards == set()


def test_a_lease_that_ends_in_the_model_ends_the_work() -> None:
    """The windows that wait are dropped, the ones in the model are waited for: they may end the process."""
    engine, lease = FakeEngine(), make_lease()
    raised = Event()

    def run() -> None:
        with pytest.raises(Dropped):
            runner.run_batched(make_work(f"{FaultWord.hang}", "Ada."), lease)
        raised.set()

    with running(engine) as runner:
        thread = Thread(target=run)
        thread.start()
        while not engine.forwards:
            Event().wait(0.001)
        lease.end_reason = "lost"
        runner.batcher.drop(*OWNER)
        assert not raised.is_set()
        engine.hold.set()
        thread.join(10)
    assert raised.is_set()


def test_only_an_isolated_document_is_at_risk() -> None:
    """At every forward pass: the ledger has no other shard on this worker's list."""
    risks, seen = Risks(), list[set[ShardRef]]()

    class Watched(FakeEngine):
        def forward(self, batch: Any) -> Any:
            seen.append(set(risks.shards))
            return super().forward(batch)

    with running(Watched(small_engine().spec), risks) as runner:
        runner.at_risk.add({OWNER})
        runner.run_isolated(make_work(LONG), make_work(LONG).documents[0], make_lease(), 1 << 20)
    assert len(seen) > 10
    assert all(shards == {OWNER} for shards in seen)


def test_stages_are_timed() -> None:
    """Cutting, waiting for the model, merging."""
    with running(FakeEngine()) as runner:
        runner.run_batched(make_work("Ada."), make_lease())
        counts = {
            sample.labels["stage"]: sample.value
            for metric in runner.metrics.stage.collect()
            for sample in metric.samples
            if sample.name.endswith("_count")
        }
    assert {stage: counts[stage] for stage in ("cut", "wait", "merge")} == {"cut": 1, "wait": 1, "merge": 1}


def plan_documents(texts: Sequence[str]) -> list[documents._Running]:
    """Return documents that were cut."""
    engine = small_engine()
    plans = [cut_document(Document(at, str(at), text), CONTEXT, engine) for at, text in enumerate(texts)]
    return [documents._Running(plan, Budget(), Findings(plan)) for plan in plans]


@given(
    texts=st.lists(st.integers(0, 60).map(lambda words: "Ada went. " * words), max_size=6),
    tokens=st.integers(1, 500),
)
def test_chunks_have_every_window_in_order(texts: list[str], tokens: int) -> None:
    """Each but the last has at least that many tokens, and without its last window fewer."""
    prepared = plan_documents(texts)
    chunks = [*documents._split_chunks(prepared, tokens)]
    flat = [pair for chunk in chunks for pair in chunk]
    assert [window for window, _ in flat] == [window for item in prepared for window in item.plan.windows]
    assert [findings for _, findings in flat] == [item.findings for item in prepared for _ in item.plan.windows]
    for chunk in chunks:
        sizes = [window.row_tokens for window, _ in chunk]
        assert sizes
        assert sum(sizes[:-1]) < tokens
        assert sum(sizes) >= tokens or chunk is chunks[-1]


def test_a_document_that_failed_makes_no_more_windows() -> None:
    """The rest of it would be for nothing; the next document follows."""
    first, second = plan_documents([LONG, LONG])
    chunks = documents._split_chunks([first, second], 1)
    [(_, findings)] = next(chunks)
    assert findings is first.findings
    findings.add(Failed(DocumentErrorCode.INFERENCE_FAILED, "no"))
    assert next(chunks)[0][1] is second.findings
    second.findings.add((Span(0, 1, 0, 0.9),))
    assert len([*chunks]) == len(second.plan.windows) - 1
