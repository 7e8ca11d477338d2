"""Makes a new job of what an ended one left over: leftovers -> documents, numbered anew -> stage -> commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import orjson
from pydantic import ValidationError

from gateway.access.auth import Caller
from gateway.http.problems import Problem
from gateway.http.services import Services
from gateway.reading.job_access import get_owned_job, get_owned_leftovers
from gateway.submission.create import (
    AcceptedJob,
    RetrySource,
    create_staged_job,
    new_job_id,
    release_key_on_error,
    replayed_response,
)
from gateway.submission.headers import IdempotencyKey
from gateway.submission.packing import unpack_metadata
from gateway.submission.parsing import Head
from gateway.submission.staging import Staging, open_stage
from jobs import ledger
from jobs.codec import Codec, Packed
from jobs.ledger import associated_data
from jobs.schema import Document, Job, Options
from jobs.shards import decode_documents


async def create_retry(
    services: Services, caller: Caller, job_id: str, key: IdempotencyKey | None, trace: str
) -> AcceptedJob:
    """The job that runs an ended one's failed, cancelled and expired documents again; their texts move to it.

    Raises:
        Problem: job_not_found, job_purged, job_not_terminal, nothing_to_retry, already_retried, texts_dropped, or
            what a submission is refused for.
        LedgerUnavailableError: the new job may or may not exist.
    """
    if key is None:
        return await _retry(services, caller, job_id, None, trace)
    begun = await services.ledger.run(
        ledger.claim_idempotency_key(caller.tenant, key.key_hash, key.nonce, key.body_sha)
    )
    if (known := replayed_response(services, caller, key, begun)) is not None:
        return known
    async with release_key_on_error(services, caller, key):
        return await _retry(services, caller, job_id, replace(key, claimed_at_ms=begun.now), trace)


async def _retry(
    services: Services, caller: Caller, job_id: str, key: IdempotencyKey | None, trace: str
) -> AcceptedJob:
    job = await get_owned_job(services, caller, job_id)
    if not job.status.is_terminal:
        raise Problem("job_not_terminal", "the job has not ended; cancel it first")
    if job.counts.succeeded == job.counts.total:
        raise Problem("nothing_to_retry", "every document of the job succeeded")
    if job.retried_by is not None:
        raise Problem("already_retried", f"{job.retried_by} retries this job")
    if job.model not in services.settings.models.served:
        raise Problem("unknown_model", f"this service has {', '.join(services.settings.models.served)}")
    head = _head(services.codec, job)
    renewal = (
        () if key is None else (ledger.claim_idempotency_key(caller.tenant, key.key_hash, key.nonce, key.body_sha),)
    )
    async with open_stage(services, caller, new_job_id(), *renewal) as staging:
        staging.ask_for(head.labels)
        hook = await _stage_leftovers(services, caller, job_id, staging)
        return await create_staged_job(services, caller, head, staging, key, trace, RetrySource(job_id, hook))


async def _stage_leftovers(services: Services, caller: Caller, job_id: str, staging: Staging) -> str:
    """Stage what is left over; the endpoint that the job's end was told, or ""."""
    shard: int | None = 0
    hook = ""
    while shard is not None:
        page = await get_owned_leftovers(services, caller, job_id, shard)
        if page.dropped:
            raise Problem("texts_dropped", "the texts of a cancelled job stay for a retry for a while only")
        for number, blob in page.blobs:
            packed = services.codec.unseal(blob, associated_data("in", job_id, number))
            turn = await services.turns.acquire(caller.tenant, packed.size)
            try:
                documents = await asyncio.to_thread(_open, services.codec, packed)
                await staging.add(
                    [replace(document, index=staging.documents + n) for n, document in enumerate(documents)]
                )
            finally:
                turn.release()
        shard, hook = page.next, page.endpoint_id
    await staging.finish()
    return hook


def _open(codec: Codec, packed: Packed) -> Sequence[Document]:
    return decode_documents(codec.unpack(packed))


def _head(codec: Codec, job: Job) -> Head:
    opts = orjson.loads(codec.decode(job.opts, associated_data("opts", job.id)))
    try:
        options = Options.model_validate(opts["options"])
    except ValidationError:  # a newer gateway took them: in a rolling update the next one asked may know them
        detail = "the job asks for what this process is too old to know; another will"
        raise Problem("storage_unavailable", detail, headers={"Retry-After": "5"}) from None
    ended, stays_until = job.finished_at or job.now, job.results_expire_at or job.now
    return Head(
        model=job.model,
        labels=opts["labels"],
        options=options,
        priority=job.priority,
        deadline_s=(job.deadline_at - job.created_at) / 1000,
        result_ttl_s=max(1, stays_until - ended) / 1000,
        metadata=unpack_metadata(codec, job),
    )
