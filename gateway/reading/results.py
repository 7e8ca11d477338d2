"""Reads a job's results from a cursor on: stored shards -> JSON or CSV, in chunks of bounded size.

Stored results may decode to a thousand times as many bytes. So a reader reserves memory for the bytes a shard
decodes to (`gateway.reading.decode_memory`), and decodes one shard at a time, a large one row by row. Decoded data
is kept while the client reads fast; for a slow client only the position is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from time import monotonic

from gateway.access import Caller
from gateway.access.auth import Authenticator
from gateway.errors import GatewayError, StreamAbortedError
from gateway.reading.decode_memory import DecodeMemory, DecodeReservation
from gateway.reading.encoding import CHUNK_BYTES, Progress, ReadOptions, encode_shards, take_chunk
from gateway.reading.job_reader import JobReader
from gateway.reading.job_waiter import CHECK_EVERY_S
from gateway.reading.rows import encode_json
from jobs.codec import Codec, CodecError, Packed
from jobs.ledger import LedgerUnavailableError, Page, StoredShard
from jobs.results import Cursor, open_shard, read_rows

MAX_WHOLE_BYTES = 2 * CHUNK_BYTES
"""Largest response that is sent whole, with its Content-Length."""
_INLINE_FETCH_BYTES = 8 * 1024
_INLINE_BYTES = 32 * 1024
"""Smaller shards, as stored and as decoded, are decoded in place: a thread would cost more than it saves."""
_THREAD_BYTES = 8 << 20
"""Decoded bytes after which a thread returns, even if the filter dropped all of them."""
_FINISHED = frozenset("dcx")
STALL_S = 0.25
"""A client that takes longer to read a chunk is slow, and the data decoded for it is dropped. It has at least as
long as the decoding took, because the decoding is repeated when it reads on."""
_FAIR_HOLD_S = 1.0
"""Memory held this long is yielded to waiting readers, even within a shard; but not before `_MIN_HOLD_FACTOR` times
the decoding time, or on a machine short of CPUs no reader would ever finish."""
_MIN_HOLD_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Results:
    """Reads the results of callers' jobs.

    Attributes:
        memory: bounds the bytes that are decoded at once.
    """

    jobs: JobReader
    codec: Codec
    memory: DecodeMemory
    authenticator: Authenticator

    async def read_document(self, caller: Caller, job_id: str, doc_id: str) -> bytes | ResultsReader | None:
        """Return a document's result as JSON, or a reader if it is large; None if the job has no such document.

        Raises:
            GatewayError: job_not_found or job_purged.
            CodecError: the stored blob cannot be read.
        """
        size = 0
        while True:
            reservation = await self.memory.reserve(caller.tenant, size)
            try:
                document = await self.jobs.find_document(caller, job_id, doc_id)
                if document.shard is None:
                    return None
                packed = open_shard(job_id, document.shard, self.codec)
                size = packed.size
                if size > reservation.size:
                    continue  # reserve enough, holding no data meanwhile
                read = partial(_read_document, self.codec, document.shard, packed, document.index, doc_id)
                row = read() if size <= _INLINE_BYTES else await asyncio.to_thread(read)
            finally:
                reservation.release()
            if isinstance(row, Cursor):
                return ResultsReader(self, caller, job_id, ReadOptions(encode_json, row, limit=1))
            return row


class ResultsReader:
    """Reads results from `options.start` on, as far as they are finished without a gap.

    `page` is the beginning of the job's results if it was read already.

    Attributes:
        done: everything was read.
        complete: the job had ended when it was last read, so that no further results will appear.
    """

    def __init__(
        self, results: Results, caller: Caller, job_id: str, options: ReadOptions, page: Page | None = None
    ) -> None:
        self._results = results
        self._caller = caller
        self._job_id = job_id
        self._options = options
        self._page = page
        self._progress = Progress(options.start.shard, options.start.offset)
        self._reservation: DecodeReservation | None = None
        self._sent_first_at: float | None = None
        self._decode_s = 0.0
        self._stall_timer: asyncio.TimerHandle | None = None
        self._parts: Iterator[bytes] | None = None
        self._inline = False
        self._checked_at = monotonic()
        self._total = 0
        self.done = False
        self.complete = False

    @property
    def next_cursor(self) -> Cursor | None:
        """Position of the next result; None once every result of the job was read."""
        cursor = self._progress.cursor
        return None if self.done and cursor.shard >= self._total else cursor

    async def read_first(self) -> bytes:
        """Return the first bytes: all of them, and `done` is set, or about `MAX_WHOLE_BYTES`.

        Raises:
            GatewayError: job_not_found or job_purged.
            LedgerUnavailableError: Redis does not answer.
            CodecError: a stored blob cannot be read.
        """
        first: list[bytes] = []
        try:
            while not self.done and sum(map(len, first)) < MAX_WHOLE_BYTES:
                first.append(await self._read_chunk())
        except BaseException:
            self._drop_decoded()
            raise
        self._drop_if_stalled()
        return b"".join(first)

    async def stream(self, first: bytes) -> AsyncIterator[bytes]:
        """Yield `first`, the bytes that `read_first` returned, and the rest.

        Raises:
            StreamAbortedError: the job was removed, the key is no longer valid, or Redis is unavailable, so that
                the stream must not end cleanly.
        """
        chunk = first
        while True:
            if chunk:
                self._drop_if_stalled()
                yield chunk
            if self.done:
                return
            try:
                await self._recheck_key()
                chunk = await self._read_chunk()
            except (GatewayError, LedgerUnavailableError, CodecError) as error:
                self._drop_decoded()
                reason = error.code if isinstance(error, GatewayError) else type(error).__name__
                raise StreamAbortedError(reason) from error
            except BaseException:
                self._drop_decoded()
                raise

    async def _recheck_key(self) -> None:
        now = monotonic()
        if now - self._checked_at >= CHECK_EVERY_S:
            self._checked_at = now
            await self._results.authenticator.recheck_caller(self._caller)

    async def _read_chunk(self) -> bytes:
        """Return the next chunk; b"" at the end."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        while not self.done:
            reservation = self._reservation or await self._reserve_memory()
            if self._parts is None and not await self._fetch_page():
                break
            began = monotonic()
            chunk, ended = await self._take_chunk(reservation)
            if self._sent_first_at is None and chunk:
                self._sent_first_at = monotonic()
                self._decode_s = self._sent_first_at - began
            if ended:
                self._parts = None
                self.done = self._progress.full or self._progress.shard >= self._total
            elif self._progress.opened_bytes > reservation.size:
                self._drop_decoded()
            if self.done or self._must_yield_memory():
                self._drop_decoded()
            if chunk:
                return chunk
        return b""

    async def _reserve_memory(self) -> DecodeReservation:
        memory, tenant = self._results.memory, self._caller.tenant
        reservation = memory.try_reserve(tenant, self._progress.opened_bytes)
        if reservation is None:
            self._page = None  # a waiting reader must hold no data
            reservation = await memory.reserve(tenant, self._progress.opened_bytes)
        self._reservation, self._sent_first_at = reservation, None
        return reservation

    async def _fetch_page(self) -> bool:
        """Fetch the next shards; return False if there are none."""
        page, self._page = self._page, None
        if page is None:
            page = await self._results.jobs.get_page(self._caller, self._job_id, self._progress.shard)
        self.complete, self._total = page.job.status.is_terminal, page.total
        if not page.shards:
            self.done = True
            self._drop_decoded()
            return False
        self._inline = sum(len(stored.blob) for stored in page.shards) <= _INLINE_FETCH_BYTES
        self._parts = encode_shards(self._job_id, page.shards, self._results.codec, self._options, self._progress)
        return True

    async def _take_chunk(self, reservation: DecodeReservation) -> tuple[bytes, bool]:
        parts, progress = self._parts or iter(()), self._progress
        if self._inline:
            self._inline = False
            chunk, ended = take_chunk(parts, progress, reservation.size, _INLINE_BYTES)
            if chunk or ended or progress.opened_bytes > reservation.size:
                return chunk, ended
        work = asyncio.ensure_future(
            asyncio.to_thread(take_chunk, parts, progress, reservation.size, _THREAD_BYTES)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._reservation = None  # a thread cannot be stopped: it needs the memory until it ends
            work.add_done_callback(partial(_release_memory, reservation))
            raise

    def _must_yield_memory(self) -> bool:
        if not self._results.memory.has_waiting:
            return False
        if self._parts is None or self._sent_first_at is None:
            return self._parts is None
        return monotonic() - self._sent_first_at > max(_FAIR_HOLD_S, _MIN_HOLD_FACTOR * self._decode_s)

    def _drop_if_stalled(self) -> None:
        """Drop the decoded data unless the client reads on soon; a client that disconnected never does."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        if self._reservation is not None:
            self._stall_timer = asyncio.get_running_loop().call_later(
                max(STALL_S, self._decode_s), self._drop_decoded
            )

    def _drop_decoded(self) -> None:
        """Drop the decoded data and release its memory; only the position is kept."""
        self._parts = None
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()


def _release_memory(reservation: DecodeReservation, work: asyncio.Future[tuple[bytes, bool]]) -> None:
    if not work.cancelled():
        work.exception()  # retrieved, so that asyncio does not log it
    reservation.release()


def _read_document(
    codec: Codec, shard: StoredShard, packed: Packed, index: int, doc_id: str
) -> bytes | Cursor | None:
    """Return a document's JSON, or its position if it is large; None if its id differs."""
    for offset, row in enumerate(read_rows(shard, packed, codec)):
        if row.document == index:
            result = row.result()
            if result.id != doc_id:
                return None
            is_large = shard.state in _FINISHED and len(row.raw) > MAX_WHOLE_BYTES
            return Cursor(shard.shard, offset) if is_large else b"".join(encode_json(result))
    return None
