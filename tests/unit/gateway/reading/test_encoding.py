"""Results against a real ledger, encoded part by part: order, cursors, statuses, bounds, and where to go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.reading import encoding
from gateway.reading.encoding import CHUNK_BYTES, Progress, ReadOptions, encode_shards, take_chunk
from gateway.reading.rows import encode_json, encode_ndjson_line
from jobs import ledger
from jobs.ledger import Ledger, Page, associated_data
from jobs.results import Cursor
from jobs.schema import DocumentResult, DocumentStatus, Entity
from jobs.shards import encode_results
from tests.support.ledger import CODEC, new_job

MOST = 1 << 40


@pytest.fixture
def store(ledger_url: str) -> Iterator[Ledger]:
    """Return an empty ledger."""
    with redis.Redis.from_url(ledger_url) as client:
        yield Ledger(client)


def finish_shard(store: Ledger, message: ledger.Message, rows: list[DocumentResult]) -> tuple[ledger.Message, ...]:
    """Claim and complete a shard whose documents all succeed."""
    assert store.run(ledger.claim_shard(message, "n", "w", "rev")).kind == "run"
    blob = CODEC.encode(encode_results(rows), associated_data("out", message.job, message.shard))
    return store.run(
        ledger.complete_shard(message, "n", ledger.ShardResult(blob, b"", len(rows), 0, {}, {}))
    ).publish


def make_results(first: int, count: int, **fields: Any) -> list[DocumentResult]:
    """Return results of `count` documents."""
    return [DocumentResult(first + i, str(first + i), DocumentStatus.SUCCEEDED, **fields) for i in range(count)]


def read_page(store: Ledger, job: str, shard: int) -> Page:
    """Return the job's finished shards from this one on, one at a time."""
    page = store.run(ledger.read_page(job, shard, max_bytes=1))
    assert isinstance(page, Page)
    return page


def read_all(store: Ledger, job: str, options: ReadOptions, *, drop: bool = False) -> list[dict[str, Any]]:
    """Read every result there is now, page by page; `drop`: keep only the position between two chunks."""
    rows: list[dict[str, Any]] = []
    at = Cursor()
    while True:
        progress, text = Progress(at.shard, at.offset), b""
        while not progress.full:
            page = read_page(store, job, progress.cursor.shard)
            parts = encode_shards(job, page.shards, CODEC, options, progress)
            ended = not page.shards
            while not ended:
                chunk, ended = take_chunk(parts, progress, MOST, MOST)
                text += chunk
                if drop:
                    break
            if not page.shards or progress.cursor.shard >= page.total:
                break
        lines = [json.loads(line) for line in text.splitlines()]
        assert options.limit is None or len(lines) <= options.limit
        rows += lines
        if progress.cursor == at or options.limit is None:
            return rows
        at = progress.cursor


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    limit=st.integers(1, 6),
    text=st.sampled_from([None, "", '"},{"i":0', '},{"i":' * 30_000, "\u2028" * 50_000]),
    drop=st.booleans(),
)
def test_pages_of_any_size_give_every_result_once_in_order(
    store: Ledger, sizes: list[int], limit: int, text: str | None, drop: bool
) -> None:
    """However small the pages and large the results, they come in input order, each once and whole."""
    job = f"job_{'_'.join(map(str, sizes))}_{limit}"
    pending = list(store.run(ledger.create_job(new_job(job, sizes))).publish)
    while pending:
        message = pending.pop()
        rows = make_results(sum(sizes[: message.shard]), sizes[message.shard], text=text)
        pending += finish_shard(store, message, rows)
    results = read_all(store, job, ReadOptions(encode_ndjson_line, limit=limit), drop=drop)
    assert [row["index"] for row in results] == list(range(sum(sizes)))
    assert all(row.get("text") == text for row in results)
    store.run(ledger.purge_job(job))


def test_a_running_job_shows_its_contiguous_prefix(store: Ledger) -> None:
    """Results behind an unfinished shard wait for it; the cursor stays where they will appear."""
    first, second = store.run(ledger.create_job(new_job("job_1", (2, 2, 2)))).publish
    finish_shard(store, second, make_results(2, 2))
    assert read_all(store, "job_1", ReadOptions(encode_ndjson_line)) == []
    finish_shard(store, first, make_results(0, 2))
    page = store.run(ledger.read_page("job_1", 0))
    assert isinstance(page, Page)
    progress = Progress()
    lines, ended = take_chunk(
        encode_shards("job_1", page.shards, CODEC, ReadOptions(encode_ndjson_line), progress), progress, MOST, MOST
    )
    assert [json.loads(line)["index"] for line in lines.splitlines()] == [0, 1, 2, 3]
    assert (ended, progress.cursor, page.job.status.is_terminal) == (True, Cursor(2, 0), False)


def test_cancelled_documents_have_a_result_each(store: Ledger) -> None:
    """Documents that never ran are in the results as cancelled, and a filter finds them."""
    first, _ = store.run(ledger.create_job(new_job("job_1", (1, 2)))).publish
    finish_shard(store, first, make_results(0, 1))
    assert store.run(ledger.cancel_job("job_1")) == "closed"
    rows = read_all(store, "job_1", ReadOptions(encode_ndjson_line))
    assert [row["status"] for row in rows] == ["succeeded", "cancelled", "cancelled"]
    cancelled = read_all(
        store, "job_1", ReadOptions(encode_ndjson_line, limit=1, statuses=(DocumentStatus.CANCELLED,))
    )
    assert [row["id"] for row in cancelled] == ["1", "2"]


def make_shard(rows: list[DocumentResult], shard: int = 0) -> ledger.StoredShard:
    """Return a finished shard with these results."""
    return ledger.StoredShard(
        shard, "d", 1, CODEC.encode(encode_results(rows), associated_data("out", "job_1", shard))
    )


@pytest.mark.parametrize("cursor", [Cursor(0, 5), Cursor(7, 0), Cursor(999_999_999, 999_999_999)])
def test_a_cursor_behind_everything_finds_nothing(cursor: Cursor) -> None:
    """A position that does not exist is the end of its shard, never an error or a repeated result."""
    progress = Progress(cursor.shard, cursor.offset)
    shards = [make_shard(make_results(0, 2))] if cursor.shard == 0 else []
    assert take_chunk(
        encode_shards("job_1", shards, CODEC, ReadOptions(encode_ndjson_line), progress), progress, MOST, MOST
    ) == (
        b"",
        True,
    )
    assert progress.cursor in (Cursor(1), cursor)


def test_a_page_ends_before_it_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that would make a page larger than allowed are left for the next; one result always fits."""
    monkeypatch.setattr(encoding, "PAGE_BYTES", 200_000)
    options = ReadOptions(encode_json, separator=b",", paged=True)
    at, pages = Cursor(), []
    shards = [
        make_shard(make_results(3 * n, 3, text=size * "x"), n) for n, size in enumerate((40_000, 300_000, 70_000))
    ]
    while at.shard < 3:
        progress = Progress(at.shard, at.offset)
        parts = encode_shards("job_1", shards[at.shard :], CODEC, options, progress)
        rows = json.loads(b"[" + b"".join(parts) + b"]")
        pages.append([row["index"] for row in rows])
        at = progress.cursor
    assert pages == [[0, 1, 2], [3], [4], [5], [6, 7], [8]]


def test_a_page_that_finds_nothing_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that matches few of many results ends after a number of decoded bytes, with a cursor."""
    monkeypatch.setattr(encoding, "MAX_SCANNED_BYTES", 100_000)
    options = ReadOptions(encode_json, statuses=(DocumentStatus.FAILED,), paged=True)
    shards = [make_shard(make_results(n, 1, text=60_000 * "x"), n) for n in range(9)]
    progress = Progress()
    assert b"".join(encode_shards("job_1", shards, CODEC, options, progress)) == b""
    assert (progress.cursor, progress.full) == (Cursor(2), True)


def test_nothing_is_decoded_beyond_what_a_turn_allows() -> None:
    """A reader comes back before a shard that its turn is too small for, and before more than it may decode now."""
    shards = [make_shard(make_results(0, 1)), make_shard(make_results(1, 1, text=300_000 * "x"), 1)]
    progress = Progress()
    parts = encode_shards("job_1", shards, CODEC, ReadOptions(encode_ndjson_line), progress)
    chunk, ended = take_chunk(parts, progress, 100_000, MOST)
    assert (json.loads(chunk)["index"], ended, progress.opened_bytes > 300_000) == (0, False, True)
    assert progress.cursor == Cursor(1)
    chunk, ended = take_chunk(parts, progress, MOST, MOST)
    assert (len(chunk), ended) == (CHUNK_BYTES, False)


ENTITIES = tuple(Entity(n, n + 1, 'a"\u2028', '"entities":[]', 0.5) for n in range(1000))


@given(start=st.integers(0, 300_000))
@settings(max_examples=30)
def test_a_reader_goes_on_inside_of_a_result(start: int) -> None:
    """Wherever the writing stopped, the rest follows byte by byte."""
    result = DocumentResult(0, "0", DocumentStatus.SUCCEEDED, ENTITIES, text="t" * 150_000)
    shards = [make_shard([result])]
    whole = b"".join(encode_ndjson_line(result))
    progress = Progress(written=min(start, len(whole)))
    assert (
        b"".join(encode_shards("job_1", shards, CODEC, ReadOptions(encode_ndjson_line), progress)) == whole[start:]
    )
    assert progress.cursor == Cursor(1)
