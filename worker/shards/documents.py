"""Runs a claimed shard's documents: cut -> micro-batches -> merge, together with other shards' or alone.

Wherever the work is, it ends within seconds of its lease: every loop looks at it (`worker.shards.bounds.Budget`),
and so does every wait.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from threading import Lock

from jobs.observability.logs import log_failure
from jobs.schema import (
    DEFAULT_THRESHOLD,
    Document,
    DocumentError,
    DocumentErrorCode,
    DocumentResult,
    Labels,
    Options,
)
from worker.batching.batcher import MicroBatcher
from worker.protocols import Dropped, Outcome, ShardRef, Tokenizer, Window
from worker.shards.bounds import Budget, Limits, TooCostlyError
from worker.shards.crash_suspects import Blame
from worker.shards.isolation import LOOK_S, Gate
from worker.shards.leases import Lease
from worker.shards.progress import Progress
from worker.text import merging, windows
from worker.text.merging import Findings
from worker.text.prompts import remembering

log = logging.getLogger(__name__)

CHUNK_TOKENS = 16 * 1024
"""Tokens of a shard's windows that are made and submitted at once, at least: many micro-batches' worth."""
ALONE_TOKENS = 2 * 1024
"""The same for a shard that runs alone, and holds others up."""
CHUNKS_AHEAD = 2
"""Chunks of a shard that wait or run: while the last of one run, the model finds the next."""
HEAVY_CHARACTERS = 64 * 1024
HEAVY_SPANS = 5000
"""Documents of more are cut and merged one after the other: together they would take no less time, since threads
share the interpreter, but all of their memory, and other documents' turns."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a shard asks for.

    Attributes:
        redact_key: the tenant's, for redaction to tokens.
        attempts: how often the shard was begun.
        default_threshold: where neither options nor a document's own name one.
    """

    owner: ShardRef
    documents: Sequence[Document]
    labels: Labels
    options: Options
    redact_key: bytes | None
    attempts: int
    tenant: str = ""
    interactive: bool = False
    default_threshold: float = DEFAULT_THRESHOLD


@dataclass(slots=True)
class _Running:
    """A document on its way."""

    plan: windows.Plan
    budget: Budget
    findings: Findings


class DocumentRunner:
    """Runs documents through cut, model and merge.

    Args:
        batcher: runs windows.
        tokenizer: the model's.
        blame: where shards are written down before their texts can do harm.
        gate: keeps others away from a shard that runs alone.
        progress: where threads say that they have not come to a stop.
        limits: what a document's result may need.
        budget_s: processor seconds that a document may take outside the model.
        close_reading: read long documents sentence by sentence, too.
        stage: times a block as a stage of the worker's metrics.
    """

    def __init__(
        self,
        batcher: MicroBatcher,
        tokenizer: Tokenizer,
        blame: Blame,
        gate: Gate,
        progress: Progress,
        *,
        limits: Limits,
        budget_s: float,
        close_reading: bool = True,
        stage: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        self._batcher = batcher
        self._tokenizer = tokenizer
        self._ask = remembering(tokenizer)
        self._blame = blame
        self._gate = gate
        self._progress = progress
        self._limits = limits
        self._budget_s = budget_s
        self._close_reading = close_reading
        self._stage = stage
        self._heavy = Lock()

    def together(self, work: Work, lease: Lease) -> list[DocumentResult]:
        """Run documents in whatever company the micro-batcher finds for them.

        Raises:
            Dropped: the lease ended.
            EngineBroken: the device is lost.
        """
        owner = work.owner

        def look() -> None:
            self._look(lease)
            if not self._gate.open:
                self._blame.leave(owner)
                self._progress.rest()
                self._gate.step_aside(lease)
                self._blame.enter({owner})
                self._progress.tick()

        try:
            with self._at_work(owner, lease), self._stage("cut"):
                running = []
                for document in work.documents:
                    with self._one_by_one(len(document.text) > HEAVY_CHARACTERS, look):
                        running.append(self._cut(document, work, look))
            self._blame.leave(owner)  # until its first forward
            _, in_model = self._batcher.held
            if in_model:  # which may be a while
                self._blame.tidy()
            with self._stage("wait"):
                chunk_tokens = max(CHUNK_TOKENS, 2 * self._batcher.budget)
                for chunk in self._finished(work, running, lease, chunk_tokens):
                    self._gather(chunk)
            with self._at_work(owner, lease), self._stage("merge"):
                results: list[DocumentResult] = []
                left = self._limits.shard_bytes
                for one in running:
                    with self._one_by_one(one.findings.held > HEAVY_SPANS, look):
                        results.append(self._merge(one, work.attempts, left))
                    left -= merging.size_of(results[-1])
                return results
        finally:
            self._blame.leave(owner)

    @contextmanager
    def alone(self, owner: ShardRef, lease: Lease) -> Iterator[None]:
        """Let nothing else be at risk in this process during the block, in which the shard is not yet.

        Raises:
            Dropped: the lease ended.
        """
        with self._gate.alone(lease), self._batcher.exclusively(lambda: bool(lease.ended)):
            self._blame.only(owner)
            try:
                yield
            finally:
                self._blame.leave(owner)

    def one(self, work: Work, document: Document, lease: Lease, most_bytes: int) -> DocumentResult:
        """Run a document with nothing else at risk. Others have their turns between its parts.

        Raises:
            Dropped: the lease ended.
            EngineBroken: the device is lost.
        """

        def look() -> None:
            self._look(lease)

        with self.alone(work.owner, lease), self._progress.working():
            running = self._cut(document, work, look)
        waiting = self._chunks([running], ALONE_TOKENS)
        chunk = next(waiting, None)
        while chunk is not None:
            with self.alone(work.owner, lease):
                while chunk is not None and not self._gate.turn_over:
                    if lease.ended:
                        raise Dropped
                    solo = [window for window, _ in chunk]
                    future = self._batcher.submit(work.owner.job_id, solo, tenant=work.tenant, solo=True)
                    self._drop_if_ended(work.owner, lease)
                    self._gather((future.result(), chunk))
                    chunk = next(waiting, None)
        with self.alone(work.owner, lease), self._progress.working():
            return self._merge(running, work.attempts, most_bytes)

    def _look(self, lease: Lease) -> None:
        if lease.ended:
            raise Dropped
        self._progress.tick()

    @contextmanager
    def _at_work(self, owner: ShardRef, lease: Lease) -> Iterator[None]:
        with self._gate.company(lease):
            self._blame.enter({owner})
            with self._progress.working():
                yield

    @contextmanager
    def _one_by_one(self, heavy: bool, look: Callable[[], None]) -> Iterator[None]:
        if not heavy:
            yield
            return
        while not self._heavy.acquire(timeout=LOOK_S):
            look()
        try:
            yield
        finally:
            self._heavy.release()

    def _cut(self, document: Document, work: Work, look: Callable[[], None]) -> _Running:
        budget = Budget(self._budget_s, look)
        try:
            with budget.running():
                plan = windows.cut_document(
                    document,
                    work.labels,
                    work.options,
                    self._tokenizer,
                    work.owner,
                    close_reading=self._close_reading,
                    redact_key=work.redact_key,
                    ask=self._ask,
                    limits=self._limits,
                    budget=budget,
                    default_threshold=work.default_threshold,
                )
        except Dropped:
            raise
        except TooCostlyError:
            plan = self._refused(document, work, self._too_costly(document))
        except Exception as error:  # noqa: BLE001  # promise 3: whatever a document does to us, it fails alone
            log_failure(log, "document.cut_failed", error, index=document.index)
            detail = "the text could not be cut into windows"
            plan = self._refused(document, work, DocumentError(DocumentErrorCode.INFERENCE_FAILED, detail))
        return _Running(plan, budget, Findings(plan))

    def _refused(self, document: Document, work: Work, error: DocumentError) -> windows.Plan:
        return windows.Plan(replace(document, text=""), work.options, work.owner, refused=error)

    def _too_costly(self, document: Document) -> DocumentError:
        log.warning("document.too_costly", extra={"index": document.index})
        detail = f"cutting the text and merging its entities took more than {self._budget_s:g} s of a processor"
        return DocumentError(DocumentErrorCode.TOO_COSTLY, detail)

    def _finished(
        self, work: Work, running: Iterable[_Running], lease: Lease, tokens: int
    ) -> Iterator[tuple[Sequence[Outcome], Sequence[tuple[Window, Findings]]]]:
        """Yield chunks of windows, in order, with their outcomes; `CHUNKS_AHEAD` of them are on their way."""
        ahead: deque[tuple[Future[tuple[Outcome, ...]], Sequence[tuple[Window, Findings]]]] = deque()
        try:
            for chunk in self._chunks(running, tokens):
                if lease.ended:
                    raise Dropped
                if len(ahead) == CHUNKS_AHEAD:
                    yield ahead[0][0].result(), ahead[0][1]
                    ahead.popleft()
                future = self._batcher.submit(
                    work.owner.job_id,
                    [window for window, _ in chunk],
                    tenant=work.tenant,
                    interactive=work.interactive,
                )
                ahead.append((future, chunk))
                self._drop_if_ended(work.owner, lease)
            while ahead:
                yield ahead[0][0].result(), ahead[0][1]
                ahead.popleft()
        finally:
            if ahead:
                self._batcher.drop(work.owner.job_id, work.owner.shard)
            for future, _ in ahead:
                future.exception()  # what of them is in the model is still this shard's

    def _drop_if_ended(self, owner: ShardRef, lease: Lease) -> None:
        """The lease may have ended before the windows were there to be dropped."""
        if lease.ended:
            self._batcher.drop(owner.job_id, owner.shard)

    def _gather(self, chunk: tuple[Sequence[Outcome], Sequence[tuple[Window, Findings]]]) -> None:
        for outcome, (_, findings) in zip(*chunk, strict=True):
            findings.add(outcome)

    @staticmethod
    def _chunks(running: Iterable[_Running], tokens: int) -> Iterator[list[tuple[Window, Findings]]]:
        chunk: list[tuple[Window, Findings]] = []
        left = tokens
        for one in running:
            for window in one.plan.windows:
                if one.findings.failed:
                    break  # it fails as a whole
                chunk.append((window, one.findings))
                left -= window.row_tokens
                if left <= 0:
                    yield chunk
                    chunk, left = [], tokens
        if chunk:
            yield chunk

    def _merge(self, one: _Running, attempts: int, most_bytes: int) -> DocumentResult:
        plan = one.plan
        try:
            with one.budget.running():
                return merging.merge_windows(plan, one.findings, attempts, one.budget, most_bytes)
        except Dropped:
            raise
        except TooCostlyError:
            error = self._too_costly(plan.document)
        except Exception as failed:  # noqa: BLE001  # promise 3, as in `_cut`
            log_failure(log, "document.merge_failed", failed, index=plan.document.index)
            error = DocumentError(DocumentErrorCode.INFERENCE_FAILED, "the windows' spans could not be merged")
        return merging.failure(plan, error, attempts)
