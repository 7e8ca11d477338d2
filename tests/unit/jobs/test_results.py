"""Stored shards, read row by row."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import results
from jobs.codec import Codec
from jobs.ledger import StoredShard, associated_data
from jobs.results import open_shard, read_rows
from jobs.schema import Document, DocumentResult, DocumentStatus
from jobs.shards import encode_documents, encode_results

CODEC = Codec()


def store_results(count: int, first: int = 0) -> StoredShard:
    """Return a finished shard."""
    rows = [DocumentResult(n, f"id {n}", DocumentStatus.SUCCEEDED) for n in range(first, first + count)]
    return StoredShard(0, "d", 1, CODEC.encode(encode_results(rows), associated_data("out", "job_1", 0)))


@given(count=st.integers(1, 30), offset=st.integers(0, 30))
def test_rows_come_in_order_from_the_offset_on(count: int, offset: int) -> None:
    """The last one says so; beyond the end there is none."""
    stored = store_results(count, first=100)
    rows = list(read_rows(stored, open_shard("job_1", stored, CODEC), CODEC, offset))
    assert [row.document for row in rows] == list(range(100 + offset, 100 + count))
    assert [row.result().id for row in rows] == [f"id {n}" for n in range(100 + offset, 100 + count)]
    assert [row.last for row in rows] == [False] * (len(rows) - 1) + [True] * bool(rows)


def test_a_large_shard_is_read_in_chunks_to_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only how much is in memory differs."""
    stored = store_results(200)
    whole = [row.raw for row in read_rows(stored, open_shard("job_1", stored, CODEC), CODEC)]
    monkeypatch.setattr(results, "_AT_ONCE_BYTES", 0)
    assert [row.raw for row in read_rows(stored, open_shard("job_1", stored, CODEC), CODEC)] == whole


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("c", DocumentStatus.CANCELLED),
        ("x", DocumentStatus.EXPIRED),
        ("r", DocumentStatus.RUNNING),
        ("p", DocumentStatus.QUEUED),
    ],
)
def test_documents_that_never_ran_have_the_state_of_their_shard(state: str, status: DocumentStatus) -> None:
    """Their ids are those that the client gave, also after their texts were dropped."""
    documents = [Document(4, "four", "a text"), Document(5, "5", "another")]
    blob = CODEC.encode(encode_documents(documents), associated_data("in", "job_1", 2))
    for stored in (
        StoredShard(2, state, 3, blob),
        StoredShard(2, state, 3, b"ids:" + orjson.dumps([4, 2, [4, "four"]])),
    ):
        rows = list(read_rows(stored, open_shard("job_1", stored, CODEC), CODEC))
        assert [(row.document, row.result().id, row.status) for row in rows] == [
            (4, "four", status),
            (5, "5", status),
        ]
        assert {row.result().attempts for row in rows} == {3}
