"""Encodes the results of stored shards, part by part, from a place on that may be inside of a result.

Pure: what is read and decoded when, and in how much memory, is the caller's to say (`gateway.reading.results`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from gateway.reading.rows import Encode
from jobs.codec import Codec
from jobs.ledger import StoredShard
from jobs.results import Cursor, Row, open_shard, read_rows
from jobs.schema import DocumentStatus

PIECE_BYTES = 64 * 1024
"""What is handed to the connection at once: what a slow client costs, with as much again in the socket's buffer."""
PAGE_BYTES = 8 << 20
"""Largest JSON page, a single larger result aside."""
_NO_LIMIT = 1 << 60
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
        shard, offset: the result that comes next, or that is being written.
        written: its bytes that were written already.
        results: results written.
        size: bytes of all that was written.
        scanned: decoded bytes of the shards that were read.
        opening: decoded bytes of the shard that was opened last.
        full: nothing more is wanted.
    """

    shard: int = 0
    offset: int = 0
    written: int = 0
    results: int = 0
    size: int = 0
    scanned: int = 0
    opening: int = 0
    full: bool = False

    @property
    def at(self) -> Cursor:
        """The result that comes next, or that is being written."""
        return Cursor(self.shard, self.offset)

    def end_result(self, last: bool) -> None:
        """Go on behind a result that is written; `last` of its shard."""
        self.results += 1
        self.written = 0
        self.skip_result(last)

    def skip_result(self, last: bool) -> None:
        """Go on behind a result."""
        if last:
            self.shard, self.offset = self.shard + 1, 0
        else:
            self.offset += 1


def encode_shards(
    job_id: str, shards: Iterable[StoredShard], codec: Codec, wanted: Wanted, progress: Progress
) -> Iterator[bytes]:
    """Yield the bytes of the results from `progress.at` on, in parts of at most `PIECE_BYTES`.

    Before a shard is decoded it yields b"", and `progress.opening` is what that is going to take.

    Raises:
        CodecError: a stored blob cannot be read.
    """
    encode, statuses, between, paged = wanted.encode, wanted.statuses, wanted.between, wanted.paged
    limit = _NO_LIMIT if wanted.limit is None else wanted.limit
    for stored in shards:
        packed = open_shard(job_id, stored, codec)
        progress.opening = packed.size
        yield b""
        if progress.shard != stored.shard:
            progress.shard, progress.offset = stored.shard, 0
        for row in read_rows(stored, packed, codec, progress.offset):
            if not statuses or row.status in statuses:
                if paged and _is_too_much(row, progress):
                    progress.full = True
                    return
                parts = encode(row.result())
                if isinstance(parts, tuple) and not progress.written and len(parts[0]) <= PIECE_BYTES:
                    part = between + parts[0] if progress.results else parts[0]
                    progress.size += len(part)
                    progress.end_result(row.last)
                    yield part
                else:
                    yield from _in_pieces(parts, between, progress)
                    progress.end_result(row.last)
                if progress.results >= limit:
                    progress.full = True
                    return
            else:
                progress.skip_result(row.last)
        progress.shard, progress.offset = stored.shard + 1, 0  # also where the cursor was behind its end
        progress.scanned += packed.size
        if paged and progress.scanned >= SCANNED_BYTES:
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


def _is_too_much(row: Row, progress: Progress) -> bool:
    """Say whether a page is full without this row; the first always has room."""
    begun = progress.results > 0 and not progress.written
    return begun and progress.size + len(row.raw) > PAGE_BYTES


def _in_pieces(parts: Iterable[bytes], between: bytes, progress: Progress) -> Iterator[bytes]:
    behind = progress.written
    for part in chain((between,), parts) if progress.results else parts:
        for first in range(min(behind, len(part)), len(part), PIECE_BYTES):
            piece = part[first : first + PIECE_BYTES]
            progress.written += len(piece)
            progress.size += len(piece)
            yield piece
        behind -= min(behind, len(part))
