"""Uploads: an NDJSON body is read, staged and committed as it arrives."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.errors import GatewayError
from gateway.label_sets import LabelSets
from gateway.settings import GatewaySettings
from gateway.submission.body_memory import BodyMemory
from gateway.submission.idempotency import IdempotencyKeys
from gateway.submission.staging import Stages
from gateway.submission.stream import Uploads, _HashedBody
from gateway.submission.types import AcceptedJob
from jobs.codec import Codec
from jobs.ledger import IdempotencyClaim, IdempotencyOutcome, StageOutcome
from jobs.observability.metrics import GatewayMetrics
from tests.support.fakes.label_sets import stored_label_set
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import (
    CALLER,
    RecordingCreation,
    make_facts,
    make_open_authenticator,
    make_request,
)

pytestmark = pytest.mark.anyio

MEMORY_BYTES = 64 << 20
SETTINGS = GatewaySettings(auth="off")
BODY = b"\n".join(
    [b'{"labels":["person"]}', *(json.dumps({"id": f"d{n}", "text": "Ada " * n}).encode() for n in range(1, 60))]
)


class Upload:
    """Upload on a ledger with these replies."""

    def __init__(self, **replies: Any) -> None:
        self.ledger = ScriptedLedger(**{"stage_shards": StageOutcome.NEW, "drop_stage": None, **replies})
        self.creation, self.memory = RecordingCreation(), BodyMemory(MEMORY_BYTES)
        authenticator = make_open_authenticator(self.ledger, GatewayMetrics(CollectorRegistry()))
        keys, stages = IdempotencyKeys(self.ledger, Codec()), Stages(SETTINGS, self.ledger, Codec())
        self.uploads = Uploads(
            SETTINGS, authenticator, self.memory, keys, stages, self.creation, make_facts(),  # type: ignore[arg-type]
            LabelSets(self.ledger, Codec()),
        )  # fmt: skip

    async def accept(self, chunks: Iterable[bytes], **headers: str) -> AcceptedJob:
        """Accept a body that arrives in these chunks."""
        request = make_request(chunks, content_type="application/x-ndjson", **headers)
        return await self.uploads.accept_upload(request, CALLER, "reject")


def cut(body: bytes, positions: list[int]) -> list[bytes]:
    """Cut a body at these places."""
    bounds = [0, *sorted(position % len(body) for position in positions), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(bounds)]


@settings(max_examples=15)
@given(st.lists(st.integers(0, 100_000), max_size=6))
def test_a_body_makes_the_same_job_however_it_arrives(positions: list[int]) -> None:
    """Lines may be cut anywhere; all memory is free at the end."""
    upload = Upload()
    asyncio.run(upload.accept(cut(BODY, positions)))
    [(context, head, packed)] = upload.creation.jobs
    assert (context.key, head.model, head.tasks.labels) == (None, SETTINGS.models.names[0], {"person": None})
    assert (packed.count, packed.characters) == (59, sum(4 * n for n in range(1, 60)))
    assert upload.memory.budget.free == MEMORY_BYTES
    assert upload.ledger.script.names == ["stage_shards"]


@settings(max_examples=10)
@given(st.lists(st.integers(0, 100_000), max_size=6))
def test_a_label_set_is_read_between_the_first_line_and_the_second(positions: list[int]) -> None:
    """Wherever the body is cut; no document is lost or read twice."""
    labels = {"person": "somebody", "city": None}
    upload = Upload(read_label_set=stored_label_set("people", 2, labels))
    body = BODY.replace(b'"labels":["person"]', b'"label_set":"people@2"', 1)
    asyncio.run(upload.accept(cut(body, positions)))
    [(_, head, packed)] = upload.creation.jobs
    assert (head.tasks.labels, head.label_set) == (labels, "people@2")
    assert (packed.count, packed.characters) == (59, sum(4 * n for n in range(1, 60)))
    assert upload.memory.budget.free == MEMORY_BYTES


async def test_an_upload_that_names_no_label_set_of_the_tenant_is_refused() -> None:
    """Its stage is dropped."""
    upload = Upload(read_label_set=stored_label_set("people", 2, {"person": None}))
    with pytest.raises(GatewayError, match="label_set_not_found"):
        await upload.accept([b'{"label_set":"people@3"}\n{"text":"a"}'])
    assert upload.creation.jobs == []


async def test_a_long_body_is_staged_while_it_arrives() -> None:
    """Only a part of it is in memory."""
    texts = (Random(n).randbytes(50_000).hex() for n in range(40))  # cannot be compressed to less than a half
    upload = Upload()
    lines = (json.dumps({"text": text}).encode() + b"\n" for text in texts)
    await upload.accept([b'{"labels":["a"]}\n', *lines])
    assert upload.ledger.script.names.count("stage_shards") > 1
    assert upload.creation.jobs[0][2].count == 40


async def test_a_body_that_is_not_valid_leaves_no_stage() -> None:
    """The rest of it is read, so that the client sees the error, and the stage is dropped."""
    upload, chunks = Upload(), iter((BODY + b"\n{", b"\n" * 100_000, b"more", b"and more"))
    with pytest.raises(GatewayError, match="malformed_json"):
        await upload.accept(chunks)
    assert next(chunks, None) is None
    assert upload.ledger.script.names[-1] == "drop_stage"
    assert upload.creation.jobs == []
    assert upload.memory.budget.free == MEMORY_BYTES


async def test_the_key_of_an_upload_gets_the_hash_of_its_body() -> None:
    """It is known only at the end, when the job is created."""
    upload = Upload(claim_idempotency_key=IdempotencyClaim(IdempotencyOutcome.RUN, b"", 7))
    await upload.accept([BODY], idempotency_key="once")
    body = _HashedBody(make_request([BODY]), SETTINGS, "reject")
    key = upload.creation.jobs[0][0].key
    assert key is not None
    assert key.body_sha == await body.read_to_end()
    assert upload.ledger.script.calls[0].args[3] == ""


async def test_the_hash_is_that_of_body_path_and_mode() -> None:
    """A key must not be reused for the same bytes with another meaning."""

    async def read_hash(*chunks: bytes, path: str = "/v1/jobs", mode: Any = "reject") -> str:
        return await _HashedBody(make_request(chunks, path), SETTINGS, mode).read_to_end()

    same = {await read_hash(BODY), await read_hash(*cut(BODY, [5, 900]))}
    different = {
        await read_hash(BODY + b"\n"),
        await read_hash(BODY, path="/v1/other"),
        await read_hash(BODY, mode="fail_document"),
    }
    assert len(same) == 1
    assert len(same | different) == 4
