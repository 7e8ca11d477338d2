"""Turns a message into a finished shard: claim -> decode -> cut -> micro-batch -> merge -> encode -> complete.

Runs in Celery's threads. The ledger decides whether the shard is to be run; the message only says that it may be.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from time import time
from typing import TypeVar

import orjson
import redis
from redis.exceptions import RedisError

from jobs import ledger
from jobs.codec import Codec
from jobs.ledger import Call, Claim, Ledger, LedgerUnavailableError, Message, associated_data
from jobs.observability.logs import bind_fields
from jobs.observability.metrics import OTHER_LABEL, WorkerMetrics
from jobs.observability.tracing import Tracer
from jobs.queue import celery_queues
from jobs.schema import (
    DEFAULT_THRESHOLD,
    Document,
    DocumentError,
    DocumentErrorCode,
    DocumentResult,
    DocumentStatus,
    Options,
)
from jobs.shards import decode_documents, decode_results, encode_documents, encode_results
from jobs.tasks import Tasks
from worker.protocols import Dropped, EngineBroken, ShardRef
from worker.shards.documents import DocumentRunner, Work
from worker.shards.leases import Lease, LeaseKeeper
from worker.shards.result_cache import CachedResults, ResultCache
from worker.text.merging import estimate_bytes
from worker.text.redaction import derive_tenant_key
from worker.text.windows import JobContext

log = logging.getLogger(__name__)
T = TypeVar("T")

ISOLATED_DEATHS = 3
"""Crashes of a process that ran one document isolated, after which the document is failed. Two were tried: of fifty
workers killed from outside within three minutes, two happened to run the same innocent document."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A claimed shard, decoded."""

    message: Message
    claim: Claim
    documents: tuple[Document, ...]
    tasks: Tasks
    options: Options
    cached: CachedResults

    @property
    def ref(self) -> ShardRef:
        """Job and number of the shard."""
        return ShardRef(self.message.job, self.message.shard)


@dataclass(eq=False, repr=False, kw_only=True)
class ShardRunner:
    """Handles the messages of the task `gleaner.extract_shard`.

    Args:
        store: the ledger, the only source of truth.
        broker: Redis to which the next shards' messages are pushed.
        documents: runs the documents of a claimed shard.
        worker: name of this process in leases.
        revision: revision of the loaded model.
        default_threshold: the model's, for jobs that this worker begins and that name none.
        must_end: set once the process must end; waiting for Redis then stops.
        on_broken: ends the process: the device is lost, and every shard it claimed would wait for its lease.
        cache: finds earlier results; None if the cache is off.
        redact_secret: secret from which every tenant's redaction key is derived; "" if there is none.
        shown_labels: entity labels that metrics may name.
        traces: filled with the trace of each shard that runs now.
    """

    store: Ledger
    broker: redis.Redis
    codec: Codec
    documents: DocumentRunner
    leases: LeaseKeeper
    metrics: WorkerMetrics
    worker: str
    revision: str
    lease_ms: int
    default_threshold: float = DEFAULT_THRESHOLD
    must_end: Event
    on_broken: Callable[[], None]
    cache: ResultCache | None = None
    redact_secret: str = ""
    shown_labels: Collection[str] = ()
    tracer: Tracer = field(default_factory=Tracer)
    traces: MutableMapping[ShardRef, str] = field(default_factory=dict)

    def extract_shard(self, message: Message) -> str:
        """Run the shard of a message; return the outcome, for the log and for Flower."""
        with bind_fields(job_id=message.job, shard=message.shard):
            nonce = secrets.token_hex(8)
            shared = self.documents.gate.is_open
            call = ledger.claim_shard(
                message,
                nonce,
                self.worker,
                self.revision,
                ledger.ClaimTerms(lease_ms=self.lease_ms, at_risk=shared, default_threshold=self.default_threshold),
            )
            try:
                claim = self._persist(call)
                if claim.kind is not ledger.ClaimOutcome.RUN:
                    log.info("shard.claim_rejected", extra={"answer": claim.kind})
                    return claim.kind
                with (
                    self.leases.hold(message, nonce) as lease,
                    self.tracer.span("shard", claim.trace, job_id=message.job, shard=message.shard) as trace,
                    self._register_trace(ShardRef(message.job, message.shard), trace),
                ):
                    return self._run_claimed(message, claim, lease, recorded=shared and not claim.isolated)
            except LedgerUnavailableError:  # and the process must end: upkeep brings the shard back
                log.warning("shard.abandoned")
                return "left"

    def _run_claimed(self, message: Message, claim: Claim, lease: Lease, *, recorded: bool) -> str:
        if message.shard == 0 and claim.attempts == 1:
            self.metrics.queue_wait.observe(max(0, claim.started - claim.created) / 1000)
        try:
            if lease.end_reason:  # claimed while the process was already giving back
                raise Dropped
            with self.documents.at_risk.track(ShardRef(message.job, message.shard), recorded=recorded):
                with self.documents.time_stage("fetch"):
                    shard = self._decode_shard(message, claim)
                results = self._run_isolated(shard, lease) if claim.isolated else self._run_batched(shard, lease)
        except Dropped:
            return self._give_back(message, lease)
        except EngineBroken:
            self.on_broken()
            raise
        except Exception:
            # The process lives: when this lease expires, the shard has crashed nothing.
            self.documents.at_risk.flush()
            raise
        return self._complete_shard(shard, lease, results)

    def _decode_shard(self, message: Message, claim: Claim) -> Shard:
        job, codec = message.job, self.codec
        opts = orjson.loads(codec.decode(claim.opts, associated_data("opts", job)))
        documents = decode_documents(codec.decode(claim.blob, associated_data("in", job, message.shard)))
        tasks, options = Tasks.from_wire(opts), Options.model_validate(opts["options"])
        cached = self.cache.look_up(claim, documents, tasks, options) if self.cache else CachedResults()
        return Shard(message, claim, documents, tasks, options, cached)

    def _run_batched(self, shard: Shard, lease: Lease) -> list[DocumentResult]:
        """Run the documents that have no cached result, in micro-batches shared with other shards."""
        documents = shard.cached.select_missing(shard.documents)
        computed = self.documents.run_batched(self._describe_work(shard, documents), lease) if documents else ()
        return shard.cached.merge_computed(computed)

    def _run_isolated(self, shard: Shard, lease: Lease) -> list[DocumentResult]:
        """Run a crash suspect document by document with nothing else at risk, and store each result."""
        job, number = shard.ref
        results = [
            result
            for at, blob in enumerate(shard.claim.partial_results)
            for result in decode_results(self.codec.decode(blob, associated_data("part", job, number, at)))
        ]
        work, encoded = self._describe_work(shard, shard.documents), b""
        for at in range(shard.claim.first_document, len(shard.documents) + 1):
            answer = self._persist(ledger.record_progress(job, number, lease.nonce, at, encoded))
            if answer is not ledger.LeaseAnswer.OK or lease.end_reason:
                raise Dropped
            if at == len(shard.documents):
                break  # the last result is stored, so that no later crash is blamed on a document
            document = shard.documents[at]
            if at == shard.claim.first_document and shard.claim.isolated_deaths >= ISOLATED_DEATHS:
                log.error("document.worker_lost", extra={"index": document.index})
                results.append(_worker_lost(document, shard.claim.attempts))
            else:
                free_bytes = self.documents.rules.limits.shard_bytes - sum(map(estimate_bytes, results))
                results.append(self.documents.run_isolated(work, document, lease, free_bytes))
            encoded = self.codec.encode(encode_results(results[-1:]), associated_data("part", job, number, at))
        return results

    def _describe_work(self, shard: Shard, documents: Sequence[Document]) -> Work:
        claim = shard.claim
        key = derive_tenant_key(self.redact_secret, claim.tenant) if self.redact_secret else None
        return Work(
            JobContext(shard.ref, shard.tasks, shard.options, key, claim.default_threshold),
            documents,
            attempts=claim.attempts,
            tenant=claim.tenant,
            interactive=shard.message.queue.endswith(".interactive"),
        )

    def _complete_shard(self, shard: Shard, lease: Lease, results: Sequence[DocumentResult]) -> str:
        job, number = shard.ref
        failed = {r.index for r in results if r.status is DocumentStatus.FAILED}
        retryable = [document for document in shard.documents if document.index in failed]
        with self.documents.time_stage("store"):
            result = ledger.ShardResult(
                self.codec.encode(encode_results(results), associated_data("out", job, number)),
                self.codec.encode(encode_documents(retryable), associated_data("in", job, number))
                if retryable
                else b"",
                len(results) - len(failed),
                len(failed),
                _sum_usage(results),
                dict(Counter(r.error.code.value for r in results if r.error)),
                shard.cached.list_new(results),
                self.cache.ttl_ms if self.cache else 0,
            )
            completed = self._persist(ledger.complete_shard(shard.message, lease.nonce, result))
        self._publish(completed.publish)
        if completed.kind is ledger.CompleteOutcome.STORED:
            self.documents.at_risk.forget(shard.ref)
            self._count_results(shard, results, completed.job_state)
        log.info(
            "shard.completed", extra={"answer": completed.kind, "documents": len(results), "failed": len(failed)}
        )
        return completed.kind

    def _give_back(self, message: Message, lease: Lease) -> str:
        """Release a shard whose job was cancelled, whose lease was lost, or whose process must end."""
        released = self._persist(ledger.release_shard(message.job, message.shard, lease.nonce))
        if released.kind is not ledger.ReturnOutcome.STALE:
            self.documents.at_risk.forget(ShardRef(message.job, message.shard))
        self._publish(released.publish)
        log.info("shard.given_back", extra={"answer": released.kind})
        return released.kind

    def _publish(self, messages: Iterable[Message]) -> None:
        pending = tuple(messages)
        if not pending:
            return
        try:
            celery_queues.push_messages(self.broker, pending)
        except (RedisError, OSError) as error:
            log.warning("publish.failed", extra={"reason": type(error).__name__, "messages": len(pending)})

    def _persist(self, call: Call[T]) -> T:
        """Run a transition until Redis answers: a result is never dropped because Redis is down or full."""
        return self.store.run_with_retries(call, self.must_end.wait)

    @contextmanager
    def _register_trace(self, owner: ShardRef, trace: str) -> Iterator[None]:
        if self.tracer.enabled:
            self.traces[owner] = trace
        try:
            yield
        finally:
            self.traces.pop(owner, None)

    def _count_results(self, shard: Shard, results: Sequence[DocumentResult], job_state: str) -> None:
        outcomes = Counter((r.status.value, r.error.code.value if r.error else "ok") for r in results)
        for outcome, count in outcomes.items():
            self.metrics.documents.labels(*outcome).inc(count)
        scores: defaultdict[str, list[float]] = defaultdict(list)
        for result in results:
            for entity in result.entities:
                scores[entity.label if entity.label in self.shown_labels else OTHER_LABEL].append(entity.score)
        for label, label_scores in scores.items():
            self.metrics.entities.labels(label).inc(len(label_scores))
            self.metrics.scores.labels(label).inc(sum(label_scores))
        self.metrics.words.inc(sum(len(document.text.split()) for document in shard.documents))
        self.metrics.windowed.inc(sum(r.windows > 1 for r in results))
        self.metrics.truncated.inc(sum(r.truncated for r in results))
        if job_state != "open":
            self.metrics.jobs.labels(job_state).inc()
            # Redis's clock at the start, ours at the end: `gleaner doctor` and an alert check that they agree.
            seconds = max(0.0, time() - shard.claim.created / 1000)
            self.metrics.job_seconds.labels(shard.message.queue.rpartition(".")[2]).observe(seconds)


def _worker_lost(document: Document, attempts: int) -> DocumentResult:
    detail = "the worker process crashed three times while it ran this document alone"
    error = DocumentError(DocumentErrorCode.WORKER_LOST, detail)
    return DocumentResult(document.index, document.id, DocumentStatus.FAILED, attempts=attempts, error=error)


def _sum_usage(results: Sequence[DocumentResult]) -> dict[str, int]:
    return {
        "windows": sum(r.windows for r in results),
        "windowed": sum(r.windows > 1 for r in results),
        "truncated": sum(r.truncated for r in results),
    }
