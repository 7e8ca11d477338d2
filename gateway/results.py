"""Reads a job's results from a cursor on: stored shards -> JSON or CSV, a bounded piece at a time."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass

import orjson

from gateway.auth import Caller, recheck
from gateway.edge import StreamAbortedError
from gateway.lookup import owned_page
from gateway.problems import Problem
from gateway.services import Services
from gateway.waiting import CHECK_S
from jobs.codec import Codec, CodecError
from jobs.ledger import LedgerUnavailableError, Page
from jobs.lines import escape_line_breaks
from jobs.results import Cursor, documents
from jobs.schema import DocumentResult, DocumentStatus

_MAX_PIECES = 8
"""A page that keeps few of many results is given back after so many reads, with a cursor to go on."""
_INLINE_BYTES = 8 * 1024
"""Smaller pieces are decoded in place; a thread would cost more than it saves."""
_PAGE_BYTES = 1 << 20
_STREAM_BYTES = 16 * 1024
"""Stored bytes of a stream's piece, which is in memory several times over: as it is stored, as objects, as rows, as
one chunk, in the socket's buffer, where texts that compress well are fifty times as many bytes."""
_ALL = 1 << 30

Encode = Callable[[DocumentResult], bytes]

CSV_COLUMNS = ("index", "id", "status", "start", "end", "text", "label", "score", "error")
CSV_HEAD = (",".join(CSV_COLUMNS) + "\r\n").encode()


@dataclass(frozen=True, slots=True)
class Piece:
    """Results as the client gets them, in input order.

    Attributes:
        next: where to go on; None once every result of the job was read.
        complete: the job has ended, so that no result is still to come.
    """

    rows: tuple[bytes, ...]
    next: Cursor | None
    complete: bool


def as_json(result: DocumentResult) -> bytes:
    """One JSON object."""
    return escape_line_breaks(orjson.dumps(result.to_dict()))


def as_line(result: DocumentResult) -> bytes:
    """One line of NDJSON."""
    return as_json(result) + b"\n"


def as_csv(result: DocumentResult) -> bytes:
    """A row for each entity, or a single one without entity; RFC 4180."""
    lines = io.StringIO()
    rows = csv.writer(lines)
    head = (result.index, result.id, result.status.value)
    for entity in result.entities:
        rows.writerow((*head, entity.start, entity.end, entity.text, entity.label, entity.score, ""))
    if not result.entities:
        rows.writerow((*head, "", "", "", "", "", "" if result.error is None else result.error.code.value))
    return lines.getvalue().encode()


async def read_page(
    services: Services,
    caller: Caller,
    job_id: str,
    start: Cursor,
    limit: int = _ALL,
    statuses: Collection[DocumentStatus] = (),
    pieces: int = _MAX_PIECES,
) -> Piece:
    """Up to `limit` results from `start` on as JSON objects, as far as they are finished without a gap.

    Raises:
        Problem: job_not_found or job_purged.
    """
    rows: list[bytes] = []
    at = start
    for _ in range(pieces):
        piece = await _read_piece(services, caller, job_id, at, limit - len(rows), statuses, as_json, _PAGE_BYTES)
        rows += piece.rows
        if piece.next is None or piece.next == at or len(rows) >= limit:
            return Piece(tuple(rows), piece.next, piece.complete)
        at = piece.next
    return Piece(tuple(rows), at, piece.complete)


async def first_page(services: Services, caller: Caller, job_id: str) -> Page:
    """The job as it is, with the results that a first piece may hold.

    Raises:
        Problem: job_not_found or job_purged.
    """
    return await owned_page(services, caller, job_id, Cursor().shard, _PAGE_BYTES)


async def read_all(services: Services, caller: Caller, page: Page) -> tuple[bytes, ...]:
    """Every result of an ended job, whose first page is there, as JSON objects; for few documents.

    Raises:
        Problem: job_not_found or job_purged.
    """
    first = await _piece_of(services.codec, page, Cursor(), _ALL, (), as_json)
    if first.next is None:
        return first.rows
    return first.rows + (await read_page(services, caller, page.job.id, first.next, pieces=_ALL)).rows


class Stream:
    """Results to the end, or to the first unfinished document, in constant memory.

    Args:
        limit: most results.
        statuses: only these; all if empty.
        encode: what a result becomes.
    """

    def __init__(
        self,
        services: Services,
        caller: Caller,
        job_id: str,
        limit: int,
        statuses: Collection[DocumentStatus],
        encode: Encode,
    ) -> None:
        self._services = services
        self._caller = caller
        self._job_id = job_id
        self._limit = limit
        self._statuses = statuses
        self._encode = encode
        self._checked_at = time.monotonic()

    async def begin(self, start: Cursor) -> Piece:
        """The first piece.

        Raises:
            Problem: job_not_found or job_purged.
        """
        return await self._piece(start, self._limit)

    async def run(self, first: Piece) -> AsyncIterator[bytes]:
        """`first` and what follows it.

        Raises:
            StreamAbortedError: the job vanished, the key is not good any more, or the store went away, so that the
                stream must not end cleanly.
        """
        piece, sent = first, 0
        while True:
            if piece.rows:
                yield b"".join(piece.rows)
            sent += len(piece.rows)
            at = piece.next
            if at is None or sent >= self._limit:
                return
            try:
                await self._recheck()
                piece = await self._piece(at, self._limit - sent)
            except (Problem, LedgerUnavailableError, CodecError) as error:
                reason = error.code if isinstance(error, Problem) else type(error).__name__
                raise StreamAbortedError(reason) from error
            if piece.next == at:
                return

    async def _recheck(self) -> None:
        now = time.monotonic()
        if now - self._checked_at >= CHECK_S:
            self._checked_at = now
            await recheck(self._services, self._caller)

    async def _piece(self, start: Cursor, limit: int) -> Piece:
        return await _read_piece(
            self._services, self._caller, self._job_id, start, limit, self._statuses, self._encode, _STREAM_BYTES
        )


async def _read_piece(
    services: Services,
    caller: Caller,
    job_id: str,
    start: Cursor,
    limit: int,
    statuses: Collection[DocumentStatus],
    encode: Encode,
    max_bytes: int,
) -> Piece:
    page = await owned_page(services, caller, job_id, start.shard, max_bytes)
    return await _piece_of(services.codec, page, start, limit, statuses, encode)


async def _piece_of(
    codec: Codec,
    page: Page,
    start: Cursor,
    limit: int,
    statuses: Collection[DocumentStatus],
    encode: Encode,
) -> Piece:
    def read() -> Piece:
        batch = documents(page.job.id, page, codec, start, limit, statuses)
        return Piece(tuple(map(encode, batch.results)), batch.next, batch.complete)

    small = sum(len(stored.blob) for stored in page.shards) <= _INLINE_BYTES
    return read() if small else await asyncio.to_thread(read)
