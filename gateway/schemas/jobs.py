"""Bodies of jobs, as the API returns them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.schemas import Body, Timestamp
from jobs.schema import DocumentErrorCode, JobStatus, Priority


class CountsBody(Body):
    """Documents of a job by state; the six after `total` sum to it at every read."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int


class UsageBody(Body):
    """The work done for a job's documents so far."""

    characters: int
    windows: int
    windowed_documents: int
    truncated_documents: int


class ErrorCount(Body):
    """Number of documents that failed with one code."""

    code: DocumentErrorCode
    count: int


class JobUrls(Body):
    """URLs of a job, relative to the service."""

    self: str
    results: str
    cancel: str
    events: str


class JobWebhook(Body):
    """The webhook endpoint of a job."""

    endpoint_id: str
    secret: str | None = Field(description="The secret generated for an inline webhook; null if you set one.")


class JobBody(Body):
    """A job."""

    id: str = Field(examples=["job_01kb4t7w3vq9x2m5n8r6c1d0fz"])
    object: Literal["job"] = "job"
    status: JobStatus
    status_reason: str | None = Field(description="Reason why the job makes no progress, or null.")
    counts: CountsBody
    progress: float = Field(ge=0, le=1, description="Fraction of documents that are finished.")
    eta_s: float | None = Field(description="Estimated seconds until the job ends; null if unknown.")
    queue_position: int | None = Field(description="Position among the waiting jobs, from 1; null once it runs.")
    usage: UsageBody
    model: str
    model_revision: str | None
    default_threshold: float | None = Field(
        description="Threshold if neither the job nor the document sets one: that of the worker that began the "
        "job. Null before."
    )
    label_set: str | None = Field(
        description="Version of the label set that the labels come from, as name@version; null without one."
    )
    priority: Priority
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    deadline_at: Timestamp
    results_expire_at: Timestamp | None
    error_summary: list[ErrorCount]
    warnings: list[str]
    urls: JobUrls
    metadata: dict[str, str]
    retry_of: str | None = Field(description="The job that this one retries.")
    retried_by: str | None = Field(description="The job that retries this one.")
    webhook: JobWebhook | None = Field(None, description="Only in the response to the submission; null later.")


class JobsPage(Body):
    """Jobs of your tenant, newest first."""

    data: list[JobBody]
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last page.")
