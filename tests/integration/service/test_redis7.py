from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from jobs import ledger
from jobs.ledger import Gone, Ledger, Page
from jobs.schema import Job, JobStatus
from tests.support.ledger import new_job
from tests.support.servers.redis_servers import RedisServer


@pytest.fixture
def store(redis7_server: RedisServer) -> Iterator[Ledger]:
    """Return an empty ledger on the oldest supported server."""
    redis7_server.flush()
    with redis.Redis.from_url(redis7_server.url(1)) as client:
        yield Ledger(client)


def test_a_job_lives_and_goes_on_redis_7_0(store: Ledger) -> None:
    """Every script of a plain job's life runs on Redis 7.0, with the answers that Valkey gives."""
    created = store.run(ledger.create_job(new_job("job_1", (2, 1))))
    assert created.kind == "created"
    for message in created.publish:
        claim = store.run(ledger.claim_shard(message, "nonce", "worker", "rev"))
        assert claim.kind == "run"
        store.run(ledger.set_crash_suspects("worker", [(message.job, message.shard)]))
        assert store.run(ledger.renew_leases([(message.job, message.shard, "nonce")])) == ("ok",)
        documents = 2 if message.shard == 0 else 1
        done = store.run(
            ledger.complete_shard(
                message, "nonce", ledger.ShardResult(b"result", b"", documents, 0, {"windows": documents}, {})
            )
        )
        assert done.kind == "stored"

    job = store.run(ledger.read_job("job_1"))
    assert isinstance(job, Job)
    assert (job.status, job.counts.succeeded, job.counts.total) == (JobStatus.SUCCEEDED, 3, 3)
    page = store.run(ledger.read_page("job_1", 0))
    assert isinstance(page, Page)
    assert [row.blob for row in page.shards] == [b"result", b"result"]
    assert store.run(ledger.purge_job("job_1")) == "purged"
    assert store.run(ledger.read_job("job_1")) == Gone("t1")


def test_what_upkeep_and_cancel_use_runs_on_redis_7_0(store: Ledger) -> None:
    """The other scripts load and run there, too."""
    [message] = store.run(ledger.create_job(new_job("job_1"))).publish
    store.run(ledger.announce_worker("gleaner-small", "worker", 4, "rev"))
    store.run(ledger.upkeep_tick())
    store.run(ledger.audit_job("job_1"))
    store.run(ledger.claim_shard(message, "nonce", "worker", "rev"))
    assert store.run(ledger.release_shard("job_1", 0, "nonce")).kind == "released"
    assert store.run(ledger.cancel_job("job_1")) == "closed"
    assert store.run(ledger.expire_job("job_1")) == "already"
    assert store.run(ledger.ping_write()) > 0
