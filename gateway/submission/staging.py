"""Stages the documents of a job that is still arriving: documents -> shards -> blobs -> the ledger's stage.

Only an incomplete shard and one batch of blobs are in memory, whatever the job's size.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.access.rate_limits import max_stored_bytes, stored_quota_error
from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from gateway.submission.create import new_job_id
from gateway.submission.idempotency import build_claim
from gateway.submission.packing import PackedDocuments, count_characters, explicit_ids, pack_shard
from gateway.submission.types import SubmissionContext
from jobs import ledger
from jobs.codec import Codec
from jobs.cost import Costs
from jobs.ledger import AsyncLedger, LedgerUnavailableError
from jobs.process.periodic import PeriodicTask
from jobs.schema import Document
from jobs.shards import cut_shards, wire_version
from jobs.tasks import Tasks

KEEP_EVERY_S = 5.0
"""Interval at which a stage and the claim of the Idempotency-Key are renewed (seconds)."""
_BATCH_BYTES = 1 << 20
_BATCH_SHARDS = 32


@dataclass(frozen=True, slots=True)
class Stages:
    """Opens stages for jobs that are still arriving."""

    settings: GatewaySettings
    ledger: AsyncLedger
    codec: Codec

    @asynccontextmanager
    async def open_stage(self, context: SubmissionContext) -> AsyncIterator[Staging]:
        """Open a stage; renew it and the Idempotency-Key during the block; drop it if the block fails."""
        staging = Staging(self, context)
        renewing = PeriodicTask("stage", staging.renew, retry_s=KEEP_EVERY_S, first_after_s=KEEP_EVERY_S)
        renewing.start()
        try:
            yield staging
        except BaseException:
            await renewing.stop()
            await staging.drop()
            raise
        finally:
            await renewing.stop()


class Staging:
    """Stages one job's documents, in order.

    Attributes:
        sizes: documents and cost (`jobs.cost`) of each shard so far.
        characters: total length of the texts so far (code points).
        size: size of the staged payloads and ids (bytes).
        documents: number of documents so far.
        version: the wire version that a worker must support to run them.
    """

    def __init__(self, stages: Stages, context: SubmissionContext) -> None:
        self.job_id = new_job_id()
        self._context = context
        self._deadline = time.monotonic() + stages.settings.max_upload_s
        self.sizes: list[tuple[int, int]] = []
        self.size = self.documents = self.characters = 0
        self._costs = Costs(Tasks())
        self.version = 1
        self._stages = stages
        self._incomplete: list[Document] = []
        self._blobs: list[bytes] = []
        self._ids: list[tuple[str, int]] = []

    def set_tasks(self, tasks: Tasks) -> None:
        """Set the job's tasks, before documents are added."""
        self._costs = Costs(tasks)

    async def add_documents(self, documents: Sequence[Document]) -> None:
        """Add the next documents.

        Raises:
            GatewayError: overloaded, quota_exceeded, or request_timeout after `max_upload_s`.
            LedgerUnavailableError: Redis does not answer.
        """
        if time.monotonic() > self._deadline:
            limit_s = self._stages.settings.max_upload_s
            detail = f"the upload took longer than {limit_s} s; split it into several jobs"
            raise GatewayError("request_timeout", detail)
        if not documents:
            return
        self.documents += len(documents)
        self.version = max(self.version, wire_version(documents))
        self._ids += explicit_ids(documents)
        *full, last = cut_shards([*self._incomplete, *documents], weigh=self._costs.shard_weight)
        self._incomplete = list(last)
        await self._pack(full)

    async def finish(self) -> None:
        """Stage the last documents.

        Raises:
            GatewayError, LedgerUnavailableError: as `add_documents`.
        """
        if self._incomplete:
            await self._pack([tuple(self._incomplete)])
            self._incomplete = []
        await self._flush()

    def list_packed(self) -> PackedDocuments:
        """Return the staged documents as packed."""
        return PackedDocuments(self.job_id, self.sizes, self.version, self.characters, staged_bytes=self.size)

    async def renew(self) -> float:
        """Renew the stage and the claim of the Idempotency-Key; return the seconds until the next time."""
        if self.sizes:
            await self._stages.ledger.run(ledger.stage_shards(self.job_id, len(self.sizes), ()))
        if (key := self._context.key) is not None:
            await self._stages.ledger.run(build_claim(self._context.caller.tenant, key))
        return KEEP_EVERY_S

    async def drop(self) -> None:
        """Remove the stage, unless it has become a job; without Redis it expires."""
        with contextlib.suppress(LedgerUnavailableError):
            await self._stages.ledger.run(ledger.drop_stage(self.job_id, now=True))

    async def _pack(self, shards: Sequence[Sequence[Document]]) -> None:
        for shard in shards:
            number = len(self.sizes)
            self.sizes.append((len(shard), sum(map(self._costs.document_cost, shard))))
            self.characters += count_characters(shard)
            self._blobs.append(await asyncio.to_thread(pack_shard, self._stages.codec, self.job_id, number, shard))
            if len(self._blobs) >= _BATCH_SHARDS or sum(map(len, self._blobs)) >= _BATCH_BYTES:
                await self._flush()

    async def _flush(self) -> None:
        if not self._blobs:
            return
        first = len(self.sizes) - len(self._blobs)
        caller, store = self._context.caller, self._stages.ledger
        limit = max_stored_bytes(self._stages.settings, caller)
        terms = ledger.StageTerms(tenant=caller.tenant, max_stored_bytes=limit)
        outcome = await store.run(ledger.stage_shards(self.job_id, first, self._blobs, self._ids, terms))
        if outcome is ledger.StageOutcome.STORED:
            work = await store.run(ledger.read_open_work(caller.tenant, caller.key_id))
            raise stored_quota_error(work.stored_bytes, limit)
        if outcome is ledger.StageOutcome.MEMORY_FULL:
            detail = "the ledger has no memory for this job now; try again later"
            raise GatewayError("overloaded", detail, retry_after_s=30)
        self.size += sum(map(len, self._blobs)) + sum(len(name) + 16 for name, _ in self._ids)
        self._blobs, self._ids = [], []
