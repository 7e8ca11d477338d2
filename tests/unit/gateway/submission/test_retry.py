"""Retries: the documents of an ended job that did not succeed become a new job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import GatewayError
from gateway.reading.decode_memory import CAPACITY_BYTES, DecodeMemory
from gateway.reading.job_reader import JobReader
from gateway.reading.views import queued_job
from gateway.settings import GatewaySettings
from gateway.submission.idempotency import IdempotencyKeys
from gateway.submission.retry import Retries
from gateway.submission.staging import Stages
from gateway.submission.types import AcceptedJob, RetrySource
from jobs.ledger import Leftovers, StageOutcome, associated_data
from jobs.observability.metrics import GatewayMetrics
from jobs.schema import Counts, Document, Job, JobStatus, Options
from jobs.shards import decode_documents, encode_documents
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import RecordingCreation, make_context, make_open_authenticator
from tests.support.ledger import CODEC, new_job

pytestmark = pytest.mark.anyio

JOB_ID = "job_" + "0" * 26
SETTINGS = GatewaySettings(auth="off")


def make_job(**fields: Any) -> Job:
    """Return a job of two documents that ended an hour after it was created; one succeeded."""
    meta = CODEC.encode(b'{"batch":"42"}', associated_data("meta", JOB_ID))
    job = queued_job(new_job(JOB_ID, (1, 1), tenant="acme", meta=meta), created=1000)
    values: dict[str, Any] = {
        "status": JobStatus.PARTIALLY_SUCCEEDED,
        "counts": Counts(2, 0, 0, 1, 1, 0, 0),
        "finished_at": 3_601_000,
        "results_expire_at": 3_661_000,
    }
    return replace(job, **{**values, **fields})


def make_leftovers(job: Job, shard: int, texts: list[str], following: int | None) -> Leftovers:
    """Return the failed documents of one shard."""
    documents = [Document(7 * shard + n, f"id-{shard}-{n}", text) for n, text in enumerate(texts)]
    blob = CODEC.encode(encode_documents(documents), associated_data("in", JOB_ID, shard))
    return Leftovers(job, ((shard, blob),), following, "ep_1")


class Retry:
    """Retries one job on a ledger with these replies."""

    def __init__(self, job: Job, **replies: Any) -> None:
        self.ledger = ScriptedLedger(
            **{"read_job": job, "stage_shards": StageOutcome.NEW, "drop_stage": None, **replies}
        )
        authenticator = make_open_authenticator(self.ledger, GatewayMetrics(CollectorRegistry()))
        self.creation, self.memory = RecordingCreation(), DecodeMemory()
        self.retries = Retries(
            SETTINGS,
            JobReader(self.ledger, None, authenticator),  # type: ignore[arg-type]  # no retry waits for a job
            CODEC,
            self.memory,
            IdempotencyKeys(self.ledger, CODEC),
            Stages(SETTINGS, self.ledger, CODEC),
            self.creation,  # type: ignore[arg-type]
        )

    async def run(self) -> AcceptedJob:
        """Retry the job."""
        return await self.retries.create_retry(make_context(), JOB_ID)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": JobStatus.RUNNING}, "job_not_terminal"),
        ({"counts": Counts(2, 0, 0, 2, 0, 0, 0)}, "nothing_to_retry"),
        ({"retried_by": "job_other"}, "already_retried"),
        ({"model": "removed"}, "unknown_model"),
        ({"tenant": "other"}, "job_not_found"),
    ],
)
async def test_a_job_that_cannot_be_retried_is_refused(fields: dict[str, Any], code: str) -> None:
    """Before anything is staged."""
    retry = Retry(make_job(**fields))
    with pytest.raises(GatewayError) as refused:
        await retry.run()
    assert refused.value.code == code
    assert retry.ledger.script.names == ["read_job"]


async def test_the_new_job_has_the_failed_documents_and_the_old_head() -> None:
    """Documents keep their ids and get new indexes; times to live are those of the old job, not what is left."""
    job = make_job()
    pages = [make_leftovers(job, 0, ["a", "b"], 3), make_leftovers(job, 3, ["c"], None)]
    retry = Retry(job, read_leftovers=pages)
    await retry.run()
    [(context, head, packed)] = retry.creation.jobs
    assert context.retry_of == RetrySource(JOB_ID, "ep_1")
    assert (packed.count, packed.characters) == (3, 3)
    assert (head.tasks.labels, head.options, head.metadata) == ({"person": None}, Options(), {"batch": "42"})
    assert (head.deadline_s, head.result_ttl_s) == (600, 60)
    [staged] = [call for call in retry.ledger.script.calls if call.script == "stage_shards"]
    blob = next(part for part in reversed(staged.args) if isinstance(part, bytes))
    documents = decode_documents(CODEC.decode(blob, associated_data("in", packed.job_id, 0)))
    assert [(document.index, document.id) for document in documents] == [
        (0, "id-0-0"),
        (1, "id-0-1"),
        (2, "id-3-0"),
    ]
    assert retry.memory.try_reserve("other", CAPACITY_BYTES) is not None


async def test_texts_that_were_deleted_cannot_be_retried() -> None:
    """The stage that was begun is dropped."""
    job = make_job()
    retry = Retry(job, read_leftovers=Leftovers(job, (), None, "", dropped=True))
    with pytest.raises(GatewayError, match="texts_dropped"):
        await retry.run()
    assert retry.ledger.script.names[-1] == "drop_stage"
    assert retry.creation.jobs == []


async def test_options_of_a_newer_gateway_are_tried_later() -> None:
    """During a rolling update the other gateway may have accepted what this one does not know."""
    opts = CODEC.encode(orjson.dumps({"labels": {}, "options": {"unheard_of": 1}}), associated_data("opts", JOB_ID))
    with pytest.raises(GatewayError) as refused:
        await Retry(make_job(opts=opts)).run()
    assert (refused.value.code, refused.value.retry_after_s) == ("storage_unavailable", 5)
