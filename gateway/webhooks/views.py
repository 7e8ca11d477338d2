"""The bodies of the webhook routes: what is sent, what OpenAPI shows, and how the ledger's records become them."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from gateway.http.schemas import Body, Timestamp
from gateway.reading.views import format_rfc3339
from gateway.webhooks.endpoints import Known
from gateway.webhooks.schedule import Answer
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
    """A receiver of webhooks."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    description: str
    events: list[str] | None = Field(description="The events it hears of; null: all.")
    all_jobs: bool = Field(description="It hears of every job of your tenant, not only of those that name it.")
    status: Literal["active", "disabled"]
    disabled_reason: str | None = Field(description="by_owner, gone (410), asked (by the receiver), only_failures.")
    disabled_at: Timestamp | None
    created_at: Timestamp
    last_success_at: Timestamp | None
    last_failure_at: Timestamp | None
    failures_in_a_row: int


class EndpointWithSecret(EndpointBody):
    """A receiver of webhooks, with its secret: shown now and never again."""

    secret: str


class EndpointsPage(Body):
    """Your tenant's endpoints, oldest first."""

    data: list[EndpointBody]
    next_cursor: None = None


class RotatedBody(Body):
    """A new secret: shown now and never again."""

    endpoint_id: str
    secret: str
    previous_signs_until: Timestamp | None = Field(description="Until then the old secret signs too.")


class TestBody(Body):
    """What a receiver said to a `webhook.test`."""

    delivered: bool
    status: int | None = Field(description="HTTP status; null if there was no answer.")
    latency_ms: int
    error: str | None = Field(description="Class of what went wrong, or null.")
    body: str = Field(description="The first 2 kB of what it said; empty where GLEANER_WEBHOOK_ALLOW opened it.")


class AttemptBody(Body):
    """One HTTP try."""

    at: Timestamp
    status: int | None = Field(description="HTTP status; null if there was no answer.")
    latency_ms: int
    error: str | None = Field(description="Class of what went wrong, or null.")
    body: str = Field(
        description="The first 2 kB of what the receiver said; empty where GLEANER_WEBHOOK_ALLOW opened it."
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
    """How many failed deliveries are tried again."""

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
    secret: str | None = Field(None, description="`whsec_…` of your own; one is made if absent.")
    all_jobs: bool = Field(True, description="Hear of every job of the tenant, or only of those that name it.")


class EndpointPatch(Body):
    """What is to change; what is absent stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"status": "active"}, {"events": None}]}
    )

    url: str | None = None
    events: list[str] | None = Field(None, description="null: all.")
    description: str | None = None
    status: Literal["active", "disabled"] | None = None
    all_jobs: bool | None = None


class RotateIn(Body):
    """A secret of your own, if you want one."""

    model_config = ConfigDict(extra="forbid")

    secret: str | None = None


class RecoverIn(Body):
    """From when on failed deliveries are tried again."""

    model_config = ConfigDict(extra="forbid")

    since: Timestamp


def endpoint_fields(known: Known) -> dict[str, object]:
    """An endpoint as the API serves it."""
    record, card = known.record, known.card
    return {
        "id": record.id,
        "url": card.url,
        "description": card.description,
        "events": list(record.events) or None,
        "all_jobs": record.every,
        "status": record.state,
        "disabled_reason": record.reason if record.state == "disabled" else None,
        "disabled_at": _time(record.disabled_at) if record.state == "disabled" else None,
        "created_at": format_rfc3339(record.created),
        "last_success_at": _time(record.last_ok),
        "last_failure_at": _time(record.last_fail),
        "failures_in_a_row": record.fails,
    }


def test_body(answer: Answer) -> TestBody:
    """A test's outcome."""
    return TestBody(
        delivered=answer.accepted,
        status=answer.status or None,
        latency_ms=answer.latency_ms,
        error=answer.error or None,
        body=answer.body.decode("utf-8", "replace"),
    )


def delivery_body(codec: Codec, delivery: Delivery) -> DeliveryBody:
    """A delivery with its attempts."""
    return DeliveryBody(
        id=delivery.id,
        endpoint_id=delivery.endpoint,
        job_id=delivery.job,
        event=delivery.event,
        status=_STATES[delivery.state],
        created_at=format_rfc3339(delivery.created),
        next_attempt_at=_time(delivery.next_at),
        ended_at=_time(delivery.ended_at),
        attempts=[_attempt(codec, delivery.id, attempt) for attempt in delivery.attempts],
    )


def _attempt(codec: Codec, delivery: str, attempt: DeliveryAttempt) -> AttemptBody:
    try:
        said = codec.decode(attempt.body, associated_data("att", delivery)) if attempt.body else b""
    except CodecError:  # its key is gone; the rest of the list is worth showing
        said = b""
    return AttemptBody(
        at=format_rfc3339(attempt.at),
        status=attempt.status or None,
        latency_ms=attempt.ms,
        error=attempt.error or None,
        body=said.decode("utf-8", "replace"),
    )


def _time(ms: int | None) -> str | None:
    return None if ms is None else format_rfc3339(ms)
