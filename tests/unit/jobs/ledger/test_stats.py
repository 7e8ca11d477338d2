"""The ledger's statistics, against a real server."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
import redis

from jobs import ledger, naming
from jobs.ledger import Ledger, ModelFacts, ModelStats
from tests.support.ledger import MODEL, new_job

IDLE = ModelStats(MODEL, 0, 0, None, None, 0, 0, 0, 0.0, None, None, ())


def test_facts_of_a_model_are_those_of_its_revision(store: Ledger, client: redis.Redis) -> None:
    """An older worker announces none; its revision is then without facts, and unknown facts are left alone."""
    facts = ModelFacts(384, 512, 12, 0.3)
    store.run(ledger.announce_worker(MODEL, "w", 32, "rev", facts))
    [view] = store.run(ledger.read_models([MODEL]))
    assert view.facts == facts
    stored = orjson.loads(client.hget(f"{{gleaner}}:model:{naming.model_slug(MODEL)}", "facts"))
    client.hset(f"{{gleaner}}:model:{naming.model_slug(MODEL)}", "facts", orjson.dumps(stored | {"newer": 1}))
    [view] = store.run(ledger.read_models([MODEL]))
    assert view.facts == facts

    client.hset(f"{{gleaner}}:model:{naming.model_slug(MODEL)}", "rev", "older")
    [view] = store.run(ledger.read_models([MODEL]))
    assert view.facts is None


def test_the_backlog_of_a_model(store: Ledger) -> None:
    """Jobs, characters and shards, in all and by queue."""
    now = store.run(ledger.ping_write())
    store.run(ledger.create_job(new_job("job_1", sizes=(1, 1, 1), created=now - 5000)))
    store.run(ledger.announce_worker(MODEL, "w", 32, "rev"))

    [result] = store.run(ledger.read_stats([MODEL])).models
    assert (result.open_jobs, result.open_shards, result.open_characters, result.workers) == (1, 3, 21, 1)
    assert result.oldest_s is not None
    assert 5 <= result.oldest_s < 60
    by_name = {queue.priority.value: queue for queue in result.queues}
    assert (by_name["standard"].open_jobs, by_name["interactive"].open_jobs) == (1, 0)
    assert (by_name["standard"].queued_jobs, by_name["standard"].published_shards) == (1, 2)


def test_the_models_alone_are_read_without_queues_and_server(store: Ledger) -> None:
    """The same values for every model as all statistics have, in the order asked for."""
    store.run(ledger.create_job(new_job("job_1", sizes=(1, 1))))
    store.run(ledger.report_model_error("other", "no weights"))
    every = store.run(ledger.read_stats(["other", MODEL]))
    models = store.run(ledger.read_models(["other", MODEL]))

    assert [model.name for model in models] == ["other", MODEL]
    assert [model.reason for model in models] == ["no weights", None]
    assert [model.open_shards for model in models] == [0, 2]
    assert [replace(model, oldest_s=None) for model in models] == [
        replace(model, oldest_s=None, queues=()) for model in every.models
    ]


@pytest.mark.parametrize(
    ("model", "seconds"),
    [
        (IDLE, 0.0),
        (replace(IDLE, open_shards=2, open_characters=600, drain_rate=300.0, oldest_s=50.0), 2.0),
        (replace(IDLE, open_shards=2, open_characters=600, oldest_s=50.0), 50.0),
    ],
    ids=["idle", "measured", "not measured"],
)
def test_the_duration_of_a_backlog(model: ModelStats, seconds: float) -> None:
    """From the measured rate; before the first measurement it is the oldest job's age."""
    assert model.backlog_s == seconds


def test_the_twenty_tenants_that_keep_most_are_shown(store: Ledger, client: redis.Redis) -> None:
    """The most first: metrics never have a label for everybody."""
    for n in range(30):
        tenant = f"tenant-{n:02}"
        store.run(ledger.create_job(new_job(f"job_{n}", tenant=tenant, meta=b"m" * 100 * n)))
    shown = store.run(ledger.read_stats(())).stored
    assert [tenant for tenant, _ in shown] == [f"tenant-{n:02}" for n in range(29, 9, -1)]
    assert [size for _, size in shown] == sorted((size for _, size in shown), reverse=True)
    assert shown[0][1] == int(client.hget("{gleaner}:tenant:tenant-29", "stored") or 0) > 0
