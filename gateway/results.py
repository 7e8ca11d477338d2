"""Reads a job's results from a cursor on: stored shards -> JSON lines, a bounded piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

import orjson

from gateway.auth import Caller
from gateway.edge import StreamAbortedError
from gateway.lookup import owned_page
from gateway.problems import Problem
from gateway.services import Services
from jobs.codec import Codec, CodecError
from jobs.ledger import LedgerUnavailableError, Page
from jobs.results import Cursor, documents
from jobs.schema import DocumentStatus

_MAX_PIECES = 8
"""A page that keeps few of many results is given back after so many reads, with a cursor to go on."""
_INLINE_BYTES = 32 * 1024
"""Smaller pieces are decoded in place; a thread would cost more than it saves."""
_ALL = 1 << 30


@dataclass(frozen=True, slots=True)
class Piece:
    """Results as JSON objects, in input order.

    Attributes:
        next: where to go on; None once every result of the job was read.
        complete: the job has ended, so that no result is still to come.
    """

    rows: tuple[bytes, ...]
    next: Cursor | None
    complete: bool


async def read_page(
    services: Services,
    caller: Caller,
    job_id: str,
    start: Cursor,
    limit: int = _ALL,
    statuses: Collection[DocumentStatus] = (),
    pieces: int = _MAX_PIECES,
) -> Piece:
    """Up to `limit` results from `start` on, as far as they are finished without a gap.

    Raises:
        Problem: job_not_found or job_purged.
    """
    rows: list[bytes] = []
    at = start
    for _ in range(pieces):
        piece = await _read_piece(services, caller, job_id, at, limit - len(rows), statuses)
        rows += piece.rows
        if piece.next is None or piece.next == at or len(rows) >= limit:
            return Piece(tuple(rows), piece.next, piece.complete)
        at = piece.next
    return Piece(tuple(rows), at, piece.complete)


async def read_all(services: Services, caller: Caller, job_id: str) -> tuple[bytes, ...]:
    """Every result of an ended job; for few documents.

    Raises:
        Problem: job_not_found or job_purged.
    """
    return (await read_page(services, caller, job_id, Cursor(), pieces=_ALL)).rows


async def stream(
    services: Services,
    caller: Caller,
    job_id: str,
    first: Piece,
    limit: int,
    statuses: Collection[DocumentStatus] = (),
) -> AsyncIterator[bytes]:
    """NDJSON of `first` and what follows it, up to the end or the first unfinished document.

    Raises:
        StreamAbortedError: the job vanished or the store went away, so that the stream must not end cleanly.
    """
    piece, sent = first, 0
    while True:
        if piece.rows:
            yield b"\n".join(piece.rows) + b"\n"
        sent += len(piece.rows)
        at = piece.next
        if at is None or sent >= limit:
            return
        try:
            piece = await _read_piece(services, caller, job_id, at, limit - sent, statuses)
        except (Problem, LedgerUnavailableError, CodecError) as error:
            raise StreamAbortedError(type(error).__name__) from error
        if piece.next == at:
            return


async def _read_piece(
    services: Services,
    caller: Caller,
    job_id: str,
    start: Cursor,
    limit: int,
    statuses: Collection[DocumentStatus],
) -> Piece:
    page = await owned_page(services, caller, job_id, start.shard)
    args = (services.codec, job_id, page, start, limit, statuses)
    if sum(len(stored.blob) for stored in page.shards) <= _INLINE_BYTES:
        return _decode(*args)
    return await asyncio.to_thread(_decode, *args)


def _decode(
    codec: Codec, job_id: str, page: Page, start: Cursor, limit: int, statuses: Collection[DocumentStatus]
) -> Piece:
    batch = documents(job_id, page, codec, start, limit, statuses)
    return Piece(tuple(orjson.dumps(result.to_dict()) for result in batch.results), batch.next, batch.complete)
