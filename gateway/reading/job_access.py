"""Reads a tenant's job; another tenant's job does not exist for the caller.

Every function raises `GatewayError`: job_not_found or job_purged.
"""

from __future__ import annotations

import re
from typing import TypeVar

from gateway.access.auth import Caller
from gateway.errors import GatewayError
from gateway.services import Services
from jobs import ledger
from jobs.ledger import Call, FoundDocument, Gone, Leftovers, Page
from jobs.schema import Job

T = TypeVar("T", Job, Page, FoundDocument, Leftovers)
_JOB_ID = re.compile(r"job_[0-9a-z]{26}")


async def get_owned_job(services: Services, caller: Caller, job_id: str) -> Job:
    """Return the caller's job as it is now."""
    return await _run_for_owner(services, caller, job_id, ledger.read_job(job_id))


async def get_owned_page(services: Services, caller: Caller, job_id: str, shard: int, max_bytes: int) -> Page:
    """Return the job with about `max_bytes` of its finished shards from `shard` on, read atomically."""
    return await _run_for_owner(services, caller, job_id, ledger.read_page(job_id, shard, max_bytes))


def parse_announced_page(caller: Caller, job_id: str, inline_results: bytes) -> Page | None:
    """Parse the ended job and all its results from its completion message; None if they must be read."""
    page = ledger.parse_announced_page(job_id, inline_results) if inline_results else None
    return page if page and page.job.tenant == caller.tenant and page.job.status.is_terminal else None


async def get_owned_document(services: Services, caller: Caller, job_id: str, doc_id: str) -> FoundDocument:
    """Return the caller's job, and the shard that would hold its document of this id."""
    return await _run_for_owner(services, caller, job_id, ledger.find_document(job_id, doc_id))


async def get_owned_leftovers(services: Services, caller: Caller, job_id: str, shard: int) -> Leftovers:
    """Return the payloads of the job's documents that did not succeed, from `shard` on."""
    return await _run_for_owner(services, caller, job_id, ledger.read_leftovers(job_id, shard))


async def _run_for_owner(services: Services, caller: Caller, job_id: str, call: Call[T | Gone | None]) -> T:
    reply = await services.ledger.run(call) if _JOB_ID.fullmatch(job_id) else None
    if isinstance(reply, Gone):
        if reply.tenant == caller.tenant:
            raise GatewayError("job_purged", "the job was deleted, or its results expired")
    elif reply is not None:
        job = reply if isinstance(reply, Job) else reply.job
        if job.tenant == caller.tenant:
            return reply
    raise GatewayError("job_not_found", "your tenant has no job with this id")
