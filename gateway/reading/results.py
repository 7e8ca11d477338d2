"""Reads a job's results from a cursor on: stored shards -> JSON or CSV, in pieces of bounded size.

What is stored may decode to a thousand times as many bytes. So a reader takes a turn (`gateway.reading.turns`) of
as many bytes as a shard decodes to, and decodes one shard at a time, of a large one a row at a time. What is
decoded is kept for as long as the client reads fast; of one that does not, the place is kept and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from time import monotonic

from gateway.access.auth import Caller, recheck_caller
from gateway.http.middleware import StreamAbortedError
from gateway.http.problems import Problem
from gateway.http.services import Services
from gateway.reading.encoding import PIECE_BYTES, Progress, Wanted, encode_shards, take_piece
from gateway.reading.job_access import owned_document, owned_page
from gateway.reading.job_waiter import CHECK_S
from gateway.reading.rows import as_json
from gateway.reading.turns import Turn
from jobs.codec import Codec, CodecError, Packed
from jobs.ledger import FoundDocument, LedgerUnavailableError, Page, StoredShard
from jobs.results import Cursor, open_shard, read_rows

WHOLE_BYTES = 2 * PIECE_BYTES
"""Answers up to this size are sent whole, with their length."""
_STORED_BYTES = 64 * 1024
"""Read from the ledger at once; a single larger shard comes whole."""
_INLINE_STORED_BYTES = 8 * 1024
_INLINE_BYTES = 32 * 1024
"""What is smaller, as stored and decoded, is decoded in place: a thread would cost more than it saves."""
_THREAD_BYTES = 8 << 20
"""Decoded bytes after which a thread comes back, even if nothing of them was wanted."""
_FINISHED = frozenset("dcx")
STALL_S = 0.25
"""A client that takes longer to read a piece is slow: what was decoded for it is dropped. It has at least as long
as the decoding took, which is done again when it goes on."""
_LONG_TURN_S = 1.0
"""After so long those who wait come first, in the middle of a shard too; not before `_WORTH` times what decoding
took, or on a machine that is short of processors nobody would come to an end."""
_WORTH = 4


class Reader:
    """Reads results from `start` on, as far as they are finished without a gap.

    Args:
        page: what is known of the job's first shards already, where `start` is the beginning.

    Attributes:
        done: nothing follows.
        next: where to go on; None where every result of the job was read.
        complete: the job had ended when it was last read, so that no result is still to come.
    """

    def __init__(
        self,
        services: Services,
        caller: Caller,
        job_id: str,
        start: Cursor,
        wanted: Wanted,
        page: Page | None = None,
    ) -> None:
        self._services = services
        self._caller = caller
        self._job_id = job_id
        self._wanted = wanted
        self._page = page
        self._progress = Progress(start.shard, start.offset)
        self._turn: Turn | None = None
        self._since: float | None = None
        self._cost_s = 0.0
        self._stalled: asyncio.TimerHandle | None = None
        self._parts: Iterator[bytes] | None = None
        self._inline = False
        self._checked_at = monotonic()
        self._total = 0
        self.done = False
        self.complete = False

    @property
    def next(self) -> Cursor | None:
        """Where to go on."""
        at = self._progress.at
        return None if self.done and at.shard >= self._total else at

    async def begin(self) -> bytes:
        """Return the first bytes: all there are, then `done` holds, or about `WHOLE_BYTES`.

        Raises:
            Problem: job_not_found or job_purged.
            LedgerUnavailableError: the store does not answer.
            CodecError: a stored blob cannot be read.
        """
        first: list[bytes] = []
        try:
            while not self.done and sum(map(len, first)) < WHOLE_BYTES:
                first.append(await self._read())
        except BaseException:
            self._drop()
            raise
        self._drop_unless_read()
        return b"".join(first)

    async def run(self, first: bytes) -> AsyncIterator[bytes]:
        """Yield `first`, what `begin` returned, and what follows it.

        Raises:
            StreamAbortedError: the job vanished, the key is not good any more, or the store went away, so that the
                stream must not end cleanly.
        """
        piece = first
        while True:
            if piece:
                self._drop_unless_read()
                yield piece
            if self.done:
                return
            try:
                await self._recheck()
                piece = await self._read()
            except (Problem, LedgerUnavailableError, CodecError) as error:
                self._drop()
                reason = error.code if isinstance(error, Problem) else type(error).__name__
                raise StreamAbortedError(reason) from error
            except BaseException:
                self._drop()
                raise

    async def _recheck(self) -> None:
        """See that the key is still good, now and then."""
        now = monotonic()
        if now - self._checked_at >= CHECK_S:
            self._checked_at = now
            await recheck_caller(self._services, self._caller)

    async def _read(self) -> bytes:
        """The next piece; b"" at the end."""
        if self._stalled is not None:
            self._stalled.cancel()
        while not self.done:
            turn = self._turn or await self._begin_turn()
            if self._parts is None and not await self._fetch():
                break
            began = monotonic()
            piece, ended = await self._take(turn)
            if self._since is None and piece:
                self._since = monotonic()
                self._cost_s = self._since - began
            if ended:
                self._parts = None
                self.done = self._progress.full or self._progress.shard >= self._total
            elif self._progress.opening > turn.size:
                self._drop()
            if self.done or self._is_others_turn():
                self._drop()
            if piece:
                return piece
        return b""

    async def _begin_turn(self) -> Turn:
        turns, tenant = self._services.turns, self._caller.tenant
        turn = turns.take_now(tenant, self._progress.opening)
        if turn is None:
            self._page = None  # who waits for a turn keeps nothing of what is read in it
            turn = await turns.take(tenant, self._progress.opening)
        self._turn, self._since = turn, None
        return turn

    async def _fetch(self) -> bool:
        """Get the shards that come next; False if there are none."""
        page, self._page = self._page, None
        if page is None:
            first = self._progress.shard
            page = await owned_page(self._services, self._caller, self._job_id, first, _STORED_BYTES)
        self.complete, self._total = page.job.status.is_terminal, page.total
        if not page.shards:
            self.done = True
            self._drop()
            return False
        self._inline = sum(len(stored.blob) for stored in page.shards) <= _INLINE_STORED_BYTES
        self._parts = encode_shards(self._job_id, page.shards, self._services.codec, self._wanted, self._progress)
        return True

    async def _take(self, turn: Turn) -> tuple[bytes, bool]:
        parts, progress = self._parts or iter(()), self._progress
        if self._inline:
            self._inline = False
            piece, ended = take_piece(parts, progress, turn.size, _INLINE_BYTES)
            if piece or ended or progress.opening > turn.size:
                return piece, ended
        work = asyncio.ensure_future(asyncio.to_thread(take_piece, parts, progress, turn.size, _THREAD_BYTES))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._turn = None  # a thread cannot be stopped: the turn lasts as long as it does
            work.add_done_callback(partial(_end_turn, turn))
            raise

    def _is_others_turn(self) -> bool:
        if not self._services.turns.crowded:
            return False
        if self._parts is None or self._since is None:
            return self._parts is None
        return monotonic() - self._since > max(_LONG_TURN_S, _WORTH * self._cost_s)

    def _drop_unless_read(self) -> None:
        """Drop what was decoded unless the client reads on soon; one that went away never does."""
        if self._stalled is not None:
            self._stalled.cancel()
        if self._turn is not None:
            self._stalled = asyncio.get_running_loop().call_later(max(STALL_S, self._cost_s), self._drop)

    def _drop(self) -> None:
        """Keep the place alone."""
        self._parts = None
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.end()


def _end_turn(turn: Turn, work: asyncio.Future[tuple[bytes, bool]]) -> None:
    if not work.cancelled():
        work.exception()  # nobody is there to be shown it
    turn.end()


async def first_page(services: Services, caller: Caller, job_id: str) -> Page:
    """Return the job as it is, with the results that a first piece may hold.

    Raises:
        Problem: job_not_found or job_purged.
    """
    return await owned_page(services, caller, job_id, Cursor().shard, _STORED_BYTES)


async def read_document(services: Services, caller: Caller, job_id: str, doc_id: str) -> bytes | Reader | None:
    """Return a document's result as JSON, or where it is large what reads it; None if the job has no such document.

    Raises:
        Problem: job_not_found or job_purged.
        CodecError: the stored blob cannot be read.
    """
    size = 0
    while True:
        turn = await services.turns.take(caller.tenant, size)
        try:
            document = await owned_document(services, caller, job_id, doc_id)
            if document.shard is None:
                return None
            packed = open_shard(job_id, document.shard, services.codec)
            size = packed.size
            if size > turn.size:
                continue  # in a turn that is large enough, for which nothing is kept while it is waited for
            place = _Place(services.codec, document, document.shard, packed, doc_id)
            row = place.find() if size <= _INLINE_BYTES else await asyncio.to_thread(place.find)
        finally:
            turn.end()
        if isinstance(row, Cursor):
            return Reader(services, caller, job_id, row, Wanted(as_json, limit=1))
        return row


@dataclass(frozen=True, slots=True)
class _Place:
    """A shard, and the document that is looked for in it."""

    codec: Codec
    document: FoundDocument
    shard: StoredShard
    packed: Packed
    doc_id: str

    def find(self) -> bytes | Cursor | None:
        """The document's JSON, or its place where that is large; None where it is not of this id."""
        for offset, row in enumerate(read_rows(self.shard, self.packed, self.codec)):
            if row.document == self.document.index:
                result = row.result()
                if result.id != self.doc_id:
                    return None
                finished = self.shard.state in _FINISHED
                large = finished and len(row.raw) > WHOLE_BYTES
                return Cursor(self.shard.shard, offset) if large else b"".join(as_json(result))
        return None
