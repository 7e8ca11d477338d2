"""The bytes that a tenant keeps, as the ledger counts them, against a recount of the store after every step."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobs import ledger
from jobs.ledger import Call, Ledger, Message, label_sets, webhooks
from jobs.ledger.label_sets import NewVersion
from jobs.ledger.webhooks import DeliveryAttempt, Endpoint
from jobs.schema import Job
from tests.support.ledger import forget_memory, new_job
from tests.support.recount import recount, stored

TENANTS = ("t1", "t2")
JOBS = 6


class BooksMachine(RuleBasedStateMachine):
    """Whatever a tenant does, in any order; no call is ruled out, the ledger refuses the impossible ones."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(self.url)
        self.client.flushdb()
        self.ledger = Ledger(self.client)
        self.jobs: dict[str, str] = {}
        self.messages: list[Message] = []
        self.leases: list[tuple[Message, int]] = []
        self.serial = 0

    def teardown(self) -> None:
        self.client.close()

    def take(self, call: Call[object], repeat: bool = False) -> None:
        for _ in range(1 + repeat):
            self.ledger.run(call)

    @precondition(lambda self: len(self.jobs) < JOBS)
    @rule(
        sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        tenant=st.sampled_from(TENANTS),
        staged=st.booleans(),
        named=st.booleans(),
        idem=st.booleans(),
        hook=st.booleans(),
        repeat=st.booleans(),
        data=st.data(),
    )
    def create(
        self,
        sizes: list[int],
        tenant: str,
        staged: bool,
        named: bool,
        idem: bool,
        hook: bool,
        repeat: bool,
        data: st.DataObject,
    ) -> None:
        self.serial += 1
        name = f"job_{self.serial}"
        new = new_job(name, sizes, tenant=tenant, deadline_s=0.001, meta=b"m" * data.draw(st.integers(0, 50)))
        new = replace(new, text_ttl_s=60, doc_ids=[("ä" * 3, 0)] if named else (), response=b"answer")
        if hook:
            self.take(
                webhooks.upsert_endpoint(endpoint(f"ep_{name}", tenant, "inline"), ttl_ms=60_000, job=name), repeat
            )
            new = replace(new, endpoint_id=f"ep_{name}")
        if idem:
            self.ledger.run(ledger.claim_idempotency_key(tenant, name, "nonce", "sha"))
            new = replace(new, idempotency_hash=name, nonce="nonce")
        if sources := [job for job, owner in self.jobs.items() if owner == tenant]:
            new = replace(new, retry_of=data.draw(st.sampled_from(["", *sources])))
        if staged:
            for at, blob in enumerate(new.blobs):
                self.take(
                    ledger.stage_shards(
                        name, at, [blob], new.doc_ids if not at else (), ledger.StageTerms(tenant=tenant)
                    ),
                    repeat,
                )
            if not data.draw(st.integers(0, 3)):
                self.take(ledger.drop_stage(name, now=True), repeat)
                return
            new = replace(new, blobs=(), doc_ids=())
        forget_memory(self.client)
        created = self.ledger.run(ledger.create_job(new))
        if created.kind == "created":
            self.jobs[name] = tenant
            self.messages += created.publish
        elif staged:
            self.take(ledger.drop_stage(name, now=True))

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.messages))
        self.messages.remove(message)
        if self.ledger.run(ledger.claim_shard(message, "n", "w", "rev")).kind == "run":
            documents = int(self.client.hget(f"{{gleaner}}:sh:{message.job}", str(message.shard)).split(b"|")[8])  # type: ignore[union-attr]
            self.leases.append((message, documents))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), failed=st.booleans(), alone=st.booleans(), cached=st.booleans(), repeat=st.booleans())
    def complete(self, data: st.DataObject, failed: bool, alone: bool, cached: bool, repeat: bool) -> None:
        message, documents = data.draw(st.sampled_from(self.leases))
        self.leases.remove((message, documents))
        if alone:
            where, field = f"{{gleaner}}:sh:{message.job}", str(message.shard)
            if record := cast("bytes | None", self.client.hget(where, field)):
                parts = record.split(b"|")
                parts[4] = b"1"
                self.client.hset(where, field, b"|".join(parts))
            for at in range(documents):
                self.take(
                    ledger.record_progress(message.job, message.shard, "n", at, b"part" if at else b""), repeat
                )
        done = ledger.complete_shard(
            message,
            "n",
            ledger.ShardResult(
                b"r" * data.draw(st.integers(1, 99)),
                b"left" if failed else b"",
                documents - failed,
                int(failed),
                {},
                {"inference_failed": 1} if failed else {},
                [(f"question {message.job} {message.shard}", 0)] if cached else [],
                60_000,
            ),
        )
        self.messages += self.ledger.run(done).publish
        self.take(done, repeat)

    @precondition(lambda self: self.jobs)
    @rule(
        data=st.data(),
        what=st.sampled_from(
            [ledger.cancel_job, ledger.expire_job, ledger.drop_texts, ledger.purge_job, ledger.audit_job]
        ),
        repeat=st.booleans(),
    )
    def end(self, data: st.DataObject, what: object, repeat: bool) -> None:
        self.take(what(data.draw(st.sampled_from(list(self.jobs)))), repeat)  # type: ignore[operator]

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def results_expire(self, data: st.DataObject) -> None:
        self.take(ledger.purge_job(data.draw(st.sampled_from(list(self.jobs))), erase=False))

    @rule(name=st.sampled_from(["ep_1", "ep_2"]), rev=st.integers(0, 2), size=st.integers(1, 50))
    def put_endpoint(self, name: str, rev: int, size: int) -> None:
        current = self.ledger.run(webhooks.read_endpoint(name))
        wanted = endpoint(name, TENANTS[name == "ep_2"], "url", size)
        self.take(webhooks.upsert_endpoint(replace(wanted, rev=rev if current is None else current.rev)))

    @rule(name=st.sampled_from(["ep_1", "ep_2"]))
    def delete_endpoint(self, name: str) -> None:
        self.take(webhooks.delete_endpoint(name))

    @rule(name=st.sampled_from(["drugs", "places"]), behind=st.integers(0, 1), size=st.integers(1, 50))
    def put_label_set(self, name: str, behind: int, size: int) -> None:
        latest = self.ledger.run(label_sets.read_label_set("t1", name)).versions.latest
        new = NewVersion("t1", name, latest - behind, b"s" * size, labels=1)
        self.take(label_sets.put_label_set(new), repeat=True)

    @rule(name=st.sampled_from(["drugs", "places"]))
    def delete_label_set(self, name: str) -> None:
        self.take(label_sets.delete_label_set("t1", name), repeat=True)

    @rule(outcome=st.sampled_from(["delivered", "retry", "failed"]), lapsed=st.booleans(), repeat=st.booleans())
    def deliver(self, outcome: str, lapsed: bool, repeat: bool) -> None:
        for message in self.ledger.run(webhooks.take_due_deliveries(1, 4, again_ms=1)).messages:
            for delivery in message:
                claim = webhooks.claim_delivery(delivery, f"n{self.serial}", 0 if lapsed else 60_000, 4)
                if self.ledger.run(claim).kind == "run":
                    attempt = DeliveryAttempt(1, 500, 5, "x", b"body")
                    self.take(
                        webhooks.record_delivery(
                            delivery, f"n{self.serial}", webhooks.AttemptVerdict(outcome), attempt
                        ),
                        repeat,
                    )  # type: ignore[arg-type]
                self.serial += 1

    @rule()
    def upkeep(self) -> None:
        for record in self.client.smembers("{gleaner}:wipes"):  # type: ignore[union-attr]
            self.take(ledger.wipe_record(record.decode()))

    @invariant()
    def books_are_what_is_stored(self) -> None:
        assert stored(self.client) == recount(self.client)

    @invariant()
    def nothing_is_to_be_swept(self) -> None:
        assert [self.ledger.run(ledger.sweep_tenant(tenant)) for tenant in TENANTS] == [0, 0]


def endpoint(name: str, tenant: str, kind: str, size: int = 10) -> Endpoint:
    """Return an endpoint that hears of everything."""
    return Endpoint(name, tenant, 0, b"s" * size, (), kind, kind == "url", name, "active", created=0, now=0)  # type: ignore[arg-type]


@pytest.mark.timeout(240)
def test_what_a_tenant_keeps_is_what_is_stored_for_it(ledger_url: str) -> None:
    """After every transition, repeated or refused, the ledger's count is the length of all that is there."""

    class ConnectedMachine(BooksMachine):
        url = ledger_url

    run_state_machine_as_test(
        ConnectedMachine,
        settings=settings(max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck)),
    )


@pytest.mark.parametrize("kind", ["job", "dlv", "ep", "event", "stage", "lset"])
def test_what_a_ttl_took_is_taken_off_the_count(store: Ledger, client: redis.Redis, kind: str) -> None:
    """Upkeep finds the missing keys, whichever lapsed, and counts the rest."""
    store.run(webhooks.upsert_endpoint(endpoint("ep_1", "t1", "url")))
    store.run(label_sets.put_label_set(NewVersion("t1", "drugs", 0, b"sealed", labels=1)))
    created = store.run(ledger.create_job(new_job("job_1", meta=b"meta")))
    store.run(ledger.claim_shard(created.publish[0], "n", "w", "rev"))
    store.run(ledger.complete_shard(created.publish[0], "n", ledger.ShardResult(b"result", b"", 1, 0, {}, {})))
    store.run(ledger.stage_shards("job_2", 0, [b"blob"], terms=ledger.StageTerms(tenant="t1")))
    before = stored(client)
    assert before == recount(client)
    for key in client.scan_iter(f"{{gleaner}}:{kind}:*"):
        client.delete(key)
    assert store.run(ledger.sweep_tenant("t1")) > 0
    assert 0 < stored(client)["t1"] < before["t1"]
    assert store.run(ledger.sweep_tenant("t1")) == 0


def test_the_last_record_of_a_tenant_takes_its_count_along(store: Ledger, client: redis.Redis) -> None:
    """Also a count that some fault left behind; the tenant is not looked at any more."""
    store.run(ledger.create_job(new_job("job_1")))
    client.hincrby("{gleaner}:tenant:t1", "stored", 999)
    client.delete("{gleaner}:job:job_1")
    store.run(ledger.sweep_tenant("t1"))
    assert stored(client) == {}
    assert client.smembers("{gleaner}:tenants") == set()


def test_many_records_are_swept_some_at_a_time(store: Ledger, client: redis.Redis) -> None:
    """A call looks at about 500, and the next goes on there."""
    client.hset("{gleaner}:kept:t1", mapping={f"d:dlv_{n}": 10 for n in range(5000)})
    client.hset("{gleaner}:tenant:t1", "stored", 50_000)
    assert store.run(ledger.sweep_tenant("t1")) <= 20_000
    for _ in range(30):
        store.run(ledger.sweep_tenant("t1"))
    assert stored(client) == {}


def test_the_count_of_a_job_from_before_an_upgrade_never_falls_below_nothing(
    store: Ledger, client: redis.Redis
) -> None:
    """Such a job is in no books when its texts become results."""
    created = store.run(ledger.create_job(new_job("job_1")))
    client.delete("{gleaner}:kept:t1")
    client.hdel("{gleaner}:tenant:t1", "stored")
    client.hdel("{gleaner}:job:job_1", "texts", "text_ttl", "idem")
    store.run(ledger.claim_shard(created.publish[0], "n", "w", "rev"))
    assert (
        store.run(ledger.complete_shard(created.publish[0], "n", ledger.ShardResult(b"r", b"", 1, 0, {}, {}))).kind
        == "stored"
    )
    assert store.run(ledger.purge_job("job_1")) == "purged"
    assert stored(client) == {}


def test_a_cancelled_jobs_texts_go_and_its_documents_keep_their_names(store: Ledger, client: redis.Redis) -> None:
    """Results still list them after the texts were dropped; the job's room is free but for that."""
    new = new_job("job_1", (2, 1), doc_ids=[("ä/1", 1)], text_ttl_s=0.001)
    store.run(ledger.create_job(new))
    store.run(ledger.cancel_job("job_1"))
    assert store.run(ledger.drop_texts("job_1"))
    assert not store.run(ledger.drop_texts("job_1"))
    assert stored(client) == recount(client)
    page = store.run(ledger.read_page("job_1", 0))
    left = store.run(ledger.read_leftovers("job_1", 0))
    assert isinstance(page, ledger.Page)
    assert isinstance(left, ledger.Leftovers)
    assert isinstance(page.job, Job)
    assert left.dropped
    assert not any(b"text" in shard.blob for shard in page.shards)


def test_an_endpoint_keeps_a_bounded_number_of_ended_deliveries(store: Ledger, client: redis.Redis) -> None:
    """The oldest go when another ends; those that are still to come stay."""
    store.run(webhooks.upsert_endpoint(endpoint("ep_1", "t1", "url")))
    for n in range(3):
        created = store.run(ledger.create_job(new_job(f"job_{n}")))
        store.run(ledger.cancel_job(f"job_{n}"))
        assert created.kind == "created"
    [first, second, third] = (
        delivery for message in store.run(webhooks.take_due_deliveries(10, 4)).messages for delivery in message
    )
    client.zadd("{gleaner}:dlvs:ep_1", {f"dlv_{n}": 9e15 + n for n in range(5000)})
    for delivery in (first, second):
        store.run(webhooks.claim_delivery(delivery, "n", 60_000, 4))
        attempt = DeliveryAttempt(1, 200, 5, "", b"")
        assert (
            store.run(webhooks.record_delivery(delivery, "n", webhooks.AttemptVerdict("delivered"), attempt))[0]
            == "delivered"
        )
    assert store.run(webhooks.read_delivery(first)) is None
    assert store.run(webhooks.read_delivery(third)) is not None
    assert stored(client) == recount(client)
