"""Endpoints and deliveries as the API shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from gateway.webhooks.endpoints import EndpointDetails, OpenedEndpoint, Secret
from gateway.webhooks.schedule import AttemptResult
from gateway.webhooks.views import EndpointBody, build_delivery_body, build_endpoint_fields, build_test_body
from jobs.codec import Codec
from jobs.ledger import associated_data
from jobs.ledger.webhooks import Delivery, DeliveryAttempt, Endpoint

CODEC = Codec(["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="])  # pragma: allowlist secret
ENDPOINT = Endpoint("ep_1", "acme", 3, b"", (), "url", True, "lane", "active", 1000, 2000)
DELIVERY = Delivery("dlv_1", "ep_1", "acme", "job_1", "job.failed", "due", 1000, 5000, None, ())


def show_endpoint(record: Endpoint) -> EndpointBody:
    """Return an endpoint as the API shows it."""
    details = EndpointDetails("https://example.com/token", "mine", (Secret("whsec_x"),))
    return EndpointBody.model_validate(build_endpoint_fields(OpenedEndpoint(record, details)))


def test_an_endpoint_is_shown_without_its_secret() -> None:
    """Its URL is shown to its owner; no event named means all."""
    body = show_endpoint(ENDPOINT)
    assert "whsec_" not in body.model_dump_json()
    assert (body.url, body.events, body.all_jobs) == ("https://example.com/token", None, True)
    assert show_endpoint(replace(ENDPOINT, events=("job.failed",))).events == ["job.failed"]


def test_only_a_disabled_endpoint_has_a_reason() -> None:
    """An endpoint that was enabled again keeps the record of it in the ledger, not in the API."""
    disabled = replace(ENDPOINT, state="disabled", reason="gone", disabled_at=1500)
    assert (show_endpoint(disabled).disabled_reason, show_endpoint(disabled).disabled_at) == (
        "gone",
        "1970-01-01T00:00:01.500Z",
    )
    enabled = show_endpoint(replace(disabled, state="active"))
    assert (enabled.disabled_reason, enabled.disabled_at) == (None, None)


@pytest.mark.parametrize(
    ("result", "delivered", "status", "error"),
    [
        (AttemptResult(204, 7), True, 204, None),
        (AttemptResult(500, 7, error="http_error"), False, 500, "http_error"),
        (AttemptResult(0, 7, error="timeout"), False, None, "timeout"),
    ],
)
def test_a_test_s_result_is_null_where_there_was_no_response(
    result: AttemptResult, delivered: bool, status: int | None, error: str | None
) -> None:
    """Neither a status of 0 nor an empty error reaches clients."""
    body = build_test_body(result)
    assert (body.delivered, body.status, body.error) == (delivered, status, error)


def test_a_response_that_is_not_utf8_can_be_shown() -> None:
    """Receivers answer what they like."""
    assert build_test_body(AttemptResult(200, 1, body=b"\xff")).body == "�"


@pytest.mark.parametrize(
    ("state", "status"),
    [("due", "pending"), ("flying", "delivering"), ("delivered", "delivered"), ("failed", "failed")],
)
def test_states_have_the_api_s_names(state: Literal["due", "flying", "delivered", "failed"], status: str) -> None:
    """The ledger's own words stay inside."""
    assert build_delivery_body(CODEC, replace(DELIVERY, state=state)).status == status


def test_an_attempt_whose_body_cannot_be_read_is_shown_without_it() -> None:
    """Its key was removed; the other attempts are still shown."""
    stored = CODEC.encode(b"no", associated_data("att", "dlv_1"))
    attempts = tuple(DeliveryAttempt(1000, 500, 7, "http_error", body) for body in (stored, b"damaged", b""))
    body = build_delivery_body(CODEC, replace(DELIVERY, attempts=attempts))
    assert [attempt.body for attempt in body.attempts] == ["no", "", ""]
    assert body.next_attempt_at == "1970-01-01T00:00:05.000Z"
    assert body.ended_at is None
