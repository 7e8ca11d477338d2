"""Reads a tenant's job: found, purged, or not there (which is also what another tenant's job is)."""

from __future__ import annotations

import re

from gateway.access.auth import Caller
from gateway.http.problems import Problem
from gateway.http.services import Services
from jobs import ledger
from jobs.ledger import FoundDocument, Gone, Leftovers, Page
from jobs.schema import Job

_JOB_ID = re.compile(r"job_[0-9a-z]{26}")


async def owned_job(services: Services, caller: Caller, job_id: str) -> Job:
    """The caller's job as it is now.

    Raises:
        Problem: job_not_found or job_purged.
    """
    _check_id(job_id)
    found = await services.ledger.run(ledger.read_job(job_id))
    if not isinstance(found, Job) or found.tenant != caller.tenant:
        raise _absent(found, caller)
    return found


async def owned_page(services: Services, caller: Caller, job_id: str, shard: int, max_bytes: int) -> Page:
    """Finished shards of the caller's job from `shard` on, about `max_bytes`, with the job in the same moment.

    Raises:
        Problem: job_not_found or job_purged.
    """
    _check_id(job_id)
    found = await services.ledger.run(ledger.read_page(job_id, shard, max_bytes))
    if not isinstance(found, Page) or found.job.tenant != caller.tenant:
        raise _absent(found, caller)
    return found


def announced_page(caller: Caller, job_id: str, told: bytes) -> Page | None:
    """The caller's ended job with all its results, as it was announced; None: it is to be read."""
    found = ledger.parse_announced_page(job_id, told) if told else None
    return found if found and found.job.tenant == caller.tenant and found.job.status.is_terminal else None


async def owned_document(services: Services, caller: Caller, job_id: str, doc_id: str) -> FoundDocument:
    """The caller's job, and the shard that would hold its document of this id.

    Raises:
        Problem: job_not_found or job_purged.
    """
    _check_id(job_id)
    found = await services.ledger.run(ledger.find_document(job_id, doc_id))
    if not isinstance(found, FoundDocument) or found.job.tenant != caller.tenant:
        raise _absent(found, caller)
    return found


async def owned_leftovers(services: Services, caller: Caller, job_id: str, shard: int) -> Leftovers:
    """Payloads of what did not succeed of the caller's job, from `shard` on.

    Raises:
        Problem: job_not_found or job_purged.
    """
    _check_id(job_id)
    found = await services.ledger.run(ledger.read_leftovers(job_id, shard))
    if not isinstance(found, Leftovers) or found.job.tenant != caller.tenant:
        raise _absent(found, caller)
    return found


def _check_id(job_id: str) -> None:
    """Refuse what cannot be a job's id without asking the ledger."""
    if not _JOB_ID.fullmatch(job_id):
        raise _absent(None, None)


def _absent(found: object, caller: Caller | None) -> Problem:
    if isinstance(found, Gone) and caller is not None and found.tenant == caller.tenant:
        return Problem("job_purged", "the job was removed, by DELETE or because its results expired")
    return Problem("job_not_found", "your tenant has no job of this id")
