"""Results pages against a real ledger: order, cursors, statuses, and what a cancelled document looks like."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import ledger
from jobs.ledger import Ledger, Page, place
from jobs.results import Cursor, documents
from jobs.schema import DocumentResult, DocumentStatus
from jobs.shards import encode_results
from tests.support.ledger import CODEC, new_job


@pytest.fixture
def store(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger."""
    with redis.Redis.from_url(ledger_url) as client:
        yield Ledger(client)


def finish(store: Ledger, message: ledger.Message, first: int, count: int) -> tuple[ledger.Message, ...]:
    """Claim and complete a shard whose documents all succeed."""
    assert store.run(ledger.claim(message, "n", "w", "rev")).kind == "run"
    rows = [DocumentResult(first + i, str(first + i), DocumentStatus.succeeded) for i in range(count)]
    blob = CODEC.encode(encode_results(rows), place("out", message.job, message.shard))
    return store.run(ledger.complete(message, "n", blob, b"", count, 0, {}, {})).publish


def read(store: Ledger, job: str, limit: int, statuses: tuple[DocumentStatus, ...] = ()) -> list[DocumentResult]:
    """Every result there is now, page by page."""
    rows: list[DocumentResult] = []
    cursor: Cursor | None = Cursor()
    while cursor is not None:
        page = store.run(ledger.page(job, cursor.shard, max_bytes=1))
        assert isinstance(page, Page)
        batch = documents(job, page, CODEC, cursor, limit, statuses)
        assert len(batch.results) <= limit
        if batch.next == cursor:  # nothing more has finished yet
            return rows
        rows += batch.results
        cursor = batch.next
    return rows


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5), limit=st.integers(1, 6))
def test_pages_of_any_size_give_every_result_once_in_order(store: Ledger, sizes: list[int], limit: int) -> None:
    """However small the pages, the results come in input order, each once."""
    job = f"job_{'_'.join(map(str, sizes))}_{limit}"
    pending = list(store.run(ledger.create(new_job(job, sizes))).publish)
    while pending:
        message = pending.pop()
        pending += finish(store, message, sum(sizes[: message.shard]), sizes[message.shard])
    assert [r.index for r in read(store, job, limit)] == list(range(sum(sizes)))
    store.run(ledger.purge(job))


def test_a_running_job_shows_its_contiguous_prefix(store: Ledger) -> None:
    """Results behind an unfinished shard wait for it; the cursor stays where they will appear."""
    first, second = store.run(ledger.create(new_job("job_1", (2, 2, 2)))).publish
    finish(store, second, 2, 2)
    assert read(store, "job_1", 10) == []
    finish(store, first, 0, 2)
    page = store.run(ledger.page("job_1", 0))
    assert isinstance(page, Page)
    batch = documents("job_1", page, CODEC, Cursor(), 10)
    assert [r.index for r in batch.results] == [0, 1, 2, 3]
    assert (batch.next, batch.complete) == (Cursor(2, 0), False)


def test_cancelled_documents_have_a_result_each(store: Ledger) -> None:
    """What never ran is in the results as cancelled, and a filter finds it."""
    first, _ = store.run(ledger.create(new_job("job_1", (1, 2)))).publish
    finish(store, first, 0, 1)
    assert store.run(ledger.cancel("job_1")) == "closed"
    rows = read(store, "job_1", 10)
    assert [r.status for r in rows] == [DocumentStatus.succeeded] + 2 * [DocumentStatus.cancelled]
    assert [r.id for r in read(store, "job_1", 1, (DocumentStatus.cancelled,))] == ["1", "2"]
