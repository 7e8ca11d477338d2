"""Encodes the results of stored shards in chunks, from a position on that may be inside a result.

Pure: the caller (`gateway.reading.results`) decides when to read and decode, and in how much memory.
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

CHUNK_BYTES = 64 * 1024
"""Bytes handed to the connection at once; a slow client costs this, and as much again in the socket's buffer."""
PAGE_BYTES = 8 << 20
"""Largest JSON page, unless a single result is larger."""
_NO_LIMIT = 1 << 60
_BEGINNING = Cursor()
MAX_SCANNED_BYTES = 64 << 20
"""Decoded bytes after which a page is returned even if the filter matched little, with a cursor to continue."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Selects the results to read, and their format.

    Attributes:
        start: position of the first result.
        limit: most results; None is no limit.
        statuses: only results with one of these; all if empty.
        separator: bytes between two results.
        paged: end at `PAGE_BYTES` or `MAX_SCANNED_BYTES`.
    """

    encode: Encode
    start: Cursor = _BEGINNING
    limit: int | None = None
    statuses: Collection[DocumentStatus] = ()
    separator: bytes = b""
    paged: bool = False


@dataclass(slots=True)
class Progress:
    """A reader's position and counters.

    Attributes:
        shard, offset: the next result, or the one being written.
        written: bytes of that result that were written already.
        results: number of results written.
        size: bytes written in total.
        scanned_bytes: decoded bytes of the shards that were read.
        opened_bytes: decoded bytes of the shard that was opened last.
        full: a limit was reached.
    """

    shard: int = 0
    offset: int = 0
    written: int = 0
    results: int = 0
    size: int = 0
    scanned_bytes: int = 0
    opened_bytes: int = 0
    full: bool = False

    @property
    def cursor(self) -> Cursor:
        """Position of the next result, or of the one being written."""
        return Cursor(self.shard, self.offset)

    def finish_result(self, last: bool) -> None:
        """Move past a result that was written; `last` if it is the last of its shard."""
        self.results += 1
        self.written = 0
        self.skip_result(last)

    def skip_result(self, last: bool) -> None:
        """Move past a result."""
        if last:
            self.shard, self.offset = self.shard + 1, 0
        else:
            self.offset += 1


def encode_shards(
    job_id: str, shards: Iterable[StoredShard], codec: Codec, options: ReadOptions, progress: Progress
) -> Iterator[bytes]:
    """Yield the bytes of the results from `progress.cursor` on, in parts of at most `CHUNK_BYTES`.

    Before each shard it yields b"", so that the caller can look at `progress.opened_bytes` before it is decoded.

    Raises:
        CodecError: a stored blob cannot be read.
    """
    encode, statuses, separator, paged = options.encode, options.statuses, options.separator, options.paged
    limit = _NO_LIMIT if options.limit is None else options.limit
    for stored in shards:
        packed = open_shard(job_id, stored, codec)
        progress.opened_bytes = packed.size
        yield b""
        if progress.shard != stored.shard:
            progress.shard, progress.offset = stored.shard, 0
        for row in read_rows(stored, packed, codec, progress.offset):
            if not statuses or row.status in statuses:
                if paged and _is_page_full(row, progress):
                    progress.full = True
                    return
                parts = encode(row.result())
                if isinstance(parts, tuple) and not progress.written and len(parts[0]) <= CHUNK_BYTES:
                    part = separator + parts[0] if progress.results else parts[0]
                    progress.size += len(part)
                    progress.finish_result(row.last)
                    yield part
                else:
                    yield from _split_chunks(parts, separator, progress)
                    progress.finish_result(row.last)
                if progress.results >= limit:
                    progress.full = True
                    return
            else:
                progress.skip_result(row.last)
        progress.shard, progress.offset = stored.shard + 1, 0  # also if the cursor was past its end
        progress.scanned_bytes += packed.size
        if paged and progress.scanned_bytes >= MAX_SCANNED_BYTES:
            progress.full = True
            return


def take_chunk(
    parts: Iterator[bytes], progress: Progress, max_bytes: int, max_total_bytes: int
) -> tuple[bytes, bool]:
    """Return about `CHUNK_BYTES`, and whether `parts` has ended.

    Returns less before a shard that decodes to more than `max_bytes`, and before more than `max_total_bytes` are
    decoded; the next call continues with that shard.
    """
    chunk: list[bytes] = []
    size = total = 0
    for part in parts:
        if part:
            chunk.append(part)
            size += len(part)
            if size >= CHUNK_BYTES:
                return b"".join(chunk), False
        else:
            total += progress.opened_bytes
            if progress.opened_bytes > max_bytes or total > max_total_bytes:
                return b"".join(chunk), False
    return b"".join(chunk), True


def _is_page_full(row: Row, progress: Progress) -> bool:
    """Return whether a page is full without this row; the first row always fits."""
    is_next = progress.results > 0 and not progress.written
    return is_next and progress.size + len(row.raw) > PAGE_BYTES


def _split_chunks(parts: Iterable[bytes], separator: bytes, progress: Progress) -> Iterator[bytes]:
    skipped = progress.written
    for part in chain((separator,), parts) if progress.results else parts:
        for first in range(min(skipped, len(part)), len(part), CHUNK_BYTES):
            chunk = part[first : first + CHUNK_BYTES]
            progress.written += len(chunk)
            progress.size += len(chunk)
            yield chunk
        skipped -= min(skipped, len(part))
