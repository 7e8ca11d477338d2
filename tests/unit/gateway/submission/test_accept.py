"""The order in which a submission is handled, for bodies of every size."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import GatewayError
from gateway.label_sets import LabelSets
from gateway.reading.job_waiter import CompletionWatch, _Subscription
from gateway.settings import GatewaySettings
from gateway.submission.accept import Submissions
from gateway.submission.body_memory import BodyMemory
from gateway.submission.idempotency import IdempotencyKeys
from gateway.submission.types import AcceptedJob, IncomingRequest
from jobs.codec import Codec
from jobs.observability.metrics import GatewayMetrics
from jobs.schema import Priority
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


class Steps:
    """Stands in for what a submission calls, and remembers the order."""

    def __init__(self, **replies: Any) -> None:
        self.names: list[str] = []
        self.creation = RecordingCreation()
        self.memory = BodyMemory(MEMORY_BYTES)
        ledger, metrics = ScriptedLedger(**replies), GatewayMetrics(CollectorRegistry())
        authenticator = make_open_authenticator(ledger, metrics)
        keys, codec = IdempotencyKeys(ledger, Codec()), Codec()
        self.submissions = Submissions(
            SETTINGS, authenticator, self.memory, codec, keys, self.creation, self, self,  # type: ignore[arg-type]
            make_facts(), LabelSets(ledger, codec),
        )  # fmt: skip

    async def accept_upload(self, request: IncomingRequest, *_: Any) -> AcceptedJob:
        """Accept an NDJSON job."""
        self.names.append("upload")
        return AcceptedJob("job_upload", lambda: b"{}")

    async def confirm_writes(self, _: str) -> None:
        """Confirm that the job is stored."""
        self.names.append(f"confirm {len(self.creation.jobs)}")


def make_body(documents: int, length: int = 3, **fields: Any) -> bytes:
    """Return a job's JSON."""
    return json.dumps({"labels": ["a"], "documents": [{"text": "x" * length}] * documents, **fields}).encode()


@pytest.mark.parametrize(("documents", "length"), [(1, 3), (20, 9000), (20, 90_000)])
async def test_a_body_of_any_size_becomes_a_job_that_is_confirmed(documents: int, length: int) -> None:
    """Small ones are parsed in place, larger ones in a thread; the memory is free again at the end."""
    steps, body = Steps(), make_body(documents, length)
    accepted = await steps.submissions.accept_job(make_request([body[:100], body[100:]]), CALLER, "reject")
    [(context, head, packed)] = steps.creation.jobs
    assert accepted.job_id == packed.job_id
    assert (packed.count, packed.characters) == (documents, documents * length)
    assert (context.caller, context.key, head.priority) == (CALLER, None, Priority.STANDARD)
    assert steps.names == ["confirm 1"]
    assert steps.memory.budget.free == MEMORY_BYTES


async def test_ndjson_is_an_upload() -> None:
    """It is confirmed as well."""
    steps = Steps()
    request = make_request([b""], content_type="application/x-ndjson")
    assert (await steps.submissions.accept_job(request, CALLER, "reject")).job_id == "job_upload"
    assert steps.names == ["upload", "confirm 0"]


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{}", {}, "validation_failed"),
        (b"", {"content_type": "text/plain"}, "unsupported_media_type"),
        (make_body(1), {"idempotency_key": "two words"}, "validation_failed"),
        (b"[" + b" " * 2_000_000 + b"]", {}, "payload_too_large"),
    ],
)
async def test_a_request_that_is_not_valid_creates_and_confirms_nothing(
    body: bytes, headers: dict[str, str], code: str
) -> None:
    """Its memory is free at once."""
    steps = Steps()
    with pytest.raises(GatewayError) as refused:
        await steps.submissions.accept_job(make_request([body], **headers), CALLER, "reject")
    assert refused.value.code == code
    assert steps.creation.jobs == []
    assert steps.names == []
    assert steps.memory.budget.free == MEMORY_BYTES


async def test_the_documents_of_an_extract_are_few_and_urgent() -> None:
    """The job has the id that the request waits for; its end is awaited before it is confirmed."""
    steps = Steps()
    watch = CompletionWatch("job_watched", "", asyncio.Event(), _Subscription("job_watched"))
    accepted = await steps.submissions.accept_json(make_request([make_body(2)]), CALLER, watch)
    [(context, head, _)] = steps.creation.jobs
    assert (accepted.job_id, context.watch, head.priority) == ("job_watched", watch, Priority.INTERACTIVE)
    assert steps.names == []
    too_many = make_body(SETTINGS.extract_max_documents + 1)
    with pytest.raises(GatewayError, match="too_many_documents"):
        await steps.submissions.accept_json(make_request([too_many]), CALLER, watch)


@pytest.mark.parametrize("length", [3, 90_000])
async def test_a_job_gets_the_labels_of_the_label_set_that_it_names(length: int) -> None:
    """They take memory like the body's own bytes."""
    labels = {f"label {number}": "d" * 1000 for number in range(90)}
    steps = Steps(read_label_set=stored_label_set("drugs", 3, labels))
    body = json.dumps({"label_set": "drugs", "documents": [{"text": "x" * length}]}).encode()
    await steps.submissions.accept_job(make_request([body]), CALLER, "reject")
    [(_, head, _)] = steps.creation.jobs
    assert (head.tasks.labels, head.label_set) == (labels, "drugs@3")
    assert steps.memory.budget.free == MEMORY_BYTES


async def test_a_label_set_that_finds_no_memory_refuses_the_job() -> None:
    """A few bytes could otherwise take a megabyte each."""
    steps = Steps(read_label_set=stored_label_set("drugs", 1, {"a": "d" * 200_000}))
    steps.memory.wait_s = 0.01
    async with steps.memory.reserve_for("acme") as other:
        await other.resize(MEMORY_BYTES // 2)
        with pytest.raises(GatewayError, match="overloaded"):
            await steps.submissions.accept_job(
                make_request([b'{"label_set":"drugs","documents":[{"text":"a"}]}']), CALLER, "reject"
            )
    assert steps.creation.jobs == []
