"""A shard runner with all it needs in the process of the test: real ledger, micro-batcher and leases, no Celery."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import orjson
import redis
from prometheus_client import CollectorRegistry

from jobs import ledger
from jobs.codec import Codec
from jobs.ledger import Call, Ledger, LedgerUnavailableError, Message, Page
from jobs.observability.metrics import WorkerMetrics
from jobs.results import open_shard, read_rows
from jobs.schema import Document, DocumentResult, DocumentStatus, Job, Labels
from jobs.shards import encode_documents, encode_results
from jobs.tasks import Tasks
from tests.support.ledger import CODEC, new_job
from worker.batching.batcher import MicroBatcher
from worker.protocols import Engine, ShardRef
from worker.shards.documents import DocumentRunner
from worker.shards.leases import Lease, LeaseKeeper
from worker.shards.result_cache import ResultCache
from worker.shards.runner import ShardRunner
from worker.shards.shards_at_risk import ShardsAtRisk


class FlakyLedger(Ledger):
    """A ledger whose replies can be lost: the transition happens, its caller learns nothing."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self.lose: dict[str, int] = {}
        self.ran: list[str] = []
        self.before: dict[str, Callable[[], None]] = {}

    def run(self, call: Call[Any]) -> Any:
        """Take a transition, and lose its reply where asked."""
        self.before.pop(call.script, lambda: None)()
        answer = super().run(call)
        self.ran.append(call.script)
        if self.lose.get(call.script, 0):
            self.lose[call.script] -= 1
            raise LedgerUnavailableError(call.script)
        return answer


@dataclass
class InProcessWorker:
    """A shard runner with everything it needs, in this process."""

    client: redis.Redis
    store: FlakyLedger
    batcher: MicroBatcher
    leases: LeaseKeeper
    runner: ShardRunner
    metrics: WorkerMetrics
    codec: Codec = CODEC
    must_end: Event = field(default_factory=Event)
    broken: list[bool] = field(default_factory=list)

    def submit(
        self,
        job: str,
        *texts: str | Document,
        tenant: str = "t1",
        labels: Labels | None = None,
        options: Mapping[str, Any] | None = None,
        tasks: Tasks | None = None,
    ) -> Message:
        """Create a job of one shard with these texts; return its message. `tasks` take the place of `labels`."""
        rows = [Document(i, str(i), text) if isinstance(text, str) else text for i, text in enumerate(texts)]
        opts = (tasks or Tasks(labels or {"person": None})).to_wire() | {"options": options or {}}
        new = new_job(job, (len(texts),), tenant=tenant, codec=self.codec, opts=orjson.dumps(opts))
        blob = self.codec.encode(encode_documents(rows), ledger.associated_data("in", job, 0))
        return self.store.run(ledger.create_job(dataclasses.replace(new, blobs=[blob]))).publish[0]

    def results(self, job: str) -> tuple[DocumentResult, ...]:
        """Return the stored results of a job."""
        page = self.store.run(ledger.read_page(job, 0))
        assert isinstance(page, Page)
        return tuple(
            row.result()
            for stored in page.shards
            for row in read_rows(stored, open_shard(job, stored, self.codec), self.codec)
        )

    def get_job(self, job: str) -> Job:
        """Return the job."""
        job_view = self.store.run(ledger.read_job(job))
        assert isinstance(job_view, Job)
        return job_view

    def crash_workers(self, message: Message, deaths: int, at: int = 0) -> Message:
        """Let workers die with the shard claimed, `deaths` times; the last ones run document `at` alone."""
        for death in range(deaths):
            nonce = f"dead{death}"
            claim = self.store.run(
                ledger.claim_shard(message, nonce, "dead", "fake", ledger.ClaimTerms(lease_ms=1))
            )
            for document in range(at + 1) if claim.isolated and not claim.first_document else ():
                partial = self.encode_partial(message, document - 1) if document else b""
                assert self.store.run(ledger.record_progress(message.job, 0, nonce, document, partial)) == "ok"
            self.store.run(ledger.set_crash_suspects("dead", [(message.job, 0)]))
            Event().wait(0.01)
            [message] = self.store.run(ledger.reclaim_shard(message.job, 0)).publish
        return message

    def crash_suspects(self) -> set[bytes]:
        """Return the shards that would be suspects if this worker died now."""
        return set(self.client.smembers("{gleaner}:run:w"))

    def encode_partial(self, message: Message, at: int) -> bytes:
        """Encode a partial result as a worker stores it, recognisable by its attempts."""
        result = DocumentResult(at, str(at), DocumentStatus.SUCCEEDED, windows=1, attempts=77)
        return self.codec.encode(encode_results([result]), ledger.associated_data("part", message.job, 0, at))


@contextmanager
def running_worker(
    ledger_url: str,
    broker_url: str,
    engine: Engine,
    codec: Codec = CODEC,
    cache: Callable[[Ledger, WorkerMetrics], ResultCache] | None = None,
    redact_secret: str = "",
    budget_s: float = 10.0,
    **options: Any,
) -> Iterator[InProcessWorker]:
    """Run a worker without Celery; `options` are further arguments of its runner."""
    with redis.Redis.from_url(ledger_url) as client, redis.Redis.from_url(broker_url) as broker:
        store, must_end = FlakyLedger(client), Event()
        broken: list[bool] = []
        at_risk = ShardsAtRisk(lambda at_risk, left: store.run(ledger.set_crash_suspects("w", at_risk, left)))

        def before_forward(shards: frozenset[ShardRef]) -> None:
            at_risk.add(shards, exact=True)

        batcher = MicroBatcher(engine, 500, before_forward=before_forward)

        def drop(lease: Lease) -> None:
            batcher.drop(lease.message.job, lease.message.shard)

        leases = LeaseKeeper(store, lambda: None, drop)
        metrics = WorkerMetrics(CollectorRegistry())
        runner = ShardRunner(
            store=store,
            broker=broker,
            codec=codec,
            documents=DocumentRunner(
                batcher=batcher, tokenizer=engine, at_risk=at_risk, metrics=metrics, budget_s=budget_s
            ),
            leases=leases,
            metrics=metrics,
            worker="w",
            revision="fake",
            lease_ms=60_000,
            must_end=must_end,
            on_broken=lambda: broken.append(True),
            cache=cache and cache(store, metrics),
            redact_secret=redact_secret,
            **options,
        )
        with batcher:
            yield InProcessWorker(client, store, batcher, leases, runner, metrics, codec, must_end, broken)
