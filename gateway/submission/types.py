"""A submission in progress: the request that a job is created for, and the accepted job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.access import Caller
from gateway.access.rate_limits import RateLimitStatus
from gateway.reading.job_waiter import CompletionWatch
from gateway.schemas.jobs import JobWebhook


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request of which nothing is read yet.

    Attributes:
        headers: by lower-case name.
        chunks: of the body, as they arrive; raises if the client closes the connection.
    """

    path: str
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An Idempotency-Key, stored as a hash only, with the hash of its request.

    Attributes:
        nonce: identifies the request that claimed the key.
        claimed_at_ms: time of the ledger when the key was claimed; 0 before.
    """

    key_hash: str
    body_sha: str
    nonce: str
    claimed_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class RetrySource:
    """The job that is retried: its id, and the id of its webhook endpoint or ""."""

    job_id: str
    endpoint_id: str


@dataclass(frozen=True, slots=True)
class SubmissionContext:
    """The request that a job is created for.

    Attributes:
        key: its Idempotency-Key.
        trace: its W3C traceparent, or "".
        watch: gets the end of the new job, if the request waits for it.
        retry_of: the job that is retried.
    """

    caller: Caller
    key: IdempotencyKey | None
    trace: str
    watch: CompletionWatch | None = None
    retry_of: RetrySource | None = None


@dataclass(frozen=True, slots=True)
class AcceptedJob:
    """A job that is in the ledger.

    Attributes:
        render_body: renders the JSON of the 202; a replay is identical except for a webhook's secret.
        webhook: the job's endpoint; its secret is in the first response only.
        rate_limits: status of the limits that the job was counted against.
        is_replay: an earlier request with the same Idempotency-Key created the job.
    """

    job_id: str
    render_body: Callable[[], bytes]
    webhook: JobWebhook | None = None
    rate_limits: Sequence[RateLimitStatus] = ()
    is_replay: bool = False

    @property
    def created(self) -> str:
        """The job's id; empty for a replay, whose job was confirmed, and may be deleted by now."""
        return "" if self.is_replay else self.job_id
