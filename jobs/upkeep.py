"""Upkeep: the loop that repairs what was lost. Any number may run at once; every step compares before it sets.

One tick: time (beat) -> jobs past their deadline, results past their time, lapsed stages, texts past theirs,
the rest of what was deleted, one tenant's stored bytes -> lost messages of every queue -> silent leases and
forgotten shards of every model -> one job's books audited.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from threading import Event, Thread
from time import monotonic

import redis
from redis.exceptions import RedisError

from jobs import ledger
from jobs.ledger import DueWork, Ledger, LedgerUnavailableError, Message, ReturnOutcome, ShardReturn
from jobs.observability.logs import log_failure
from jobs.observability.metrics import UpkeepMetrics
from jobs.queue import celery_queues

log = logging.getLogger(__name__)


class Upkeep:
    """What one tick does.

    Args:
        store: the ledger.
        broker: where lost messages are pushed again.
        lease_s: how long a worker's claim holds.
        grace_s: how long a published shard may stay behind messages already read before it counts as lost.
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
        self._broker_trouble: RedisError | None = None
        self._who = secrets.token_hex(8)

    def tick(self, silent_s: float = 0.0) -> bool:
        """Repair once; False if another upkeep ticked within `silent_s` and this one stayed out.

        Raises:
            LedgerUnavailableError: the ledger is down; the next tick goes on where this one stopped.
            redis.exceptions.RedisError: the broker is down; what needs only the ledger was done all the same, and
                what could not be pushed counts as lost and comes again.
        """
        due = self._store.run(ledger.upkeep_tick(self._lease_ms, int(silent_s * 1000), self._who))
        if due is None:
            return False
        started = monotonic()
        self._broker_trouble = None
        self._end(due)
        for queue in due.queues:
            self._lost_messages(queue)
        for slug in due.slugs:
            self._look(slug)
        for job in due.audit:
            self._audit(job)
        self._metrics.seconds.observe(monotonic() - started)
        if self._broker_trouble is not None:
            raise self._broker_trouble
        return True

    def _end(self, due: DueWork) -> None:
        for job in due.deadlines:
            if self._store.run(ledger.expire_job(job)) is ledger.ExpireOutcome.EXPIRED:
                self._metrics.jobs.labels("expired").inc()
                log.info("job.expired", extra={"job_id": job})
        for job in due.purge:
            if self._store.run(ledger.purge_job(job, erase=False)) is ledger.PurgeOutcome.PURGED:
                log.info("job.purged", extra={"job_id": job})
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

    def _lost_messages(self, queue: str) -> None:
        if self._broker_trouble is not None:
            return  # one timeout a tick is enough
        seq = self._store.run(ledger.read_queue_seq(queue))  # before the length: see republish_lost.lua
        try:
            length = celery_queues.queue_length(self._broker, queue)
        except RedisError as error:
            self._broker_trouble = error
            return
        lost, turns = self._store.run(ledger.republish_lost(queue, seq, length, self._grace_ms))
        self._push(lost, "message_lost")
        self._push(turns, "window")

    def _look(self, slug: str) -> None:
        for job, shard, state in self._store.run(ledger.due_shards(slug)):
            if state == "r":
                returned = self._store.run(ledger.reclaim_shard(job, shard))
                self._returned(job, shard, returned, "lease_lost")
            elif state == "f":
                self._returned(job, shard, self._store.run(ledger.republish_deferred(job, shard)), "deferred")
            else:  # waiting or published past the job's deadline
                self._store.run(ledger.expire_job(job))

    def _returned(self, job: str, shard: int, returned: ShardReturn, cause: str) -> None:
        if returned.kind in (ReturnOutcome.CLEAN, ReturnOutcome.SUSPECT, ReturnOutcome.CANCELLED):
            log.warning("lease.lost", extra={"job_id": job, "shard": shard, "answer": returned.kind})
        self._push(returned.publish, cause)

    def _audit(self, job: str) -> None:
        repaired = self._store.run(ledger.audit_job(job))
        if repaired:
            self._metrics.repairs.inc(repaired)
            log.error("ledger.repaired", extra={"job_id": job, "facts": repaired})

    def _push(self, messages: Sequence[Message], cause: str) -> None:
        if messages and self._broker_trouble is None:
            try:
                celery_queues.push_messages(self._broker, messages)
            except RedisError as error:
                self._broker_trouble = error
                return
            self._metrics.republished.labels(cause).inc(len(messages))
            log.info("shards.published", extra={"cause": cause, "shards": len(messages)})


class UpkeepLoop:
    """Ticks from a thread of its own until stopped; an outage ends a tick, never the loop.

    Args:
        every_s: seconds between ticks.
        silent_s: 0 for a courier; a stand-by (the gateway) ticks only where nobody else did for so long.
    """

    def __init__(self, upkeep: Upkeep, every_s: float = 1.0, silent_s: float = 0.0) -> None:
        self._upkeep = upkeep
        self._every_s = every_s
        self._silent_s = silent_s
        self._stopping = Event()
        self._thread = Thread(target=self._loop, name="upkeep", daemon=True)
        self._came_round = monotonic()
        self._trouble: str | None = "no tick yet"
        self._ticked = False

    def start(self) -> None:
        """Begin to tick, the first at once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the tick that runs and end."""
        self._stopping.set()
        self._thread.join()

    def failure_reason(self) -> str | None:
        """Why the latest tick did not finish, or None."""
        return self._trouble

    def is_ticking(self) -> bool:
        """True while it is this loop that repairs; a stand-by's is False while another does."""
        return self._ticked

    def stalled_s(self) -> float:
        """Seconds since the loop last came round."""
        return monotonic() - self._came_round

    def _loop(self) -> None:
        while True:
            self._came_round = monotonic()
            try:
                self._ticked = self._upkeep.tick(self._silent_s)
                self._trouble = None
            except (LedgerUnavailableError, RedisError, OSError) as error:
                self._trouble = type(error).__name__
                log.warning("upkeep.interrupted", extra={"reason": self._trouble})
            except Exception as error:  # noqa: BLE001  # a bug in one repair must not end all repairs
                self._trouble = type(error).__name__
                log_failure(log, "upkeep.failed", error)
            if self._stopping.wait(self._every_s if self._ticked or not self._silent_s else self._silent_s / 3):
                return
