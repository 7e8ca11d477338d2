"""Reads a tenant's jobs, now or when they end; another tenant's job does not exist for the caller."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from gateway.access import Caller
from gateway.access.auth import Authenticator
from gateway.errors import GatewayError
from gateway.reading.job_waiter import CompletionWatch, Condition, Waiter
from jobs import ledger
from jobs.ledger import AsyncLedger, Call, FoundDocument, Gone, Leftovers, Page
from jobs.schema import Job

PAGE_BYTES = 64 * 1024
"""Bytes read from the ledger at once; a single larger shard comes whole."""
T = TypeVar("T", Job, Page, FoundDocument, Leftovers)
_JOB_ID = re.compile(r"job_[0-9a-z]{26}")


@dataclass(frozen=True, slots=True)
class JobReader:
    """Reads the jobs of callers.

    Every method raises `GatewayError` (job_not_found or job_purged) and `LedgerUnavailableError`.
    """

    ledger: AsyncLedger
    waiter: Waiter
    authenticator: Authenticator

    async def get_job(self, caller: Caller, job_id: str) -> Job:
        """Return the job as it is now."""
        return await self._run_for_owner(caller, job_id, ledger.read_job(job_id))

    async def get_page(self, caller: Caller, job_id: str, shard: int = 0) -> Page:
        """Return the job with about `PAGE_BYTES` of its finished shards from `shard` on, read atomically."""
        return await self._run_for_owner(caller, job_id, ledger.read_page(job_id, shard, PAGE_BYTES))

    async def find_document(self, caller: Caller, job_id: str, doc_id: str) -> FoundDocument:
        """Return the job, and the shard that would hold its document of this id."""
        return await self._run_for_owner(caller, job_id, ledger.find_document(job_id, doc_id))

    async def get_leftovers(self, caller: Caller, job_id: str, shard: int) -> Leftovers:
        """Return the payloads of the job's documents that did not succeed, from `shard` on."""
        return await self._run_for_owner(caller, job_id, ledger.read_leftovers(job_id, shard))

    async def wait_for_end(self, caller: Caller, job_id: str, seconds: float) -> Job:
        """Return the job when it ends, or its state after `seconds`.

        Raises:
            GatewayError: also as `Authenticator.recheck_caller`.
        """
        check = partial(self.authenticator.recheck_caller, caller)
        condition = Condition(partial(self.get_job, caller, job_id), lambda job: job.status.is_terminal, check)
        return await self.waiter.wait_until(job_id, seconds, condition)

    async def wait_for_page(self, caller: Caller, job_id: str, seconds: float, watch: CompletionWatch) -> Page:
        """Wait as `wait_for_end`; return the job and its first results, from the completion message if possible."""

        async def read() -> Page:
            return _parse_inline_page(caller, job_id, watch) or await self.get_page(caller, job_id)

        check = partial(self.authenticator.recheck_caller, caller)
        condition = Condition(read, lambda page: page.job.status.is_terminal, check)
        return await self.waiter.wait_until(job_id, seconds, condition, watch)

    async def _run_for_owner(self, caller: Caller, job_id: str, call: Call[T | Gone | None]) -> T:
        reply = await self.ledger.run(call) if _JOB_ID.fullmatch(job_id) else None
        if isinstance(reply, Gone):
            if reply.tenant == caller.tenant:
                raise GatewayError("job_purged", "the job was deleted, or its results expired")
        elif reply is not None:
            job = reply if isinstance(reply, Job) else reply.job
            if job.tenant == caller.tenant:
                return reply
        raise GatewayError("job_not_found", "your tenant has no job with this id")


def _parse_inline_page(caller: Caller, job_id: str, watch: CompletionWatch) -> Page | None:
    """Return the ended job and all its results from its completion message; None if they must be read."""
    results = watch.inline_results if watch.job_id == job_id else b""
    page = ledger.parse_announced_page(job_id, results) if results else None
    return page if page and page.job.tenant == caller.tenant and page.job.status.is_terminal else None
