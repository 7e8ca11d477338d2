"""Turns a page of stored shards into documents' results in input order, with the cursor behind them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from jobs.codec import Codec
from jobs.ledger import Page, StoredShard, place
from jobs.schema import DocumentResult, DocumentStatus
from jobs.shards import decode_documents, decode_results

_UNFINISHED = {"c": DocumentStatus.cancelled, "x": DocumentStatus.expired, "r": DocumentStatus.running}


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a job's results: the shard, and how many of its documents were read."""

    shard: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Results from a cursor on.

    Attributes:
        results: finished documents in input order.
        next: where to go on; None once every result of the job was read.
        complete: the job is terminal, so that no result is still to come.
    """

    results: tuple[DocumentResult, ...]
    next: Cursor | None
    complete: bool


def documents(
    job_id: str,
    page: Page,
    codec: Codec,
    start: Cursor,
    limit: int,
    statuses: Collection[DocumentStatus] = (),
) -> Batch:
    """At most `limit` results from `start` on, only those of `statuses` if any are named.

    `page` is what `ledger.page(job_id, start.shard)` answered.

    Raises:
        CodecError: a stored blob cannot be read.
    """
    results: list[DocumentResult] = []
    shard, offset = start.shard, start.offset
    for stored in page.shards:
        rows = _rows(job_id, stored, codec)
        shard, offset = stored.shard, start.offset if stored.shard == start.shard else 0
        for row in rows[offset:]:
            if len(results) == limit:
                return Batch(tuple(results), Cursor(shard, offset), page.job.status.terminal)
            offset += 1
            if not statuses or row.status in statuses:
                results.append(row)
        shard, offset = stored.shard + 1, 0
    return Batch(tuple(results), None if shard >= page.total else Cursor(shard, offset), page.job.status.terminal)


def stored_document(job_id: str, stored: StoredShard, index: int, codec: Codec) -> DocumentResult | None:
    """The result of the job's document `index`, which is in this shard; queued or running where it has none yet.

    Raises:
        CodecError: the stored blob cannot be read.
    """
    return next((row for row in _rows(job_id, stored, codec) if row.index == index), None)


def _rows(job_id: str, stored: StoredShard, codec: Codec) -> tuple[DocumentResult, ...]:
    if stored.state == "d":
        return decode_results(codec.decode(stored.blob, place("out", job_id, stored.shard)))
    status = _UNFINISHED.get(stored.state, DocumentStatus.queued)
    payload = decode_documents(codec.decode(stored.blob, place("in", job_id, stored.shard)))
    return tuple(DocumentResult(d.index, d.id, status, attempts=stored.attempts) for d in payload)
