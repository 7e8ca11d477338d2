"""Runs a claimed shard's documents: cut -> micro-batches -> merge, batched with other shards' or isolated.

The work ends within seconds of its lease: every loop checks it (`worker.text.bounds.Budget`), and so does every
wait.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from time import monotonic

from jobs.observability.logs import log_failure
from jobs.observability.metrics import WorkerMetrics
from jobs.schema import Document, DocumentError, DocumentErrorCode, DocumentResult
from worker.batching.batcher import MicroBatcher
from worker.protocols import Dropped, Outcome, ShardRef, Tokenizer, Window
from worker.shards.heartbeats import Heartbeats
from worker.shards.isolation import LEASE_CHECK_S, Gate
from worker.shards.leases import Lease
from worker.shards.shards_at_risk import ShardsAtRisk
from worker.text import merging, windows
from worker.text.bounds import Budget, TooCostlyError
from worker.text.merging import Findings
from worker.text.prompts.formats import cache_prompts
from worker.text.windows import CutRules, JobContext

log = logging.getLogger(__name__)

CHUNK_TOKENS = 16 * 1024
"""Tokens of a shard's windows that are made and submitted together, at least: many micro-batches' worth."""
ISOLATED_CHUNK_TOKENS = 2 * 1024
"""The same for an isolated shard, which keeps other shards waiting."""
CHUNKS_AHEAD = 2
"""Chunks of a shard that wait or run: the next is ready when the last windows of one run."""
HEAVY_CHARACTERS = 64 * 1024
HEAVY_SPANS = 5000
"""Larger documents are cut and merged one at a time: in parallel they would take no less time, since threads share
the interpreter, but more memory, and time of other documents."""

Chunk = Sequence[tuple[Window, Findings]]


@dataclass(frozen=True, slots=True)
class Work:
    """The documents of a shard that are to be run, with their job's tasks and options.

    Attributes:
        attempts: number of times the shard was begun.
    """

    context: JobContext
    documents: Sequence[Document]
    attempts: int
    tenant: str = ""
    interactive: bool = False

    @property
    def owner(self) -> ShardRef:
        """The shard."""
        return self.context.owner


@dataclass(slots=True)
class _Running:
    """A document between cutting and merging."""

    plan: windows.Plan
    budget: Budget
    findings: Findings


@dataclass(eq=False, kw_only=True)
class DocumentRunner:
    """Runs documents through cutting, model and merging.

    Args:
        batcher: runs windows.
        tokenizer: the model's.
        at_risk: records shards before their texts can do harm.
        metrics: receives the durations of the stages.
        heartbeats: of the working threads.
        rules: limits of a document, and whether it is also read sentence by sentence.
        budget_s: processor seconds that a document may take outside the model.

    Attributes:
        gate: separates isolated shards from all others.
    """

    batcher: MicroBatcher
    tokenizer: Tokenizer
    at_risk: ShardsAtRisk
    metrics: WorkerMetrics
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    rules: CutRules = field(default_factory=CutRules)
    budget_s: float = 10.0

    def __post_init__(self) -> None:
        self.gate = Gate(self.budget_s)
        self.rules = replace(self.rules, encode_prompts=cache_prompts(self.tokenizer))
        self._heavy = Lock()

    def run_batched(self, work: Work, lease: Lease) -> list[DocumentResult]:
        """Run documents in micro-batches together with those of other shards.

        Raises:
            Dropped: the lease ended.
            EngineBroken: the device is lost.
        """
        owner = work.owner

        def check() -> None:
            self._check_lease(lease)
            if not self.gate.is_open:
                self.at_risk.discard(owner)
                self.heartbeats.pause()
                self.gate.yield_turn(lease)
                self.at_risk.add({owner})
                self.heartbeats.beat()

        try:
            with self._at_risk(owner, lease), self.time_stage("cut"):
                running = []
                for document in work.documents:
                    with self._serialize_if(len(document.text) > HEAVY_CHARACTERS, check):
                        running.append(self._cut_document(document, work.context, check))
            self.at_risk.discard(owner)  # until its first forward pass
            _, in_model = self.batcher.window_counts
            if in_model:  # which may take a while
                self.at_risk.flush()
            with self.time_stage("wait"):
                chunk_tokens = max(CHUNK_TOKENS, 2 * self.batcher.budget)
                for outcomes, chunk in self._run_chunks(work, running, lease, chunk_tokens):
                    _collect(outcomes, chunk)
            with self._at_risk(owner, lease), self.time_stage("merge"):
                results: list[DocumentResult] = []
                free_bytes = self.rules.limits.shard_bytes
                for item in running:
                    with self._serialize_if(item.findings.span_count > HEAVY_SPANS, check):
                        results.append(self._merge_document(item, work.attempts, free_bytes))
                    free_bytes -= merging.estimate_bytes(results[-1])
                return results
        finally:
            self.at_risk.discard(owner)

    def run_isolated(self, work: Work, document: Document, lease: Lease, max_bytes: int) -> DocumentResult:
        """Run a document with nothing else at risk; other shards have their turns between its steps.

        Raises:
            Dropped: the lease ended.
            EngineBroken: the device is lost.
        """
        check = partial(self._check_lease, lease)
        with self._isolate(work.owner, lease), self.heartbeats.track_thread():
            running = self._cut_document(document, work.context, check)
        chunks = _split_chunks([running], ISOLATED_CHUNK_TOKENS)
        chunk = next(chunks, None)
        while chunk is not None:
            with self._isolate(work.owner, lease):
                while chunk is not None and not self.gate.is_turn_over:
                    if lease.end_reason:
                        raise Dropped
                    _collect(self._submit(work, chunk, lease, isolated=True).result(), chunk)
                    chunk = next(chunks, None)
        with self._isolate(work.owner, lease), self.heartbeats.track_thread():
            return self._merge_document(running, work.attempts, max_bytes)

    @contextmanager
    def time_stage(self, stage: str) -> Iterator[None]:
        """Time the block as a stage of the worker's metrics."""
        started = monotonic()
        yield
        self.metrics.stage.labels(stage).observe(monotonic() - started)

    @contextmanager
    def _isolate(self, owner: ShardRef, lease: Lease) -> Iterator[None]:
        """Let nothing but the shard be at risk in this process during the block.

        Raises:
            Dropped: the lease ended.
        """
        with self.gate.isolated(lease), self.batcher.run_isolated_only(lambda: bool(lease.end_reason)):
            self.at_risk.set_only(owner)
            try:
                yield
            finally:
                self.at_risk.discard(owner)

    @contextmanager
    def _at_risk(self, owner: ShardRef, lease: Lease) -> Iterator[None]:
        with self.gate.shared(lease):
            self.at_risk.add({owner})
            with self.heartbeats.track_thread():
                yield

    @contextmanager
    def _serialize_if(self, heavy: bool, check: Callable[[], None]) -> Iterator[None]:
        """Run the block one at a time if the document is heavy."""
        if not heavy:
            yield
            return
        while not self._heavy.acquire(timeout=LEASE_CHECK_S):
            check()
        try:
            yield
        finally:
            self._heavy.release()

    def _check_lease(self, lease: Lease) -> None:
        if lease.end_reason:
            raise Dropped
        self.heartbeats.beat()

    def _cut_document(self, document: Document, context: JobContext, check: Callable[[], None]) -> _Running:
        budget = Budget(self.budget_s, check)
        try:
            with budget.spend():
                plan = windows.cut_document(document, context, self.tokenizer, self.rules, budget)
        except Dropped:
            raise
        except TooCostlyError:
            plan = _failed_plan(document, context, self._too_costly(document))
        except Exception as error:  # noqa: BLE001  # a bad document fails alone
            log_failure(log, "document.cut_failed", error, index=document.index)
            detail = "the text could not be cut into windows"
            plan = _failed_plan(document, context, DocumentError(DocumentErrorCode.INFERENCE_FAILED, detail))
        return _Running(plan, budget, Findings(plan))

    def _too_costly(self, document: Document) -> DocumentError:
        log.warning("document.too_costly", extra={"index": document.index})
        detail = f"cutting the text and merging its entities took more than {self.budget_s:g} s of a processor"
        return DocumentError(DocumentErrorCode.TOO_COSTLY, detail)

    def _run_chunks(
        self, work: Work, running: Iterable[_Running], lease: Lease, tokens: int
    ) -> Iterator[tuple[Sequence[Outcome], Chunk]]:
        """Yield the outcomes of chunks of windows, in order, while `CHUNKS_AHEAD` chunks wait or run."""
        ahead: deque[tuple[Future[tuple[Outcome, ...]], Chunk]] = deque()
        try:
            for chunk in _split_chunks(running, tokens):
                if lease.end_reason:
                    raise Dropped
                if len(ahead) == CHUNKS_AHEAD:
                    yield ahead[0][0].result(), ahead[0][1]
                    ahead.popleft()
                ahead.append((self._submit(work, chunk, lease), chunk))
            while ahead:
                yield ahead[0][0].result(), ahead[0][1]
                ahead.popleft()
        finally:
            if ahead:
                self.batcher.drop(work.owner.job_id, work.owner.shard)
            for future, _ in ahead:
                future.exception()  # windows in the model still belong to this shard: wait for them

    def _submit(
        self, work: Work, chunk: Chunk, lease: Lease, *, isolated: bool = False
    ) -> Future[tuple[Outcome, ...]]:
        future = self.batcher.submit(
            work.owner.job_id,
            [window for window, _ in chunk],
            tenant=work.tenant,
            interactive=work.interactive and not isolated,
            isolated=isolated,
        )
        if lease.end_reason:  # before the windows were there to be dropped
            self.batcher.drop(work.owner.job_id, work.owner.shard)
        return future

    def _merge_document(self, running: _Running, attempts: int, max_bytes: int) -> DocumentResult:
        plan = running.plan
        try:
            with running.budget.spend():
                return merging.merge_windows(plan, running.findings, attempts, running.budget, max_bytes)
        except Dropped:
            raise
        except TooCostlyError:
            error = self._too_costly(plan.document)
        except Exception as problem:  # noqa: BLE001  # a bad document fails alone
            log_failure(log, "document.merge_failed", problem, index=plan.document.index)
            error = DocumentError(DocumentErrorCode.INFERENCE_FAILED, "the windows' spans could not be merged")
        return merging.failed_result(plan, error, attempts)


def _failed_plan(document: Document, context: JobContext, error: DocumentError) -> windows.Plan:
    return windows.Plan(replace(document, text=""), context.options, context.owner, error=error)


def _split_chunks(running: Iterable[_Running], tokens: int) -> Iterator[Chunk]:
    chunk: list[tuple[Window, Findings]] = []
    free_tokens = tokens
    for item in running:
        for window in item.plan.windows:
            if item.findings.failed:
                break  # the document fails as a whole
            chunk.append((window, item.findings))
            free_tokens -= window.row_tokens
            if free_tokens <= 0:
                yield chunk
                chunk, free_tokens = [], tokens
    if chunk:
        yield chunk


def _collect(outcomes: Sequence[Outcome], chunk: Chunk) -> None:
    for outcome, (_, findings) in zip(outcomes, chunk, strict=True):
        findings.add(outcome)
