"""The ledger against a model of it: any interleaving of transitions keeps the promises after every step."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobs import ledger, naming
from jobs.ledger import Ledger, Message
from jobs.schema import Job, JobStatus, Priority
from tests.support.ledger import MODEL, new_job

P = "{gleaner}:"
SLUG = naming.model_slug(MODEL)
SHARE = 2
"""Shards of one tenant in flight where no worker is alive."""


@dataclass
class ModelShard:
    documents: int
    state: str = "waiting"  # waiting, published, running, done, cancelled, expired
    nonce: str = ""
    result: bytes = b""
    ok: int = 0


@dataclass
class ModelJob:
    id: str
    tenant: str
    priority: Priority
    shards: list[ModelShard]
    state: str = "open"  # open, cancelling, closed, purged
    terminal: JobStatus | None = None
    messages: list[Message] = field(default_factory=list)

    def of(self, *states: str) -> list[ModelShard]:
        return [s for s in self.shards if s.state in states]


class LedgerMachine(RuleBasedStateMachine):
    """Claims, renewals, completions, releases, lost leases, cancels, expiries, purges, duplicates: in any order."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(self.url)
        self.client.flushdb()
        self.ledger = Ledger(self.client)
        self.jobs: dict[str, ModelJob] = {}
        self.dead: list[tuple[Message, str]] = []  # leases that ended without their holder knowing
        self.serial = 0

    def teardown(self) -> None:
        self.client.close()

    # Submission

    @precondition(lambda self: sum(j.state in ("open", "cancelling") for j in self.jobs.values()) < 3)
    @rule(
        sizes=st.lists(st.integers(1, 3), min_size=1, max_size=5),
        tenant=st.sampled_from(["t1", "t2"]),
        priority=st.sampled_from(list(Priority)),
        repeat=st.booleans(),
    )
    def create(self, sizes: list[int], tenant: str, priority: Priority, repeat: bool) -> None:
        self.serial += 1
        job = ModelJob(f"job_{self.serial}", tenant, priority, [ModelShard(n) for n in sizes])
        # A deadline of a millisecond: `expire` may close it at any later step, and only `expire` does.
        new = new_job(job.id, sizes, tenant=tenant, priority=priority, deadline_s=0.001)
        same_queue = [j for j in self.jobs.values() if (j.tenant, j.priority) == (tenant, priority)]
        capacity = 0 if any(j.of("waiting") for j in same_queue) else SHARE - self.in_flight(tenant, priority)
        created = self.ledger.run(ledger.create_job(new))
        assert created.kind == "created"
        if repeat:
            assert self.ledger.run(ledger.create_job(new)).kind == "exists"
        self.jobs[job.id] = job
        self.published(created.publish)
        assert len(created.publish) == min(max(0, capacity), len(sizes))

    # A worker's moves; messages are delivered in any order and any number of times

    @precondition(lambda self: any(j.messages for j in self.jobs.values()))
    @rule(data=st.data(), lease_ms=st.sampled_from([1, 60_000]), repeat=st.booleans(), keep=st.booleans())
    def deliver(self, data: st.DataObject, lease_ms: int, repeat: bool, keep: bool) -> None:
        message = data.draw(st.sampled_from([m for j in self.jobs.values() for m in j.messages]))
        job = self.jobs[message.job]
        shard = job.shards[message.shard]
        self.serial += 1
        nonce = f"n{self.serial}"
        call = ledger.claim_shard(message, nonce, "w1", "rev", ledger.ClaimTerms(lease_ms=lease_ms))
        claim = self.ledger.run(call)
        if repeat and claim.kind == "run":
            assert self.ledger.run(call) == claim
        if shard.state == "published" and job.state == "open":
            assert claim.kind == "run"
            shard.state, shard.nonce = "running", nonce
        elif shard.state == "running" and job.state in ("open", "cancelling"):
            assert claim.kind == "leased"
        else:
            assert claim.kind == (
                "done" if shard.state == "done" and job.state in ("open", "cancelling") else "gone"
            )
        if not keep:
            job.messages.remove(message)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), split=st.integers(0, 3), repeat=st.booleans(), leftover=st.booleans())
    def complete(self, data: st.DataObject, split: int, repeat: bool, leftover: bool) -> None:
        job, index, shard = data.draw(st.sampled_from(self.running()))
        ok = min(split, shard.documents)
        message = Message(naming.queue_name(MODEL, job.priority), job.id, index, 0)
        self.serial += 1
        result = f"result {self.serial}".encode()
        call = ledger.complete_shard(
            message,
            shard.nonce,
            ledger.ShardResult(result, b"left" if leftover else b"", ok, shard.documents - ok, {"windows": 1}, {}),
        )
        done = self.ledger.run(call)
        assert done.kind == "stored"
        if repeat:
            assert self.ledger.run(call).kind in ("already", "stale")
        self.dead.append((message, shard.nonce))
        shard.state, shard.result, shard.ok = "done", result, ok
        self.published(done.publish)
        self.settle(job)

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def stale_complete(self, data: st.DataObject) -> None:
        """Complete shards of workers that woke too late, which writes nothing."""
        message, nonce = data.draw(st.sampled_from(self.dead))
        shard = self.jobs[message.job].shards[message.shard]
        done = self.ledger.run(
            ledger.complete_shard(message, nonce, ledger.ShardResult(b"stale", b"", shard.documents, 0, {}, {}))
        )
        assert done.kind in ("stale", "already")
        assert done.publish == ()

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        job, index, shard = data.draw(st.sampled_from(self.running()))
        returned = self.ledger.run(ledger.release_shard(job.id, index, shard.nonce))
        self.dead.append((Message(naming.queue_name(MODEL, job.priority), job.id, index, 0), shard.nonce))
        self.back(job, shard, returned.kind in ("cancelled",))
        self.published(returned.publish)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """Every lease that holds is renewed; one that ended is lost; a cancelled job's says stop."""
        leases = [(job.id, i, s.nonce) for job, i, s in self.running()]
        stale = [(m.job, m.shard, n) for m, n in self.dead[-3:]]
        answers = self.ledger.run(ledger.renew_leases(leases + stale, lease_ms=1))
        for (job_id, _, _), answer in zip(leases, answers, strict=False):
            assert answer == ("stop" if self.jobs[job_id].state == "cancelling" else "ok")
        assert all(answer == "lost" for answer in answers[len(leases) :])

    @precondition(lambda self: self.running())
    @rule(data=st.data(), suspect=st.booleans())
    def worker_dies(self, data: st.DataObject, suspect: bool) -> None:
        job, index, shard = data.draw(st.sampled_from(self.running()))
        this = [(job.id, index)]
        self.ledger.run(ledger.set_crash_suspects("w1", this if suspect else [], left=[] if suspect else this))
        self.ledger.run(ledger.renew_leases([(job.id, index, shard.nonce)], lease_ms=1))
        time.sleep(0.003)
        returned = self.ledger.run(ledger.reclaim_shard(job.id, index))
        assert returned.kind == ("cancelled" if job.state == "cancelling" else "suspect" if suspect else "clean")
        assert self.ledger.run(ledger.reclaim_shard(job.id, index)).kind in ("early", "gone")
        self.dead.append((Message(naming.queue_name(MODEL, job.priority), job.id, index, 0), shard.nonce))
        self.back(job, shard, returned.kind == "cancelled")
        self.published(returned.publish)

    # A client's and upkeep's

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.cancel_one(data.draw(st.sampled_from(list(self.jobs.values()))))

    @precondition(lambda self: any(j.state == "open" for j, _, _ in self.running()))
    @rule(data=st.data())
    def cancel_while_running(self, data: st.DataObject) -> None:
        """Often enough to see a shard of a cancelling job."""
        self.cancel_one(data.draw(st.sampled_from([j for j, _, _ in self.running() if j.state == "open"])))

    def cancel_one(self, job: ModelJob) -> None:
        answer = self.ledger.run(ledger.cancel_job(job.id))
        if job.state == "purged":
            assert answer == "absent"
        elif job.state != "open":
            assert answer == "already"
        else:
            assert answer == ("cancelling" if job.of("running") else "closed")
            for shard in job.of("waiting", "published"):
                shard.state = "cancelled"
            job.state = "cancelling"
            self.settle(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(list(self.jobs.values())))
        answer = self.ledger.run(ledger.expire_job(job.id))
        if job.state in ("open", "cancelling"):
            assert answer == "expired"
            word = "cancelled" if job.state == "cancelling" else "expired"
            for index, shard in enumerate(job.shards):
                if shard.state == "running":
                    self.dead.append(
                        (Message(naming.queue_name(MODEL, job.priority), job.id, index, 0), shard.nonce)
                    )
                if shard.state in ("waiting", "published", "running"):
                    shard.state = word
            self.settle(job)
        else:
            assert answer == ("already" if job.state == "closed" else "absent")

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(list(self.jobs.values())))
        answer = self.ledger.run(ledger.purge_job(job.id))
        if job.state in ("open", "cancelling"):
            assert answer == "not_terminal"
        else:
            assert answer == ("purged" if job.state == "closed" else "gone")
            job.state = "purged"
            job.messages.clear()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), grace=st.booleans())
    def queue_lost(self, data: st.DataObject, grace: bool) -> None:
        """Empty the broker: two ticks past the grace republish each published shard once."""
        queue = naming.queue_name(MODEL, data.draw(st.sampled_from(list(Priority))))
        mine = [j for j in self.jobs.values() if naming.queue_name(MODEL, j.priority) == queue]
        for job in mine:
            job.messages.clear()
        seq = int(self.client.hget(f"{P}q:{queue}", "seq") or 0)
        republished: list[Message] = []
        lost = {(j.id, i) for j in mine for i, s in enumerate(j.shards) if s.state == "published"}
        for _ in range(3):
            time.sleep(0.002)
            again, turns = self.ledger.run(ledger.republish_lost(queue, seq, 0, grace_ms=1))
            republished += again
            self.published(turns)
        assert Counter((m.job, m.shard) for m in republished) == Counter(lost)
        self.published(tuple(republished))

    @precondition(lambda self: self.jobs)
    @rule(priority=st.sampled_from(list(Priority)))
    def tick(self, priority: Priority) -> None:
        """No tenant waits with room in its share, whatever made the room."""
        queue = naming.queue_name(MODEL, priority)
        self.published(self.ledger.run(ledger.republish_lost(queue, 0, 1, grace_ms=60_000))[1])
        for tenant in ("t1", "t2"):
            mine = [j for j in self.jobs.values() if (j.tenant, j.priority) == (tenant, priority)]
            assert self.in_flight(tenant, priority) >= SHARE or not any(j.of("waiting") for j in mine)

    def in_flight(self, tenant: str, priority: Priority) -> int:
        mine = [j for j in self.jobs.values() if (j.tenant, j.priority) == (tenant, priority)]
        return sum(len(j.of("published", "running")) for j in mine)

    # Promises, after every step

    @invariant()
    def a_tenant_keeps_to_its_share(self) -> None:
        """Check that the set of shards in flight is exact, and never larger than a share."""
        for tenant in ("t1", "t2"):
            for priority in Priority:
                counted = self.client.zcard(f"{P}flight:{naming.queue_name(MODEL, priority)}:{tenant}")
                assert counted == self.in_flight(tenant, priority) <= SHARE

    @invariant()
    def counts_are_the_truth(self) -> None:
        for job in self.jobs.values():
            view = self.ledger.run(ledger.read_job(job.id))
            if job.state == "purged":
                assert view == ledger.Gone(job.tenant)
                continue
            assert isinstance(view, Job)
            c = view.counts
            assert c.queued + c.running + c.succeeded + c.failed + c.cancelled + c.expired == c.total
            assert c.queued >= 0
            assert c.running == sum(s.documents for s in job.of("running"))
            assert c.succeeded == sum(s.ok for s in job.of("done"))
            assert c.failed == sum(s.documents - s.ok for s in job.of("done"))
            assert c.cancelled == sum(s.documents for s in job.of("cancelled"))
            assert c.expired == sum(s.documents for s in job.of("expired"))
            assert view.status.is_terminal == (job.state == "closed")
            if job.state == "closed":
                assert job.terminal in (None, view.status)
                job.terminal = view.status
                assert c.finished == c.total

    @invariant()
    def results_are_written_once(self) -> None:
        for job in self.jobs.values():
            if job.state != "purged":
                for index, shard in enumerate(job.shards):
                    stored = self.client.hget(f"{P}out:{job.id}", str(index))
                    assert stored == (shard.result or None)

    @invariant()
    def open_is_every_unfinished_shard(self) -> None:
        unfinished = {
            f"{job.id}:{i}"
            for job in self.jobs.values()
            for i, s in enumerate(job.shards)
            if s.state in ("waiting", "published", "running")
        }
        assert {m.decode() for m in self.client.zrange(f"{P}open:{SLUG}", 0, -1)} == unfinished

    @invariant()
    def published_shards_are_watched(self) -> None:
        for priority in Priority:
            queue = naming.queue_name(MODEL, priority)
            published = {
                f"{job.id}:{i}"
                for job in self.jobs.values()
                if job.priority is priority
                for i, s in enumerate(job.shards)
                if s.state == "published"
            }
            assert {m.decode() for m in self.client.zrange(f"{P}pub:{queue}", 0, -1)} == published

    @invariant()
    def sums_agree(self) -> None:
        open_jobs = [j for j in self.jobs.values() if j.state in ("open", "cancelling")]

        def left(jobs: list[ModelJob]) -> int:
            return sum(7 * s.documents for j in jobs for s in j.of("waiting", "published", "running"))

        for tenant in ("t1", "t2"):
            mine = [j for j in open_jobs if j.tenant == tenant]
            assert self.number(f"tenant:{tenant}", "open_jobs") == len(mine)
            assert self.number(f"tenant:{tenant}", "open_chars") == left(mine)
        assert self.number(f"model:{SLUG}", "open_jobs") == len(open_jobs)
        assert self.number(f"model:{SLUG}", "open_chars") == self.number("sys", "open_chars") == left(open_jobs)
        if not open_jobs:
            assert self.number("sys", "reserve") == 0

    @invariant()
    def audit_finds_nothing(self) -> None:
        for job in self.jobs.values():
            assert self.ledger.run(ledger.audit_job(job.id)) == 0

    # The model's own bookkeeping

    def running(self) -> list[tuple[ModelJob, int, ModelShard]]:
        return [(j, i, s) for j in self.jobs.values() for i, s in enumerate(j.shards) if s.state == "running"]

    def published(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            job = self.jobs[message.job]
            job.messages.append(message)
            job.shards[message.shard].state = "published"

    def back(self, job: ModelJob, shard: ModelShard, cancelled: bool) -> None:
        shard.state, shard.nonce = "cancelled" if cancelled else "published", ""
        self.settle(job)

    def settle(self, job: ModelJob) -> None:
        if not job.of("waiting", "published", "running"):
            job.state = "closed"

    def number(self, key: str, name: str) -> int:
        return int(self.client.hget(P + key, name) or 0)


@pytest.mark.timeout(240)
def test_any_interleaving_keeps_the_promises(ledger_url: str) -> None:
    """Whatever is claimed, lost, repeated, cancelled or purged when: counts, results, indexes, sums hold."""

    class Machine(LedgerMachine):
        url = ledger_url

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
