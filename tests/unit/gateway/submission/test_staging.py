"""Stages: documents that arrive one by one become shards in the ledger."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from gateway.submission.packing import pack_documents
from gateway.submission.staging import Stages, Staging
from gateway.submission.types import IdempotencyKey
from jobs.codec import Codec
from jobs.ledger import IdempotencyClaim, IdempotencyOutcome, LedgerUnavailableError, OpenWork, StageOutcome
from jobs.schema import Document
from jobs.tasks import Tasks
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import make_context

pytestmark = pytest.mark.anyio

CODEC = Codec()
SETTINGS = GatewaySettings(auth="off", tenant_max_stored_bytes=1000)
KEY = IdempotencyKey("hash", "sha", "nonce")
TASKS = Tasks({"person": None})


def make_staging(key: IdempotencyKey | None = None, **replies: Any) -> tuple[Staging, ScriptedLedger]:
    """Return a stage on a ledger with these replies, and the ledger."""
    ledger = ScriptedLedger(**{"stage_shards": StageOutcome.NEW, "drop_stage": None, **replies})
    staging = Staging(Stages(SETTINGS, ledger, CODEC), make_context(key))
    staging.set_tasks(TASKS)
    return staging, ledger


def make_documents(count: int, first: int = 0, text: str = "Ada") -> list[Document]:
    """Return documents, each with its index as id."""
    return [Document(first + n, str(first + n), text) for n in range(count)]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 90), min_size=1, max_size=6))
def test_a_staged_job_has_the_shards_of_the_same_job_sent_at_once(parts: list[int]) -> None:
    """However its documents are divided on the way."""
    documents = make_documents(sum(parts))

    async def stage() -> Staging:
        staging, _ = make_staging()
        at = 0
        for count in parts:
            await staging.add_documents(documents[at : at + count])
            at += count
        await staging.finish()
        return staging

    staging = asyncio.run(stage())
    staged, packed = staging.list_packed(), pack_documents(CODEC, staging.job_id, documents, TASKS)
    assert (staged.sizes, staged.characters, staged.version) == (packed.sizes, packed.characters, packed.version)
    assert staged.blobs == ()
    assert bool(staged.staged_bytes) is bool(documents)


async def test_ids_of_clients_are_staged_with_their_documents() -> None:
    """They count as stored bytes."""
    staging, ledger = make_staging()
    await staging.add_documents([Document(0, "a", "x"), Document(1, "1", "y")])
    await staging.finish()
    [call] = ledger.script.calls
    assert any(isinstance(part, bytes) and b"a" in part for part in call.args)
    plain, _ = make_staging()
    await plain.add_documents([Document(0, "0", "x"), Document(1, "1", "y")])
    await plain.finish()
    assert staging.size > plain.size


async def test_a_tenant_that_stores_too_much_is_refused() -> None:
    """The error names what it stores and how much it may."""
    staging, _ = make_staging(stage_shards=StageOutcome.STORED, read_open_work=OpenWork(0, 0, 0, 990))
    await staging.add_documents(make_documents(1))
    with pytest.raises(GatewayError) as refused:
        await staging.finish()
    assert refused.value.code == "quota_exceeded"
    assert "990 of at most 1000" in refused.value.detail


async def test_a_full_ledger_refuses_the_job() -> None:
    """It may have memory later."""
    staging, _ = make_staging(stage_shards=StageOutcome.MEMORY_FULL)
    await staging.add_documents(make_documents(1))
    with pytest.raises(GatewayError) as refused:
        await staging.finish()
    assert (refused.value.code, refused.value.retry_after_s) == ("overloaded", 30)


async def test_an_upload_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its documents would occupy the ledger for as long as it lasts."""
    staging, _ = make_staging()
    now = time.monotonic() + SETTINGS.max_upload_s + 1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(GatewayError) as refused:
        await staging.add_documents(make_documents(1))
    assert refused.value.code == "request_timeout"


async def test_only_what_exists_is_renewed() -> None:
    """A stage begins with its first shard; a key is held from the beginning."""
    staging, ledger = make_staging(KEY, claim_idempotency_key=IdempotencyClaim(IdempotencyOutcome.RUN, b"", 0))
    await staging.renew()
    assert ledger.script.names == ["claim_idempotency_key"]
    await staging.add_documents(make_documents(1))
    await staging.finish()
    await staging.renew()
    assert ledger.script.names[-2:] == ["stage_shards", "claim_idempotency_key"]
    without_key, quiet = make_staging()
    await without_key.renew()
    assert quiet.script.names == []


@pytest.mark.parametrize("drop", [None, LedgerUnavailableError("down")])
async def test_a_stage_whose_block_fails_is_dropped(drop: Any) -> None:
    """Without Redis it expires, and the error of the block is the one that is raised."""
    ledger = ScriptedLedger(drop_stage=drop)
    with pytest.raises(ZeroDivisionError):
        async with Stages(SETTINGS, ledger, CODEC).open_stage(make_context()):
            raise ZeroDivisionError
    assert ledger.script.names == ["drop_stage"]


async def test_a_finished_stage_is_left_to_its_job() -> None:
    """The ledger turns it into the job."""
    ledger = ScriptedLedger()
    async with Stages(SETTINGS, ledger, CODEC).open_stage(make_context()) as staging:
        await staging.finish()
    assert ledger.script.names == []
