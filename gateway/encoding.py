"""Encodes the results of stored shards, part by part, from a place on that may be inside of a result.

Pure: what is read and decoded when, and in how much memory, is the caller's to say (`gateway.results`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from gateway.rows import Encode
from jobs.codec import Codec
from jobs.ledger import StoredShard
from jobs.results import Cursor, Row, open_shard, read_rows
from jobs.schema import DocumentStatus

PIECE_BYTES = 64 * 1024
"""What is handed to the connection at once: what a slow client costs, with as much again in the socket's buffer."""
PAGE_BYTES = 8 << 20
"""Largest JSON page, a single larger result aside."""
SCANNED_BYTES = 64 << 20
"""A page that keeps few of many results is given back after so many decoded bytes, with a cursor to go on."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a job's results is read, and how it is written.

    Attributes:
        limit: most results; None is no limit.
        statuses: only these; all if empty.
        between: what stands between two results.
        paged: end at `PAGE_BYTES`, or when much was read for little.
    """

    encode: Encode
    limit: int | None = None
    statuses: Collection[DocumentStatus] = ()
    between: bytes = b""
    paged: bool = False


@dataclass(slots=True)
class Progress:
    """How far a reader has come.

    Attributes:
        at: the result that comes next, or that is being written.
        written: its bytes that were written already.
        results: results written.
        size: bytes of all that was written.
        scanned: decoded bytes of the shards that were read.
        opening: decoded bytes of the shard that was opened last.
        full: nothing more is wanted.
    """

    at: Cursor = field(default_factory=Cursor)
    written: int = 0
    results: int = 0
    size: int = 0
    scanned: int = 0
    opening: int = 0
    full: bool = False


def encode_shards(
    job_id: str, shards: Iterable[StoredShard], codec: Codec, wanted: Wanted, progress: Progress
) -> Iterator[bytes]:
    """Yield the bytes of the results from `progress.at` on, in parts of at most `PIECE_BYTES`.

    Before a shard is decoded it yields b"", and `progress.opening` is what that is going to take.

    Raises:
        CodecError: a stored blob cannot be read.
    """
    for stored in shards:
        packed = open_shard(job_id, stored, codec)
        progress.opening = packed.size
        yield b""
        offset = progress.at.offset if progress.at.shard == stored.shard else 0
        for row in read_rows(stored, packed, codec, offset):
            if not wanted.statuses or row.status in wanted.statuses:
                if _is_too_much(row, wanted, progress):
                    progress.full = True
                    return
                yield from _encode_row(row, wanted, progress)
            offset += 1
            progress.at = Cursor(stored.shard + 1) if row.last else Cursor(stored.shard, offset)
            if wanted.limit is not None and progress.results >= wanted.limit:
                progress.full = True
                return
        progress.at = Cursor(stored.shard + 1)  # also where the cursor was behind its end
        progress.scanned += packed.size
        if wanted.paged and progress.scanned >= SCANNED_BYTES:
            progress.full = True
            return


def take_piece(parts: Iterator[bytes], progress: Progress, most: int, allowance: int) -> tuple[bytes, bool]:
    """Return about `PIECE_BYTES`, and whether `parts` has ended.

    It comes back with less before a shard that decodes to more than `most` bytes, and when more than `allowance`
    bytes are to be decoded; the next call goes on with that shard.
    """
    piece: list[bytes] = []
    size = opened = 0
    for part in parts:
        if part:
            piece.append(part)
            size += len(part)
            if size >= PIECE_BYTES:
                return b"".join(piece), False
        else:
            opened += progress.opening
            if progress.opening > most or opened > allowance:
                return b"".join(piece), False
    return b"".join(piece), True


def _is_too_much(row: Row, wanted: Wanted, progress: Progress) -> bool:
    """Say whether a page is full without this row; the first always has room."""
    begun = progress.results and not progress.written
    return bool(wanted.paged and begun and progress.size + len(row.raw) > PAGE_BYTES)


def _encode_row(row: Row, wanted: Wanted, progress: Progress) -> Iterator[bytes]:
    behind = progress.written
    parts = wanted.encode(row.result())
    for part in chain((wanted.between,), parts) if progress.results else parts:
        for first in range(min(behind, len(part)), len(part), PIECE_BYTES):
            piece = part[first : first + PIECE_BYTES]
            progress.written += len(piece)
            progress.size += len(piece)
            yield piece
        behind -= min(behind, len(part))
    progress.results += 1
    progress.written = 0
