"""Reads a tenant's job; another tenant's job does not exist for the caller."""

from __future__ import annotations

import re

from gateway.access.auth import Caller
from gateway.http.problems import Problem
from gateway.http.services import Services
from jobs import ledger
from jobs.ledger import FoundDocument, Gone, Leftovers, Page
from jobs.schema import Job

_JOB_ID = re.compile(r"job_[0-9a-z]{26}")


async def get_owned_job(services: Services, caller: Caller, job_id: str) -> Job:
    """Return the caller's job as it is now.

    Raises:
        Problem: job_not_found or job_purged.
    """
    _check_job_id(job_id)
    reply = await services.ledger.run(ledger.read_job(job_id))
    if not isinstance(reply, Job) or reply.tenant != caller.tenant:
        raise _not_found(reply, caller)
    return reply


async def get_owned_page(services: Services, caller: Caller, job_id: str, shard: int, max_bytes: int) -> Page:
    """Return the job with about `max_bytes` of its finished shards from `shard` on, read atomically.

    Raises:
        Problem: job_not_found or job_purged.
    """
    _check_job_id(job_id)
    reply = await services.ledger.run(ledger.read_page(job_id, shard, max_bytes))
    if not isinstance(reply, Page) or reply.job.tenant != caller.tenant:
        raise _not_found(reply, caller)
    return reply


def parse_announced_page(caller: Caller, job_id: str, inline_results: bytes) -> Page | None:
    """Parse the ended job and all its results from its completion message; None if they must be read."""
    page = ledger.parse_announced_page(job_id, inline_results) if inline_results else None
    return page if page and page.job.tenant == caller.tenant and page.job.status.is_terminal else None


async def get_owned_document(services: Services, caller: Caller, job_id: str, doc_id: str) -> FoundDocument:
    """Return the caller's job, and the shard that would hold its document of this id.

    Raises:
        Problem: job_not_found or job_purged.
    """
    _check_job_id(job_id)
    reply = await services.ledger.run(ledger.find_document(job_id, doc_id))
    if not isinstance(reply, FoundDocument) or reply.job.tenant != caller.tenant:
        raise _not_found(reply, caller)
    return reply


async def get_owned_leftovers(services: Services, caller: Caller, job_id: str, shard: int) -> Leftovers:
    """Return the payloads of the job's documents that did not succeed, from `shard` on.

    Raises:
        Problem: job_not_found or job_purged.
    """
    _check_job_id(job_id)
    reply = await services.ledger.run(ledger.read_leftovers(job_id, shard))
    if not isinstance(reply, Leftovers) or reply.job.tenant != caller.tenant:
        raise _not_found(reply, caller)
    return reply


def _check_job_id(job_id: str) -> None:
    """Reject a malformed job id without a call to the ledger."""
    if not _JOB_ID.fullmatch(job_id):
        raise _not_found(None, None)


def _not_found(reply: object, caller: Caller | None) -> Problem:
    if isinstance(reply, Gone) and caller is not None and reply.tenant == caller.tenant:
        return Problem("job_purged", "the job was deleted, or its results expired")
    return Problem("job_not_found", "your tenant has no job with this id")
