"""Keeps the documents of a job that is still arriving: documents -> shards -> blobs -> the ledger's stage.

Whatever the job's size, only the shard being filled and one batch of blobs are in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.access.rate_limits import Caller, max_stored_bytes, stored_quota_problem
from gateway.http.problems import Problem
from gateway.http.services import Services
from gateway.http.tasks import cancel_task
from gateway.submission.packing import count_characters, explicit_ids, pack_shard
from jobs import ledger
from jobs.cost import Costs
from jobs.ledger import LedgerUnavailableError
from jobs.schema import Document, Labels
from jobs.shards import cut_shards, wire_version

KEEP_EVERY_S = 5.0
"""How often a stage is kept from lapsing, and the Idempotency-Key with it."""
_BATCH_BYTES = 1 << 20
_BATCH_SHARDS = 32


class Staging:
    """Stages one job's documents, in order.

    Attributes:
        sizes: documents and cost (`jobs.cost`) of each shard so far.
        characters: of all documents so far (code points).
        size: bytes staged, ids included.
        documents: how many so far.
        version: the wire version that a worker must know to run them.
    """

    def __init__(self, services: Services, caller: Caller, job_id: str) -> None:
        self.job_id = job_id
        self._caller = caller
        self._ends_at = time.monotonic() + services.settings.max_upload_s
        self.sizes: list[tuple[int, int]] = []
        self.size = self.documents = self.characters = 0
        self._costs = Costs({})
        self.version = 1
        self._services = services
        self._filling: list[Document] = []
        self._blobs: list[bytes] = []
        self._ids: list[tuple[str, int]] = []

    def ask_for(self, labels: Labels) -> None:
        """Take the job's labels; documents without their own follow."""
        self._costs = Costs(labels)

    async def add(self, documents: Sequence[Document]) -> None:
        """Take the documents that follow.

        Raises:
            Problem: overloaded, quota_exceeded, or request_timeout: they take longer than `max_upload_s`.
            LedgerUnavailableError: the store does not answer.
        """
        if time.monotonic() > self._ends_at:
            longest = self._services.settings.max_upload_s
            detail = f"the upload took longer than {longest} s; send it in several jobs"
            raise Problem("request_timeout", detail, headers={"Connection": "close"})
        if not documents:
            return
        self.documents += len(documents)
        self.version = max(self.version, wire_version(documents))
        self._ids += explicit_ids(documents)
        *full, last = cut_shards([*self._filling, *documents], weigh=self._costs.shard_weight)
        self._filling = list(last)
        await self._pack(full)

    async def finish(self) -> None:
        """Stage what is left.

        Raises:
            Problem, LedgerUnavailableError: as `add`.
        """
        if self._filling:
            await self._pack([tuple(self._filling)])
            self._filling = []
        await self._flush()

    async def keep(self) -> None:
        """Keep what is staged from lapsing.

        Raises:
            LedgerUnavailableError: the store does not answer.
        """
        await self._services.ledger.run(ledger.stage_shards(self.job_id, len(self.sizes), ()))

    async def drop(self) -> None:
        """Remove what is staged, unless it has become a job; if the store is away, it lapses."""
        with contextlib.suppress(LedgerUnavailableError):
            await self._services.ledger.run(ledger.drop_stage(self.job_id, now=True))

    async def _pack(self, shards: Sequence[Sequence[Document]]) -> None:
        for shard in shards:
            number = len(self.sizes)
            self.sizes.append((len(shard), sum(map(self._costs.document_cost, shard))))
            self.characters += count_characters(shard)
            self._blobs.append(
                await asyncio.to_thread(pack_shard, self._services.codec, self.job_id, number, shard)
            )
            if len(self._blobs) >= _BATCH_SHARDS or sum(map(len, self._blobs)) >= _BATCH_BYTES:
                await self._flush()

    async def _flush(self) -> None:
        if not self._blobs:
            return
        first = len(self.sizes) - len(self._blobs)
        tenant, most = self._caller.tenant, max_stored_bytes(self._services.settings, self._caller)
        outcome = await self._services.ledger.run(
            ledger.stage_shards(
                self.job_id, first, self._blobs, self._ids, ledger.StageTerms(tenant=tenant, max_stored_bytes=most)
            )
        )
        if outcome is ledger.StageOutcome.STORED:
            work = await self._services.ledger.run(ledger.read_open_work(tenant, self._caller.key_id))
            raise stored_quota_problem(work.stored_bytes, most)
        if outcome is ledger.StageOutcome.MEMORY_FULL:
            detail = "the job store has no room for this job now"
            raise Problem("overloaded", detail, headers={"Retry-After": "30"})
        self.size += sum(map(len, self._blobs)) + sum(len(name) + 16 for name, _ in self._ids)
        self._blobs, self._ids = [], []


@asynccontextmanager
async def open_stage(
    services: Services, caller: Caller, job_id: str, *also: ledger.Call[object]
) -> AsyncIterator[Staging]:
    """A stage that is kept while the block runs, the calls `also` made as often; dropped if the block fails."""
    staging = Staging(services, caller, job_id)

    async def keep() -> None:
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            with contextlib.suppress(LedgerUnavailableError):
                if staging.sizes:
                    await staging.keep()
                for call in also:
                    await services.ledger.run(call)

    keeping = asyncio.create_task(keep(), name="stage")
    try:
        yield staging
    except BaseException:
        await cancel_task(keeping)
        await staging.drop()
        raise
    finally:
        await cancel_task(keeping)
