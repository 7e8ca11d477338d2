"""A job that comes as a stream: body -> lines -> documents -> stage, and at the end of the body one commit.

Nothing is visible before the commit; a client that goes away leaves a stage that is dropped or lapses.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from fastapi import Request

from gateway.access.auth import Caller, recheck_caller
from gateway.http.problems import Problem
from gateway.http.services import Services
from gateway.submission.body import BodyChunks
from gateway.submission.body_memory import FREE_BYTES, LARGE_BYTES, Reservation
from gateway.submission.create import (
    AcceptedJob,
    create_staged_job,
    new_job_id,
    release_key_on_error,
    replayed_response,
)
from gateway.submission.headers import IdempotencyKey, body_limits, hash_idempotency_key, trace_context
from gateway.submission.ndjson import NdjsonReader, OnBadLine
from gateway.submission.staging import Staging, open_stage
from jobs import ledger
from jobs.schema import Document

_PIECE = 128 * 1024
"""Bytes read at once: enough that going to a thread for it costs nothing."""
_STAGED = 512 * 1024
"""About what else an upload keeps: a shard that fills and blobs on their way to the store (bytes)."""


async def accept_upload(
    request: Request, services: Services, caller: Caller, on_bad_line: OnBadLine
) -> AcceptedJob:
    """Read, check and submit the request's job, line by line.

    Raises:
        Problem: whatever is wrong with the request, or with there being room for it.
        LedgerUnavailableError: the job may or may not exist.
        ClientDisconnect: the client went away before it was read.
    """
    body = _Body(request, services, on_bad_line)
    key_hash = hash_idempotency_key(request)
    if key_hash is None:
        return await _submit(request, services, caller, body, None, on_bad_line)
    key = IdempotencyKey(key_hash, "", secrets.token_hex(16))
    begun = await services.ledger.run(ledger.claim_idempotency_key(caller.tenant, key_hash, key.nonce, ""))
    if begun.kind is ledger.IdempotencyOutcome.KNOWN:
        return await _repeated(services, caller, body, key)
    replayed_response(services, caller, key, begun)
    async with release_key_on_error(services, caller, key):
        return await _submit(request, services, caller, body, replace(key, claimed_at_ms=begun.now), on_bad_line)


async def _submit(
    request: Request,
    services: Services,
    caller: Caller,
    body: _Body,
    key: IdempotencyKey | None,
    on_bad_line: OnBadLine,
) -> AcceptedJob:
    reader = NdjsonReader(services.settings, on_bad_line)
    renewal = () if key is None else (ledger.claim_idempotency_key(caller.tenant, key.key_hash, key.nonce, ""),)
    async with (
        services.body_memory.reserve_for(caller.tenant) as reservation,
        open_stage(services, caller, new_job_id(), *renewal) as staging,
    ):
        try:
            async for piece in body.pieces():
                await _stage(staging, reader, await _fed(reservation, reader, body, piece))
            await _stage(staging, reader, await asyncio.to_thread(reader.finish))
        except Problem:
            await body.drain()
            raise
        await staging.finish()
        if reader.head is None:
            raise RuntimeError("a reader that finished has no head")
        if key is not None:
            key = replace(key, body_sha=body.sha())
        await recheck_caller(services, caller)  # a slow body takes hours
        head = reader.head.resolve_model(services.settings.models, caller.tenant)
        return await create_staged_job(services, caller, head, staging, key, trace_context(request))


async def _fed(reservation: Reservation, reader: NdjsonReader, body: _Body, piece: bytes) -> list[Document]:
    """Return the documents that end in a piece; what is kept is held, and long lines are parsed one by one."""
    if body.size() > FREE_BYTES:
        await reservation.resize(reader.memory_bytes() + len(piece) + body.buffered() + _STAGED)
    if reader.line_bytes() + len(piece) <= LARGE_BYTES:
        return await asyncio.to_thread(reader.feed, piece)
    async with reservation.parsing_turn():
        return await asyncio.to_thread(reader.feed, piece)


async def _stage(staging: Staging, reader: NdjsonReader, documents: Sequence[Document]) -> None:
    if reader.head is not None and not staging.documents:
        staging.ask_for(reader.head.labels)
    await staging.add(documents)


async def _repeated(services: Services, caller: Caller, body: _Body, key: IdempotencyKey) -> AcceptedJob:
    """The first answer, if this is the same body again."""
    async for _ in body.pieces():
        pass
    begun = await services.ledger.run(
        ledger.claim_idempotency_key(caller.tenant, key.key_hash, key.nonce, body.sha())
    )
    known = replayed_response(services, caller, key, begun)
    if known is None:
        await services.ledger.run(ledger.release_idempotency_key(caller.tenant, key.key_hash, key.nonce))
        raise Problem(
            "idempotency_in_progress", "the Idempotency-Key lapsed just now", headers={"Retry-After": "1"}
        )
    return known


class _Body:
    """The request's body in pieces of a fair size, and its hash."""

    def __init__(self, request: Request, services: Services, on_bad_line: OnBadLine) -> None:
        self._chunks = BodyChunks(request, body_limits(services.settings, services.settings.max_ndjson_bytes))
        self._hash = hashlib.sha256(f"{request.url.path}\n{on_bad_line}\n".encode())

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body.

        Raises:
            Problem, ClientDisconnect: as `BodyChunks`.
        """
        piece, size = bytearray(), FREE_BYTES  # no more, until memory is held for it: many may wait for that
        async for chunk in self._chunks:
            self._hash.update(chunk)
            piece += chunk
            if len(piece) >= size:
                full, piece, size = bytes(piece), bytearray(), _PIECE
                yield full
        yield bytes(piece)

    async def drain(self) -> None:
        """Read on for a while, as `BodyChunks.drain`."""
        await self._chunks.drain()

    def size(self) -> int:
        """Return the bytes that were read."""
        return self._chunks.size

    def buffered(self) -> int:
        """Return the bytes that a decompressor keeps."""
        return self._chunks.window_bytes()

    def sha(self) -> str:
        """Return the hash of what was read, with the path and the choice of the query."""
        return self._hash.hexdigest()
