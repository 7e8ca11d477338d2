"""Bodies of the webhook routes, and their conversion from the ledger's records."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from gateway.reading.views import format_optional_time, format_rfc3339
from gateway.schemas import Body, Timestamp
from gateway.webhooks.endpoints import OpenedEndpoint
from gateway.webhooks.schedule import AttemptResult
from jobs.codec import Codec, CodecError
from jobs.ledger import associated_data
from jobs.ledger.webhooks import Delivery, DeliveryAttempt

_STATES: dict[str, Literal["pending", "delivering", "delivered", "failed"]] = {
    "due": "pending",
    "flying": "delivering",
    "delivered": "delivered",
    "failed": "failed",
}


class EndpointBody(Body):
    """A webhook endpoint."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    description: str
    events: list[str] | None = Field(description="Events that are sent to it; null: all.")
    all_jobs: bool = Field(
        description="Gets the events of every job of your tenant, not only of those that name it."
    )
    status: Literal["active", "disabled"]
    disabled_reason: str | None = Field(
        description="by_owner, gone (410), asked (by the receiver) or only_failures."
    )
    disabled_at: Timestamp | None
    created_at: Timestamp
    last_success_at: Timestamp | None
    last_failure_at: Timestamp | None
    failures_in_a_row: int


class EndpointWithSecret(EndpointBody):
    """A webhook endpoint with its secret, which is shown only once."""

    secret: str


class EndpointsPage(Body):
    """Your tenant's endpoints, oldest first."""

    data: list[EndpointBody]
    next_cursor: None = None


class RotatedBody(Body):
    """A new secret, which is shown only once."""

    endpoint_id: str
    secret: str
    previous_signs_until: Timestamp | None = Field(
        description="Until then payloads are signed with the old secret too."
    )


class TestBody(Body):
    """A receiver's response to a `webhook.test`."""

    delivered: bool
    status: int | None = Field(description="HTTP status; null if there was no response.")
    latency_ms: int
    error: str | None = Field(description="Class of the error, or null.")
    body: str = Field(
        description="First 2 kB of the response; empty for receivers allowed by GLEANER_WEBHOOK_ALLOW."
    )


class AttemptBody(Body):
    """One HTTP attempt."""

    at: Timestamp
    status: int | None = Field(description="HTTP status; null if there was no response.")
    latency_ms: int
    error: str | None = Field(description="Class of the error, or null.")
    body: str = Field(
        description="First 2 kB of the response; empty for receivers allowed by GLEANER_WEBHOOK_ALLOW."
    )


class DeliveryBody(Body):
    """One event for one endpoint; its id is the `webhook-id` of every attempt."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    endpoint_id: str
    job_id: str
    event: str
    status: Literal["pending", "delivering", "delivered", "failed"]
    created_at: Timestamp
    next_attempt_at: Timestamp | None
    ended_at: Timestamp | None
    attempts: list[AttemptBody]


class DeliveriesBody(Body):
    """Deliveries, newest first."""

    data: list[DeliveryBody]
    next_cursor: str | None


class RecoveredBody(Body):
    """Number of failed deliveries that are retried."""

    recovered: int


class EndpointIn(Body):
    """An endpoint to register."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": "https://example.com/hooks/gleaner", "events": ["job.failed"]}]},
    )

    url: str
    events: list[str] | None = Field(None, description="Only these events; all by default.")
    description: str = ""
    secret: str | None = Field(None, description="Your own `whsec_…` secret; by default one is generated.")
    all_jobs: bool = Field(
        True, description="Get the events of every job of the tenant, or only of those that name it."
    )


class EndpointPatch(Body):
    """Fields to change; absent fields stay as they are."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"status": "active"}, {"events": None}]}
    )

    url: str | None = None
    events: list[str] | None = Field(None, description="null: all.")
    description: str | None = None
    status: Literal["active", "disabled"] | None = None
    all_jobs: bool | None = None


class RotateIn(Body):
    """Optionally your own secret."""

    model_config = ConfigDict(extra="forbid")

    secret: str | None = None


class RecoverIn(Body):
    """The time since which failed deliveries are retried."""

    model_config = ConfigDict(extra="forbid")

    since: Timestamp


def build_endpoint_fields(endpoint: OpenedEndpoint) -> dict[str, object]:
    """Return the fields of an `EndpointBody`."""
    record, details = endpoint.record, endpoint.details
    return {
        "id": record.id,
        "url": details.url,
        "description": details.description,
        "events": list(record.events) or None,
        "all_jobs": record.every,
        "status": record.state,
        "disabled_reason": record.reason if record.state == "disabled" else None,
        "disabled_at": format_optional_time(record.disabled_at) if record.state == "disabled" else None,
        "created_at": format_rfc3339(record.created),
        "last_success_at": format_optional_time(record.last_ok),
        "last_failure_at": format_optional_time(record.last_fail),
        "failures_in_a_row": record.fails,
    }


def build_test_body(result: AttemptResult) -> TestBody:
    """Return a test's result as the API serves it."""
    return TestBody(
        delivered=result.accepted,
        status=result.status or None,
        latency_ms=result.latency_ms,
        error=result.error or None,
        body=result.body.decode("utf-8", "replace"),
    )


def build_delivery_body(codec: Codec, delivery: Delivery) -> DeliveryBody:
    """Return a delivery with its attempts as the API serves it."""
    return DeliveryBody(
        id=delivery.id,
        endpoint_id=delivery.endpoint,
        job_id=delivery.job,
        event=delivery.event,
        status=_STATES[delivery.state],
        created_at=format_rfc3339(delivery.created),
        next_attempt_at=format_optional_time(delivery.next_at),
        ended_at=format_optional_time(delivery.ended_at),
        attempts=[_build_attempt(codec, delivery.id, attempt) for attempt in delivery.attempts],
    )


def _build_attempt(codec: Codec, delivery: str, attempt: DeliveryAttempt) -> AttemptBody:
    try:
        response = codec.decode(attempt.body, associated_data("att", delivery)) if attempt.body else b""
    except CodecError:  # its key was removed; the other attempts are still worth showing
        response = b""
    return AttemptBody(
        at=format_rfc3339(attempt.at),
        status=attempt.status or None,
        latency_ms=attempt.ms,
        error=attempt.error or None,
        body=response.decode("utf-8", "replace"),
    )
