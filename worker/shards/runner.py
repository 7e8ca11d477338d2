"""Turns a message into a finished shard: claim -> decode -> cut -> micro-batch -> merge -> encode -> complete.

Runs in Celery's threads. The ledger decides who may work; Celery's message is only the bell.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from time import monotonic, time
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
    Labels,
    Options,
)
from jobs.shards import decode_documents, decode_results, encode_documents, encode_results
from worker.batching.batcher import MicroBatcher
from worker.protocols import Dropped, EngineBroken, ShardRef, Tokenizer
from worker.shards.bounds import Limits
from worker.shards.crash_suspects import Blame
from worker.shards.documents import DocumentRunner, Work
from worker.shards.isolation import Gate
from worker.shards.leases import Lease, LeaseKeeper
from worker.shards.progress import Progress
from worker.shards.result_cache import Known, ResultCache
from worker.text.merging import size_of
from worker.text.redaction import tenant_key

log = logging.getLogger(__name__)
T = TypeVar("T")

SOLO_DEATHS = 3
"""Deaths of a process while it ran one document alone that convict the document. Two were tried: of fifty workers
killed from outside within three minutes, two happened to run the same innocent document."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A claimed shard, decoded."""

    message: Message
    claim: Claim
    documents: tuple[Document, ...]
    labels: Labels
    options: Options
    known: Known


class Intake:
    """What `gleaner.extract_shard` does.

    Args:
        store: the ledger, the only source of truth.
        broker: where the next shards' messages are pushed.
        worker: this process's name in leases.
        revision: the loaded model's.
        default_threshold: the model's, for jobs that this worker begins and that name none.
        draining: set once the process must end; a wait for the store then gives up.
        blame: where shards are written down before their texts can do harm.
        on_broken: ends the process: its device is lost, and every shard it takes would wait for a lease.
        close_reading: read long documents sentence by sentence, too.
        limits: what a document's result may need.
        budget_s: processor seconds that a document may take outside the model.
        progress: where threads say that their work on documents has not come to a stop.
        cache: what was answered before; None where everything is to be read anew.
        redact_secret: what every tenant's key for tokens is derived from; "" where there are none.
        shown_labels: entity labels that metrics may name.
        traces: kept to say which trace each shard that runs now belongs to.
    """

    def __init__(
        self,
        *,
        store: Ledger,
        broker: redis.Redis,
        codec: Codec,
        batcher: MicroBatcher,
        tokenizer: Tokenizer,
        leases: LeaseKeeper,
        metrics: WorkerMetrics,
        worker: str,
        revision: str,
        lease_ms: int,
        default_threshold: float = DEFAULT_THRESHOLD,
        draining: Event,
        blame: Blame,
        on_broken: Callable[[], None],
        close_reading: bool = True,
        limits: Limits | None = None,
        budget_s: float = 10.0,
        progress: Progress | None = None,
        cache: ResultCache | None = None,
        redact_secret: str = "",
        shown_labels: Iterable[str] = (),
        tracer: Tracer | None = None,
        traces: MutableMapping[ShardRef, str] | None = None,
    ) -> None:
        self._store = store
        self._broker = broker
        self._codec = codec
        self._leases = leases
        self._metrics = metrics
        self._worker = worker
        self._revision = revision
        self._lease_ms = lease_ms
        self._default_threshold = default_threshold
        self._draining = draining
        self._blame = blame
        self._on_broken = on_broken
        self._limits = limits or Limits()
        self._cache = cache
        self._redact_secret = redact_secret
        self._shown_labels = frozenset(shown_labels)
        self._tracer = tracer or Tracer()
        self._traces = traces if traces is not None else {}
        self._gate = Gate(budget_s)
        self._runner = DocumentRunner(
            batcher,
            tokenizer,
            blame,
            self._gate,
            progress or Progress(),
            limits=self._limits,
            budget_s=budget_s,
            close_reading=close_reading,
            stage=self._stage,
        )

    def extract_shard(self, message: Message) -> str:
        """Do what a message asks; the answer says what became of it, for the log and for Flower."""
        with bind_fields(job_id=message.job, shard=message.shard):
            nonce = secrets.token_hex(8)
            company = self._gate.open
            call = ledger.claim_shard(
                message,
                nonce,
                self._worker,
                self._revision,
                ledger.ClaimTerms(
                    lease_ms=self._lease_ms, at_risk=company, default_threshold=self._default_threshold
                ),
            )
            try:
                claim = self._persist(call)
                if claim.kind is not ledger.ClaimOutcome.RUN:
                    log.info("shard.claim_rejected", extra={"answer": claim.kind})
                    return claim.kind
                with (
                    self._leases.hold(message, nonce) as lease,
                    self._tracer.span("shard", claim.trace, job_id=message.job, shard=message.shard) as trace,
                    self._traced(ShardRef(message.job, message.shard), trace),
                ):
                    return self._run(message, claim, lease, told=company and not claim.alone)
            except LedgerUnavailableError:  # and the process must end: upkeep brings the shard back
                log.warning("shard.left")
                return "left"

    def _run(self, message: Message, claim: Claim, lease: Lease, *, told: bool) -> str:
        if message.shard == 0 and claim.attempts == 1:
            self._metrics.queue_wait.observe(max(0, claim.started - claim.created) / 1000)
        try:
            if lease.ended:  # taken while the process was already giving back
                raise Dropped
            with self._blame.hold(ShardRef(message.job, message.shard), told=told):
                with self._stage("fetch"):
                    shard = self._decode(message, claim)
                results = self._alone(shard, lease) if claim.alone else self._together(shard, lease)
        except Dropped:
            return self._give_back(message, lease)
        except EngineBroken:
            self._on_broken()
            raise
        except Exception:
            self._blame.tidy()  # the process lives: when this lease runs out, that is no death of the shard's
            raise
        return self._complete(shard, lease, results)

    def _decode(self, message: Message, claim: Claim) -> Shard:
        job, codec = message.job, self._codec
        opts = orjson.loads(codec.decode(claim.opts, associated_data("opts", job)))
        documents = decode_documents(codec.decode(claim.blob, associated_data("in", job, message.shard)))
        labels, options = opts["labels"], Options.model_validate(opts["options"])
        known = self._cache.known(claim, documents, labels, options) if self._cache else Known()
        return Shard(message, claim, documents, labels, options, known)

    def _together(self, shard: Shard, lease: Lease) -> list[DocumentResult]:
        """The shard's documents in company; known answers need none."""
        documents = shard.known.unanswered(shard.documents)
        return shard.known.joined(self._runner.together(self._work(shard, documents), lease) if documents else ())

    def _alone(self, shard: Shard, lease: Lease) -> list[DocumentResult]:
        """A suspect shard: nothing else at risk in this process, document by document, each result kept."""
        message, claim = shard.message, shard.claim
        results = [
            result
            for at, blob in enumerate(claim.partial)
            for result in decode_results(
                self._codec.decode(blob, associated_data("part", message.job, message.shard, at))
            )
        ]
        work, kept = self._work(shard, shard.documents), b""
        for at in range(claim.at, len(shard.documents) + 1):
            answer = self._persist(ledger.record_progress(message.job, message.shard, lease.nonce, at, kept))
            if answer is not ledger.LeaseAnswer.OK or lease.ended:
                raise Dropped
            if at == len(shard.documents):
                break  # that step kept the last result, so that no later death is a document's
            document = shard.documents[at]
            if at == claim.at and claim.solo >= SOLO_DEATHS:
                log.error("document.worker_lost", extra={"index": document.index})
                results.append(_lost(document, claim.attempts))
            else:
                left = self._limits.shard_bytes - sum(map(size_of, results))
                results.append(self._runner.one(work, document, lease, left))
            kept = self._codec.encode(
                encode_results(results[-1:]), associated_data("part", message.job, message.shard, at)
            )
        return results

    def _work(self, shard: Shard, documents: Sequence[Document]) -> Work:
        key = tenant_key(self._redact_secret, shard.claim.tenant) if self._redact_secret else None
        return Work(
            owner=ShardRef(shard.message.job, shard.message.shard),
            documents=documents,
            labels=shard.labels,
            options=shard.options,
            redact_key=key,
            attempts=shard.claim.attempts,
            default_threshold=shard.claim.default_threshold,
            tenant=shard.claim.tenant,
            interactive=shard.message.queue.endswith(".interactive"),
        )

    def _complete(self, shard: Shard, lease: Lease, results: Sequence[DocumentResult]) -> str:
        message = shard.message
        failed = {r.index for r in results if r.status is DocumentStatus.FAILED}
        leftover = [document for document in shard.documents if document.index in failed]
        with self._stage("store"):
            done = self._persist(
                ledger.complete_shard(
                    message,
                    lease.nonce,
                    ledger.ShardResult(
                        self._codec.encode(
                            encode_results(results), associated_data("out", message.job, message.shard)
                        ),
                        self._codec.encode(
                            encode_documents(leftover), associated_data("in", message.job, message.shard)
                        )
                        if leftover
                        else b"",
                        len(results) - len(failed),
                        len(failed),
                        _usage(results),
                        dict(Counter(r.error.code.value for r in results if r.error)),
                        shard.known.learned(results),
                        self._cache.ttl_ms if self._cache else 0,
                    ),
                )
            )
        self._push(done.publish)
        if done.kind is ledger.CompleteOutcome.STORED:
            self._blame.forget(ShardRef(message.job, message.shard))
            self._count(shard, results, done.job_state)
        log.info("shard.completed", extra={"answer": done.kind, "documents": len(results), "failed": len(failed)})
        return done.kind

    def _give_back(self, message: Message, lease: Lease) -> str:
        """The job was cancelled, the lease lost, or the process must end: the ledger decides what comes of it."""
        returned = self._persist(ledger.release_shard(message.job, message.shard, lease.nonce))
        if returned.kind is not ledger.ReturnOutcome.STALE:
            self._blame.forget(ShardRef(message.job, message.shard))
        self._push(returned.publish)
        log.info("shard.given_back", extra={"answer": returned.kind})
        return returned.kind

    def _push(self, messages: Iterable[Message]) -> None:
        pending = tuple(messages)
        if not pending:
            return
        try:
            celery_queues.push_messages(self._broker, pending)
        except (RedisError, OSError) as error:
            log.warning("publish.failed", extra={"reason": type(error).__name__, "messages": len(pending)})

    def _persist(self, call: Call[T]) -> T:
        """Run a transition until the store answers: a result is never dropped because Redis is down or full."""
        delay_s = 0.1
        while True:
            try:
                return self._store.run(call)
            except LedgerUnavailableError as error:
                log.warning("ledger.unavailable", extra={"reason": str(error), "retry_s": delay_s})
                if self._draining.wait(delay_s):
                    raise
                delay_s = min(2.0, delay_s * 2)

    @contextmanager
    def _traced(self, owner: ShardRef, trace: str) -> Iterator[None]:
        if self._tracer.enabled:
            self._traces[owner] = trace
        try:
            yield
        finally:
            self._traces.pop(owner, None)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = monotonic()
        yield
        self._metrics.stage.labels(name).observe(monotonic() - began)

    def _count(self, shard: Shard, results: Sequence[DocumentResult], job_state: str) -> None:
        ends = Counter((r.status.value, r.error.code.value if r.error else "ok") for r in results)
        for end, count in ends.items():
            self._metrics.documents.labels(*end).inc(count)
        scores: defaultdict[str, list[float]] = defaultdict(list)
        for result in results:
            for entity in result.entities:
                scores[entity.label if entity.label in self._shown_labels else OTHER_LABEL].append(entity.score)
        for label, found in scores.items():
            self._metrics.entities.labels(label).inc(len(found))
            self._metrics.scores.labels(label).inc(sum(found))
        self._metrics.words.inc(sum(len(document.text.split()) for document in shard.documents))
        self._metrics.windowed.inc(sum(r.windows > 1 for r in results))
        self._metrics.truncated.inc(sum(r.truncated for r in results))
        if job_state != "open":
            self._metrics.jobs.labels(job_state).inc()
            # The ledger's clock at the start, ours at the end: `gleaner doctor` and an alert watch that they agree.
            seconds = max(0.0, time() - shard.claim.created / 1000)
            self._metrics.job_seconds.labels(shard.message.queue.rpartition(".")[2]).observe(seconds)


def _lost(document: Document, attempts: int) -> DocumentResult:
    detail = "the worker process died three times while it ran this document alone"
    error = DocumentError(DocumentErrorCode.WORKER_LOST, detail)
    return DocumentResult(document.index, document.id, DocumentStatus.FAILED, attempts=attempts, error=error)


def _usage(results: Sequence[DocumentResult]) -> dict[str, int]:
    return {
        "windows": sum(r.windows for r in results),
        "windowed": sum(r.windows > 1 for r in results),
        "truncated": sum(r.truncated for r in results),
    }
