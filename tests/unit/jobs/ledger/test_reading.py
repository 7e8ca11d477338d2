"""Lists, single documents, leftovers, stages: the ledger's reads against a real server."""

from __future__ import annotations

from itertools import count
from typing import Any

import redis

from jobs import ledger
from jobs.ledger import FoundDocument, JobPosition, Ledger, Leftovers, NewJob
from jobs.schema import Job, JobStatus
from jobs.shards import decode_documents
from tests.support.ledger import CODEC, new_job
from tests.support.processes.harness import wait_for


def listed(store: Ledger, limit: int = 100, behind: JobPosition | None = None, **filters: object) -> list[str]:
    """Ids of one page."""
    page = store.run(ledger.list_jobs("t1", limit, behind=behind, **filters))  # type: ignore[arg-type]
    return [job.id for job in page.jobs]


def test_jobs_are_listed_newest_first_and_by_tenant(store: Ledger) -> None:
    """By the ledger's time, and by id within a millisecond; nobody else's."""
    now = store.run(ledger.ping_write())
    for name, ms in (("b", 0), ("a", 0), ("c", -5)):
        store.run(ledger.create_job(new_job(f"job_{name}", created=now + ms)))
    store.run(ledger.create_job(new_job("job_x", tenant="t2")))

    assert listed(store) == ["job_b", "job_a", "job_c"]
    assert listed(store, created_after=now - 1) == ["job_b", "job_a"]
    assert listed(store, behind=JobPosition(now, "job_b")) == ["job_a", "job_c"]


def test_a_place_in_the_list_outlives_its_job(store: Ledger) -> None:
    """Jobs that come and go between two pages neither repeat nor hide any other."""
    now = store.run(ledger.ping_write())
    for n in range(9):
        store.run(ledger.create_job(new_job(f"job_{n}", created=now + n)))
    first = store.run(ledger.list_jobs("t1", 3))
    assert first.next is not None
    store.run(ledger.cancel_job(first.next.id))
    store.run(ledger.purge_job(first.next.id))
    store.run(ledger.create_job(new_job("job_new", created=now + 50)))

    assert [job.id for job in first.jobs] == ["job_8", "job_7", "job_6"]
    assert listed(store, behind=first.next) == ["job_5", "job_4", "job_3", "job_2", "job_1", "job_0"]


def test_a_filter_looks_at_a_bounded_number_and_goes_on(store: Ledger, client: redis.Redis) -> None:
    """A page may be empty and yet have a next one; a lapsed member goes when it is met."""
    now = store.run(ledger.ping_write())
    store.run(ledger.create_job(new_job("job_1", created=now)))
    store.run(ledger.cancel_job("job_1"))
    client.zadd("{gleaner}:jobs:t1", {f"job_lapsed{n}": now + n for n in range(1, 2501)})

    page = store.run(ledger.list_jobs("t1", 10, statuses=[JobStatus.CANCELLED]))
    assert (page.jobs, client.zcard("{gleaner}:jobs:t1")) == ((), 501)
    assert page.next is not None
    rest = store.run(ledger.list_jobs("t1", 10, statuses=[JobStatus.CANCELLED], behind=page.next))
    assert ([job.id for job in rest.jobs], rest.next) == (["job_1"], None)
    assert listed(store, statuses=[JobStatus.QUEUED]) == []


def test_a_rare_state_costs_a_bounded_look_a_call(store: Ledger) -> None:
    """200 jobs that do not fit are passed in one call; all of them in as many calls as that takes, none twice."""
    now = store.run(ledger.ping_write())
    for n in range(410):
        store.run(ledger.create_job(new_job(f"job_{n:03}", created=now + n)))
    store.run(ledger.cancel_job("job_000"))

    passed: list[Any] = []
    position, result = None, []
    while not passed or position is not None:
        page = store.run(ledger.list_jobs("t1", 10, statuses=[JobStatus.CANCELLED], behind=position))
        result += [job.id for job in page.jobs]
        position = page.next
        passed.append(410 if position is None else 410 - int(position.id.removeprefix("job_")))
    assert (result, passed) == (["job_000"], [200, 400, 410])


def test_a_document_is_found_by_index_and_by_id(store: Ledger) -> None:
    """Whichever shard it is in; a number past the end is none."""
    store.run(ledger.create_job(new_job("job_1", sizes=(2, 1, 3), doc_ids=[("x", 4)])))

    def shard_of(doc_id: str) -> tuple[int, int] | None:
        result = store.run(ledger.find_document("job_1", doc_id))
        assert isinstance(result, FoundDocument)
        return None if result.shard is None else (result.index, result.shard.shard)

    assert [shard_of(str(n)) for n in range(7)] == [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2), None]
    assert (shard_of("x"), shard_of("y"), shard_of("-1"), shard_of("9" * 400)) == ((4, 2), None, None, None)
    assert store.run(ledger.find_document("job_2", "0")) is None


def test_a_job_keeps_the_default_threshold_of_the_worker_that_began_it(store: Ledger) -> None:
    """Shards that others take are read with it, too; shards that an older worker began are read with 0.5."""
    created = store.run(ledger.create_job(new_job("job_1", sizes=(1, 1))))
    first = store.run(
        ledger.claim_shard(created.publish[0], "n", "w", "rev", ledger.ClaimTerms(default_threshold=0.3))
    )
    again = store.run(
        ledger.claim_shard(created.publish[0], "n", "w", "rev", ledger.ClaimTerms(default_threshold=0.3))
    )
    second = store.run(
        ledger.claim_shard(created.publish[1], "n", "other", "rev-2", ledger.ClaimTerms(default_threshold=0.7))
    )

    assert (first.default_threshold, again.default_threshold, second.default_threshold) == (0.3, 0.3, 0.3)
    assert first.partial_results == second.partial_results == ()
    assert _job(store, "job_1").default_threshold == 0.3


def test_a_job_that_an_older_worker_began_is_read_with_its_threshold(store: Ledger, client: redis.Redis) -> None:
    """It was 0.5, and was not recorded."""
    created = store.run(ledger.create_job(new_job("job_1", sizes=(1, 1))))
    assert _job(store, "job_1").default_threshold is None
    store.run(ledger.claim_shard(created.publish[0], "n", "w", "rev", ledger.ClaimTerms(default_threshold=0.3)))
    client.hdel("{gleaner}:job:job_1", "threshold")

    assert _job(store, "job_1").default_threshold == 0.5
    second = store.run(
        ledger.claim_shard(created.publish[1], "n", "other", "rev", ledger.ClaimTerms(default_threshold=0.3))
    )
    assert second.default_threshold == 0.5


def _job(store: Ledger, name: str) -> Job:
    result = store.run(ledger.read_job(name))
    assert isinstance(result, Job)
    return result


def test_leftovers_are_what_did_not_succeed(store: Ledger) -> None:
    """Payloads of failed and of cancelled documents; nothing of a shard that succeeded."""
    created = store.run(ledger.create_job(new_job("job_1", sizes=(1, 2, 2, 1))))
    for message, failed in zip(created.publish, (0, 1), strict=True):
        store.run(ledger.claim_shard(message, "n", "w", "rev"))
        ndocs = 1 if message.shard == 0 else 2
        blob = CODEC.encode(b"[]", "any") if failed else b""
        done = store.run(
            ledger.complete_shard(message, "n", ledger.ShardResult(b"r", blob, ndocs - failed, failed, {}, {}))
        )
        assert done.kind == "stored"
    store.run(ledger.cancel_job("job_1"))

    page = store.run(ledger.read_leftovers("job_1", 0))
    assert isinstance(page, Leftovers)
    assert (page.job.status, [shard for shard, _ in page.blobs], page.next) == ("cancelled", [1, 2, 3], None)
    texts = decode_documents(CODEC.decode(page.blobs[1][1], ledger.associated_data("in", "job_1", 2)))
    assert [document.text for document in texts] == ["text 3", "text 4"]
    few = store.run(ledger.read_leftovers("job_1", 0, max_bytes=1))
    assert isinstance(few, Leftovers)
    assert ([shard for shard, _ in few.blobs], few.next) == ([1], 2)


def test_a_staged_job_is_made_of_what_was_staged(store: Ledger, client: redis.Redis) -> None:
    """Payloads and ids lose their end of life; the reservation is the job's, once."""
    whole = new_job("job_1", sizes=(1, 1))
    store.run(ledger.stage_shards("job_1", 0, whole.blobs[:1], [("a", 0)]))
    store.run(ledger.stage_shards("job_1", 1, whole.blobs[1:]))
    assert store.run(ledger.stage_shards("job_1", 2, ())) == "more"
    size = sum(map(len, whole.blobs))
    staged = new_job("job_1", sizes=(1, 1), blobs=(), bytes_in=size)

    assert store.run(ledger.create_job(staged)).kind == "created"
    assert (client.ttl("{gleaner}:in:job_1"), client.ttl("{gleaner}:ids:job_1")) == (-1, -1)
    assert client.hget("{gleaner}:sys", "reserve") == str(size * 3).encode()
    assert not store.run(ledger.drop_stage("job_1", now=True))
    assert client.exists("{gleaner}:in:job_1")


def test_a_stage_is_dropped_at_once_where_asked(store: Ledger, client: redis.Redis) -> None:
    """Its reservation comes back, and a create that comes too late says so."""
    store.run(ledger.stage_shards("job_1", 0, [b"blob"], [("a", 0)]))
    assert not store.run(ledger.drop_stage("job_1"))
    assert store.run(ledger.drop_stage("job_1", now=True))

    assert client.keys("*:in:*") == client.keys("*:ids:*") == []
    assert client.hget("{gleaner}:sys", "reserve") == b"0"
    assert store.run(ledger.create_job(new_job("job_1", blobs=()))).kind == "stage_lost"


def test_a_stage_is_refused_where_memory_is_full(store: Ledger, client: redis.Redis) -> None:
    """Before it is stored: nothing of it stays."""
    limit = int(client.info("memory")["used_memory"] / 0.6)  # type: ignore[index,operator]
    client.config_set("maxmemory", limit)
    try:
        assert store.run(ledger.stage_shards("job_1", 0, [b"x" * (limit // 20)])) == "memory_full"
    finally:
        client.config_set("maxmemory", 0)
    assert not client.exists("{gleaner}:in:job_1")


def test_a_job_is_refused_where_memory_is_full(store: Ledger, client: redis.Redis) -> None:
    """A moment later at the latest: the server is not asked for each of many jobs."""
    client.config_resetstat()
    for number in range(50):
        assert store.run(ledger.create_job(new_job(f"job_{number}"))).kind == "created"
    calls = client.info("commandstats")["cmdstat_info"]["calls"]  # type: ignore[index]
    assert calls < 25
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.75))  # type: ignore[index,operator]
    try:
        late = (store.run(ledger.create_job(new_job(f"job_late_{n}"))).kind for n in count())
        wait_for(lambda: next(late) == "memory_full", 5, "the memory is looked at again")
    finally:
        client.config_set("maxmemory", 0)


def test_a_stream_s_key_learns_its_hash_at_the_end(store: Ledger) -> None:
    """Pending without a hash; then known, and replayed or refused by the hash that create brought."""

    def begin(nonce: str, sha: str) -> str:
        return store.run(ledger.claim_idempotency_key("t1", "k", nonce, sha)).kind

    assert [begin("n1", ""), begin("n1", ""), begin("n2", ""), begin("n2", "sha")] == [
        "run", "run", "in_progress", "in_progress",
    ]  # fmt: skip
    job: NewJob = new_job("job_1", idempotency_hash="k", nonce="n1", body_sha="sha", response=b"answer")
    assert store.run(ledger.create_job(job)).kind == "created"
    assert [begin("n3", ""), begin("n3", "sha"), begin("n3", "other")] == ["known", "replay", "reused"]


def test_versions_tell_what_changed(store: Ledger) -> None:
    """A single call reads the versions of several jobs."""
    for name in ("job_1", "job_2"):
        store.run(ledger.create_job(new_job(name)))
    store.run(ledger.cancel_job("job_2"))

    assert store.run(ledger.read_versions(["job_1", "job_2", "job_3"])) == (1, 2, -1)
