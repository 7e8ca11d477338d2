"""Accepts an NDJSON job: body -> lines -> documents -> stage, and at the end of the body one commit.

Nothing is visible before the commit. If the client disconnects, its stage is dropped or expires.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway.access import Caller
from gateway.access.auth import Authenticator
from gateway.errors import GatewayError
from gateway.label_sets import LabelSets, Reference
from gateway.settings import GatewaySettings
from gateway.store.model_facts import ModelFactsCache
from gateway.submission.body import BodyChunks, body_limits
from gateway.submission.body_memory import FREE_BYTES, LARGE_BYTES, BodyMemory, Reservation
from gateway.submission.create import JobCreation
from gateway.submission.headers import read_idempotency_key, trace_context
from gateway.submission.idempotency import IdempotencyKeys
from gateway.submission.parsing.models import TenantModels
from gateway.submission.parsing.ndjson import NdjsonReader, OnBadLine
from gateway.submission.staging import Stages, Staging
from gateway.submission.types import AcceptedJob, IncomingRequest, SubmissionContext
from jobs.schema import Document

_CHUNK_BYTES = 128 * 1024
"""Bytes parsed at once: enough that the change of threads costs little."""
_STAGING_BYTES = 512 * 1024
"""Approximate memory of an upload's incomplete shard and unsent blobs."""


@dataclass(frozen=True, slots=True)
class Uploads:
    """Accepts NDJSON jobs, line by line."""

    settings: GatewaySettings
    authenticator: Authenticator
    body_memory: BodyMemory
    keys: IdempotencyKeys
    stages: Stages
    creation: JobCreation
    facts: ModelFactsCache
    label_sets: LabelSets

    async def accept_upload(self, request: IncomingRequest, caller: Caller, on_bad_line: OnBadLine) -> AcceptedJob:
        """Read, check and create the job of a request.

        Raises:
            GatewayError: the request is not valid, or there is no capacity for it.
            LedgerUnavailableError: the job may or may not exist.
        """
        body = _HashedBody(request, self.settings, on_bad_line)
        context = SubmissionContext(caller, read_idempotency_key(request), trace_context(request.headers))
        create = partial(self._stage_and_create, body, on_bad_line)
        return await self.keys.create_once(context, create, body.read_to_end)

    async def _stage_and_create(
        self, body: _HashedBody, on_bad_line: OnBadLine, context: SubmissionContext
    ) -> AcceptedJob:
        caller, key = context.caller, context.key
        models = TenantModels(self.settings, caller.tenant, await self.facts.read_facts())
        reader = NdjsonReader(models, on_bad_line)
        async with (
            self.body_memory.reserve_for(caller.tenant) as reservation,
            self.stages.open_stage(context) as staging,
        ):
            try:
                async for chunk in body.read_chunks():
                    documents = await _parse_chunk(reservation, reader, body, chunk)
                    if (reference := reader.missing_label_set) is not None:
                        documents = await self._use_label_set(caller, reference, reader, reservation)
                    await _stage_documents(staging, reader, documents)
                await _stage_documents(staging, reader, await asyncio.to_thread(reader.finish))
            except GatewayError:
                await body.chunks.drain()
                raise
            await staging.finish()
            if reader.head is None:
                raise RuntimeError("the reader finished without a head")
            if key is not None:
                context = replace(context, key=replace(key, body_sha=body.hexdigest()))
            await self.authenticator.recheck_caller(caller)  # a slow body takes up to `max_upload_s`
            return await self.creation.create_job(context, reader.head, staging.list_packed())

    async def _use_label_set(
        self, caller: Caller, reference: Reference, reader: NdjsonReader, reservation: Reservation
    ) -> list[Document]:
        """Give the reader the label set that it waits for; return the documents that waited with it."""
        used = reader.memory_bytes() + _CHUNK_BYTES
        label_set = await self.label_sets.get(
            caller.tenant, reference, lambda size: reservation.resize(used + size)
        )
        return await asyncio.to_thread(reader.use_label_set, label_set)


async def _parse_chunk(
    reservation: Reservation, reader: NdjsonReader, body: _HashedBody, chunk: bytes
) -> list[Document]:
    """Return the documents that end in a chunk; reserve memory for the rest, and parse long lines one at a time."""
    if body.chunks.size > FREE_BYTES:
        await reservation.resize(reader.memory_bytes() + len(chunk) + body.chunks.window_bytes() + _STAGING_BYTES)
    if reader.line_bytes() + len(chunk) <= LARGE_BYTES:
        return await asyncio.to_thread(reader.feed, chunk)
    async with reservation.parsing_turn():
        return await asyncio.to_thread(reader.feed, chunk)


async def _stage_documents(staging: Staging, reader: NdjsonReader, documents: Sequence[Document]) -> None:
    if reader.head is not None and not staging.documents:
        staging.set_tasks(reader.head.tasks)
    await staging.add_documents(documents)


class _HashedBody:
    """The request's body in chunks of about `_CHUNK_BYTES`, and its hash."""

    def __init__(self, request: IncomingRequest, settings: GatewaySettings, on_bad_line: OnBadLine) -> None:
        self.chunks = BodyChunks(request, body_limits(settings, settings.max_ndjson_bytes))
        self._hash = hashlib.sha256(f"{request.path}\n{on_bad_line}\n".encode())

    async def read_chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in chunks.

        Raises:
            GatewayError: as `BodyChunks`.
        """
        # The first chunk is small: many uploads may wait at the same time until memory is reserved for them.
        buffer, size = bytearray(), FREE_BYTES
        async for chunk in self.chunks:
            self._hash.update(chunk)
            buffer += chunk
            if len(buffer) >= size:
                full, buffer, size = bytes(buffer), bytearray(), _CHUNK_BYTES
                yield full
        yield bytes(buffer)

    async def read_to_end(self) -> str:
        """Read the body and return its hash."""
        async for _ in self.read_chunks():
            pass
        return self.hexdigest()

    def hexdigest(self) -> str:
        """Return the hash of the bytes read, the path and `on_bad_line`."""
        return self._hash.hexdigest()
