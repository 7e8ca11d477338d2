"""Accepts a submission, from its headers to the ledger: the steps of POST /v1/jobs and /v1/extract in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from gateway.access import Caller
from gateway.access.auth import Authenticator
from gateway.label_sets import LabelSets, parse_reference
from gateway.reading.job_waiter import CompletionWatch
from gateway.settings import GatewaySettings
from gateway.store.durability import Barrier
from gateway.store.model_facts import ModelFactsCache
from gateway.submission.body import body_limits, read_body
from gateway.submission.body_memory import LARGE_BYTES, BodyMemory, Reservation
from gateway.submission.create import JobCreation, new_job_id
from gateway.submission.headers import check_media_type, read_idempotency_key, trace_context
from gateway.submission.idempotency import IdempotencyKeys
from gateway.submission.packing import pack_documents
from gateway.submission.parsing.job import load_submission, parse_submission
from gateway.submission.parsing.models import TenantModels
from gateway.submission.parsing.ndjson import MEDIA_TYPE, OnBadLine
from gateway.submission.stream import Uploads
from gateway.submission.types import AcceptedJob, IncomingRequest, SubmissionContext
from jobs.codec import Codec

T = TypeVar("T")

_INLINE_BYTES = 64 * 1024
"""Bodies up to this size are parsed and packed on the event loop; a thread would cost more than it saves."""


@dataclass(frozen=True, slots=True)
class Submissions:
    """Accepts jobs, as JSON or as NDJSON."""

    settings: GatewaySettings
    authenticator: Authenticator
    body_memory: BodyMemory
    codec: Codec
    keys: IdempotencyKeys
    creation: JobCreation
    uploads: Uploads
    barrier: Barrier
    facts: ModelFactsCache
    label_sets: LabelSets

    async def accept_job(self, request: IncomingRequest, caller: Caller, on_bad_line: OnBadLine) -> AcceptedJob:
        """Read, check and create the job of a request, and confirm that it is stored.

        Raises:
            GatewayError: the request is not valid, or there is no capacity for it.
            LedgerUnavailableError: the job may or may not exist.
        """
        if check_media_type(request.headers, "application/json", MEDIA_TYPE) == MEDIA_TYPE:
            accepted = await self.uploads.accept_upload(request, caller, on_bad_line)
        else:
            accepted = await self.accept_json(request, caller)
        await self.barrier.confirm_writes(accepted.created)
        return accepted

    async def accept_json(
        self, request: IncomingRequest, caller: Caller, watch: CompletionWatch | None = None
    ) -> AcceptedJob:
        """Read, check and create the job of a JSON request, which is not confirmed.

        With `watch`, of POST /v1/extract: the request waits for the end of the job itself.

        Raises:
            GatewayError, LedgerUnavailableError: as `accept_job`.
        """
        async with self.body_memory.reserve_for(caller.tenant) as reservation:
            body = await read_body(request, body_limits(self.settings, self.settings.max_body_bytes), reservation)
            await self.authenticator.recheck_caller(caller)
            if len(body) > LARGE_BYTES:
                key = await asyncio.to_thread(read_idempotency_key, request, body)
            else:
                key = read_idempotency_key(request, body)
            context = SubmissionContext(caller, key, trace_context(request.headers), watch)
            return await self.keys.create_once(context, partial(self._parse_and_create, body, reservation))

    async def _parse_and_create(
        self, body: bytearray, reservation: Reservation, context: SubmissionContext
    ) -> AcceptedJob:
        models = TenantModels(self.settings, context.caller.tenant, await self.facts.read_facts())
        size, settings, watch = len(body), self.settings, context.watch
        max_documents = settings.max_documents if watch is None else settings.extract_max_documents
        content = await _run_parser(partial(load_submission, body, models, max_documents), size, reservation)
        label_set = None
        if (reference := parse_reference(content.get("label_set"))) is not None:
            label_set = await self.label_sets.get(
                models.tenant, reference, lambda more: reservation.resize(size + more)
            )
            size += len(label_set.labels_json)
        pack = partial(pack_documents, self.codec, new_job_id() if watch is None else watch.job_id)
        parse = partial(parse_submission, content, models, pack, extract=watch is not None, label_set=label_set)
        head, documents = await _run_parser(parse, size, reservation)
        body.clear()  # the packed documents replace it in memory
        return await self.creation.create_job(context, head, documents)


async def _run_parser(parse: Callable[[], T], size: int, reservation: Reservation) -> T:
    """Return the result of parsing `size` bytes: on the event loop, in a thread, or after other large bodies."""
    if size <= _INLINE_BYTES:
        return parse()
    if size <= LARGE_BYTES:
        return await asyncio.to_thread(parse)
    async with reservation.parsing_turn():
        return await asyncio.to_thread(parse)
