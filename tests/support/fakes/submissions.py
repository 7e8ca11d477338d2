"""Requests, callers and contexts of submissions, for units of the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from gateway.access import Caller
from gateway.access.anonymous import AnonymousRate
from gateway.access.auth import Authenticator
from gateway.access.rate_limits import Limiter
from gateway.access.sessions import Sessions
from gateway.settings import GatewaySettings
from gateway.store.model_facts import ModelFactsCache
from gateway.submission.packing import PackedDocuments
from gateway.submission.parsing.job import Head
from gateway.submission.types import AcceptedJob, IdempotencyKey, IncomingRequest, SubmissionContext
from jobs.api_keys import Role
from jobs.ledger import AsyncLedger, ModelFacts, ModelStats
from jobs.observability.metrics import GatewayMetrics
from tests.support.fakes.scripted_ledger import ScriptedLedger

CALLER = Caller("k_1", "acme", Role.SUBMITTER)


def make_context(key: IdempotencyKey | None = None, caller: Caller = CALLER) -> SubmissionContext:
    """Return the context of a request with this Idempotency-Key."""
    return SubmissionContext(caller, key, "")


def make_request(chunks: Iterable[bytes], path: str = "/v1/jobs", **headers: str) -> IncomingRequest:
    """Return a request whose body arrives in these chunks; underscores in header names become hyphens."""

    async def iterate() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return IncomingRequest(path, {"content-type": "application/json", **names}, iterate())


def make_open_authenticator(ledger: AsyncLedger, metrics: GatewayMetrics, **settings: Any) -> Authenticator:
    """Return an authenticator that lets every caller pass, as with GLEANER_AUTH=off."""
    options = GatewaySettings(auth="off", **settings)
    limiter = Limiter(options, ledger, metrics)
    return Authenticator(None, Sessions(ledger, options), limiter, AnonymousRate(0, metrics), metrics)


def make_facts(**facts: ModelFacts) -> ModelFactsCache:
    """Return a cache of the facts of models; by default no worker has announced any."""
    stats = tuple(
        ModelStats(name, 1, 1, "rev", None, 0, 0, 0, 0.0, None, of_model, ()) for name, of_model in facts.items()
    )
    return ModelFactsCache(ScriptedLedger(read_stats=stats), tuple(facts))


class RecordingCreation:
    """Stands in for `JobCreation`: remembers the jobs that it was called with, and creates none."""

    def __init__(self) -> None:
        self.jobs: list[tuple[SubmissionContext, Head, PackedDocuments]] = []

    async def create_job(self, context: SubmissionContext, head: Head, packed: PackedDocuments) -> AcceptedJob:
        """Return an accepted job with the id of the documents."""
        self.jobs.append((context, head, packed))
        return AcceptedJob(packed.job_id, lambda: b"{}")
