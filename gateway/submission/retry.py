"""Creates a job from the documents of an ended one that did not succeed: leftovers -> documents -> stage -> job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import orjson
from pydantic import ValidationError

from gateway.access import Caller
from gateway.errors import GatewayError
from gateway.reading.decode_memory import DecodeMemory
from gateway.reading.job_reader import JobReader
from gateway.reading.views import decode_metadata
from gateway.settings import GatewaySettings
from gateway.submission.create import JobCreation
from gateway.submission.idempotency import IdempotencyKeys
from gateway.submission.parsing.job import Head
from gateway.submission.staging import Stages, Staging
from gateway.submission.types import AcceptedJob, RetrySource, SubmissionContext
from jobs.codec import Codec, Packed
from jobs.ledger import associated_data
from jobs.schema import Document, Job, Options
from jobs.shards import decode_documents
from jobs.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Retries:
    """Creates jobs from ended ones.

    Attributes:
        memory: bounds the bytes of documents that are decoded at once.
    """

    settings: GatewaySettings
    jobs: JobReader
    codec: Codec
    memory: DecodeMemory
    keys: IdempotencyKeys
    stages: Stages
    creation: JobCreation

    async def create_retry(self, context: SubmissionContext, job_id: str) -> AcceptedJob:
        """Create a job with an ended job's failed, cancelled and expired documents; their texts move to it.

        Raises:
            GatewayError: job_not_found, job_purged, job_not_terminal, nothing_to_retry, already_retried,
                texts_dropped, or as a submission.
            LedgerUnavailableError: the new job may or may not exist.
        """
        return await self.keys.create_once(context, partial(self._stage_and_create, job_id))

    async def _stage_and_create(self, job_id: str, context: SubmissionContext) -> AcceptedJob:
        job = await self.jobs.get_job(context.caller, job_id)
        if not job.status.is_terminal:
            raise GatewayError("job_not_terminal", "the job has not ended; cancel it first")
        if job.counts.succeeded == job.counts.total:
            raise GatewayError("nothing_to_retry", "every document of the job succeeded")
        if job.retried_by is not None:
            raise GatewayError("already_retried", f"this job was retried as {job.retried_by}")
        if job.model not in self.settings.models.served:
            available = ", ".join(self.settings.models.served)
            raise GatewayError("unknown_model", f"the models of this service are {available}")
        head = _decode_head(self.codec, job)
        async with self.stages.open_stage(context) as staging:
            staging.set_tasks(head.tasks)
            endpoint_id = await self._stage_leftovers(context.caller, job_id, staging)
            context = replace(context, retry_of=RetrySource(job_id, endpoint_id))
            return await self.creation.create_job(context, head, staging.list_packed())

    async def _stage_leftovers(self, caller: Caller, job_id: str, staging: Staging) -> str:
        """Stage the documents that did not succeed; return the id of the job's webhook endpoint, or ""."""
        shard: int | None = 0
        endpoint_id = ""
        while shard is not None:
            page = await self.jobs.get_leftovers(caller, job_id, shard)
            if page.dropped:
                raise GatewayError(
                    "texts_dropped",
                    "the texts of this cancelled job are no longer stored (see retry_text_ttl_s of GET /v1/limits)",
                )
            for number, blob in page.blobs:
                packed = self.codec.unseal(blob, associated_data("in", job_id, number))
                reservation = await self.memory.reserve(caller.tenant, packed.size)
                try:
                    documents = await asyncio.to_thread(_unpack_documents, self.codec, packed)
                    await staging.add_documents(
                        [replace(document, index=staging.documents + n) for n, document in enumerate(documents)]
                    )
                finally:
                    reservation.release()
            shard, endpoint_id = page.next, page.endpoint_id
        await staging.finish()
        return endpoint_id


def _unpack_documents(codec: Codec, packed: Packed) -> Sequence[Document]:
    return decode_documents(codec.unpack(packed))


def _decode_head(codec: Codec, job: Job) -> Head:
    opts = orjson.loads(codec.decode(job.opts, associated_data("opts", job.id)))
    try:
        tasks, options = Tasks.from_wire(opts), Options.model_validate(opts["options"])
    except ValidationError:  # during a rolling update: accepted by a newer gateway
        detail = "the job has tasks or options that this gateway does not support yet; try again later"
        raise GatewayError("storage_unavailable", detail, retry_after_s=5) from None
    ended, stays_until = job.finished_at or job.now, job.results_expire_at or job.now
    return Head(
        model=job.model,
        tasks=tasks,
        options=options,
        priority=job.priority,
        deadline_s=(job.deadline_at - job.created_at) / 1000,
        result_ttl_s=max(1, stays_until - ended) / 1000,
        metadata=decode_metadata(codec, job),
        label_set=job.label_set,
    )
