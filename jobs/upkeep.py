"""Upkeep: the loop that recovers lost work. Any number may run at once, since every step compares before it sets.

One tick: `upkeep_tick` returns the work -> jobs past their deadline, expired results, stages and texts, the rest of
deleted records, one tenant's stored bytes -> lost messages of every queue -> expired leases and overdue shards of
every model -> audit of one job.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from time import monotonic

import redis
from redis.exceptions import RedisError

from jobs import ledger
from jobs.ledger import DueWork, Ledger, Message, ReturnOutcome, ShardReturn
from jobs.observability.metrics import UpkeepMetrics
from jobs.process.periodic import PeriodicThread
from jobs.queue import celery_queues

log = logging.getLogger(__name__)


class Upkeep:
    """Runs ticks.

    Args:
        store: the ledger.
        broker: Redis to which lost messages are pushed again.
        metrics: upkeep's metrics.
        lease_s: duration of a worker's lease (seconds).
        grace_s: time after which a published shard counts as lost, if later messages have been read (seconds).
    """

    def __init__(
        self,
        store: Ledger,
        broker: redis.Redis,
        metrics: UpkeepMetrics,
        *,
        lease_s: float = ledger.LEASE_MS / 1000,
        grace_s: float = ledger.GRACE_MS / 1000,
    ) -> None:
        self._store = store
        self._broker = broker
        self._metrics = metrics
        self._lease_ms = int(lease_s * 1000)
        self._grace_ms = int(grace_s * 1000)
        self._broker_error: RedisError | None = None
        self._ticker = secrets.token_hex(8)

    def tick(self, silent_s: float = 0.0) -> bool:
        """Run one tick; return False without doing anything if another upkeep ticked within `silent_s`.

        Raises:
            LedgerUnavailableError: the ledger is down; the next tick continues where this one stopped.
            redis.exceptions.RedisError: the broker is down; the work that needs only the ledger was done, and
                messages that could not be pushed count as lost.
        """
        due = self._store.run(ledger.upkeep_tick(self._lease_ms, int(silent_s * 1000), self._ticker))
        if due is None:
            return False
        started = monotonic()
        self._broker_error = None
        self._expire_and_purge_jobs(due)
        self._clean_up(due)
        for queue in due.queues:
            self._republish_lost(queue)
        for slug in due.slugs:
            self._check_due_shards(slug)
        for job in due.audit:
            self._audit(job)
        self._metrics.seconds.observe(monotonic() - started)
        if self._broker_error is not None:
            raise self._broker_error
        return True

    def _expire_and_purge_jobs(self, due: DueWork) -> None:
        for job in due.deadlines:
            if self._store.run(ledger.expire_job(job)) is ledger.ExpireOutcome.EXPIRED:
                self._metrics.jobs.labels("expired").inc()
                log.info("job.expired", extra={"job_id": job})
        for job in due.purge:
            if self._store.run(ledger.purge_job(job, erase=False)) is ledger.PurgeOutcome.PURGED:
                log.info("job.purged", extra={"job_id": job})

    def _clean_up(self, due: DueWork) -> None:
        for job in due.staging:
            if self._store.run(ledger.drop_stage(job)):
                log.info("stage.lapsed", extra={"job_id": job})
        for job in due.texts:
            if self._store.run(ledger.drop_texts(job)):
                log.info("job.texts_dropped", extra={"job_id": job})
        for record in due.wipes:
            self._store.run(ledger.wipe_record(record))
        for tenant in due.sweep:
            self._store.run(ledger.sweep_tenant(tenant))

    def _republish_lost(self, queue: str) -> None:
        if self._broker_error is not None:
            return  # one timeout per tick is enough
        seq = self._store.run(ledger.read_queue_seq(queue))  # before the length: see republish_lost.lua
        try:
            length = celery_queues.queue_length(self._broker, queue)
        except RedisError as error:
            self._broker_error = error
            return
        lost, turns = self._store.run(ledger.republish_lost(queue, seq, length, self._grace_ms))
        self._push(lost, "message_lost")
        self._push(turns, "window")

    def _check_due_shards(self, slug: str) -> None:
        for job, shard, state in self._store.run(ledger.due_shards(slug)):
            if state == "r":
                returned = self._store.run(ledger.reclaim_shard(job, shard))
                self._push_returned(job, shard, returned, "lease_lost")
            elif state == "f":
                self._push_returned(job, shard, self._store.run(ledger.republish_deferred(job, shard)), "deferred")
            else:  # waiting or published past the job's deadline
                self._store.run(ledger.expire_job(job))

    def _push_returned(self, job: str, shard: int, returned: ShardReturn, cause: str) -> None:
        if returned.kind in (ReturnOutcome.CLEAN, ReturnOutcome.SUSPECT, ReturnOutcome.CANCELLED):
            log.warning("lease.lost", extra={"job_id": job, "shard": shard, "answer": returned.kind})
        self._push(returned.publish, cause)

    def _audit(self, job: str) -> None:
        repaired = self._store.run(ledger.audit_job(job))
        if repaired:
            self._metrics.repairs.inc(repaired)
            log.error("ledger.repaired", extra={"job_id": job, "facts": repaired})

    def _push(self, messages: Sequence[Message], cause: str) -> None:
        if messages and self._broker_error is None:
            try:
                celery_queues.push_messages(self._broker, messages)
            except RedisError as error:
                self._broker_error = error
                return
            self._metrics.republished.labels(cause).inc(len(messages))
            log.info("shards.published", extra={"cause": cause, "shards": len(messages)})


class UpkeepLoop(PeriodicThread):
    """Ticks in a separate thread until stopped.

    Args:
        upkeep: runs the ticks.
        every_s: seconds between ticks.
        silent_s: 0 for a courier; a stand-by (the gateway) ticks only if no other process has for this long.
    """

    def __init__(self, upkeep: Upkeep, every_s: float = 1.0, silent_s: float = 0.0) -> None:
        super().__init__("upkeep", self._tick, retry_s=every_s)
        self._upkeep = upkeep
        self._every_s = every_s
        self._silent_s = silent_s
        self._ticked = False

    def is_ticking(self) -> bool:
        """Return True if this loop ticks; False for a stand-by while another process does."""
        return self._ticked

    def _tick(self) -> float:
        self._ticked = self._upkeep.tick(self._silent_s)
        return self._every_s if self._ticked or not self._silent_s else self._silent_s / 3
