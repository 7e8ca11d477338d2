"""Bodies of webhook routes, and the outcomes that they answer."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.reading.views import format_rfc3339
from gateway.routes import webhooks as routes
from gateway.routes.dependencies import Services
from gateway.routes.webhooks import _check_description, _parse_since, _read_model
from gateway.validation import ValidationErrors
from gateway.webhooks.parsing import MAX_DESCRIPTION
from gateway.webhooks.views import EndpointIn, RotateIn
from jobs.codec import Codec
from jobs.ledger.outcomes import RedeliverOutcome
from jobs.ledger.webhooks import Delivery
from tests.support.fakes.routes import FakeBarrier, make_http_request, make_services
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
DELIVERY = Delivery("dlv_1", "ep_1", CALLER.tenant, "job_1", "job.failed", "failed", 1000, None, 2000, ())


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_is_read_as_it_is_written(ms: int) -> None:
    """The API's own times can be sent back."""
    assert _parse_since(format_rfc3339(ms)) == ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-03-01", "2026-03-01T09:30:00", "0001-01-01T00:00:00+23:59x", "9" * 30]
)
def test_a_time_without_an_offset_is_none(text: str) -> None:
    """It could mean any hour of a day."""
    with pytest.raises(GatewayError) as refused:
        _parse_since(text)
    assert refused.value.violations[0][0] == "/since"


def test_a_time_before_1970_is_the_beginning() -> None:
    """Nothing is older."""
    assert _parse_since("1969-12-31T23:59:59Z") == 0


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("", True),
        ("my hook", True),
        ("x" * MAX_DESCRIPTION, True),
        ("x" * (MAX_DESCRIPTION + 1), False),
        ("a\nb", False),
    ],
)
def test_a_description_is_one_short_line(text: str, is_valid: bool) -> None:
    """It is shown in tables and terminals."""
    errors = ValidationErrors()
    _check_description(text, errors)
    assert (not len(errors)) is is_valid


async def test_a_body_is_returned_as_sent_and_as_a_model() -> None:
    """A field that is absent differs from null."""
    body = b'{"url":"https://example.com","events":null}'
    model, content = await _read_model(make_http_request("POST", headers=JSON, body=body), EndpointIn)
    assert (model.url, model.events) == ("https://example.com", None)
    assert content.keys() == {"url", "events"}


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"url":1}', "validation_failed"), (b'{"url":"x","more":1}', "validation_failed"), (b"{", "malformed_json")],
)
async def test_a_body_that_does_not_fit_is_refused(body: bytes, code: str) -> None:
    """Types are not converted."""
    with pytest.raises(GatewayError, match=code):
        await _read_model(make_http_request("POST", headers=JSON, body=body), EndpointIn)


@pytest.mark.parametrize(
    ("headers", "is_empty"),
    [({}, True), ({"Content-Length": "0"}, True), ({**JSON, "Transfer-Encoding": "chunked"}, False)],
)
async def test_an_optional_body_may_be_absent(headers: dict[str, str], is_empty: bool) -> None:
    """A chunked one is read, even if it turns out to be empty."""
    request = make_http_request("POST", headers=headers)
    if is_empty:
        assert await _read_model(request, RotateIn, empty=True) == (RotateIn(), {})
    else:
        with pytest.raises(GatewayError, match="malformed_json"):
            await _read_model(request, RotateIn, empty=True)


async def find_endpoint(*_: object) -> None:
    """Find the endpoint."""


def make_webhook_services(**replies: Any) -> tuple[Services, FakeBarrier]:
    """Return services on a ledger with these replies, and their barrier."""
    barrier = FakeBarrier()
    services = make_services(
        ledger=ScriptedLedger(**replies),
        barrier=barrier,
        codec=Codec(),
        endpoints=SimpleNamespace(get=find_endpoint),
    )
    return services, barrier


async def recover(services: Services) -> int:
    """Retry the failed deliveries of an endpoint; return their number."""
    body = b'{"since":"2026-03-01T09:30:00Z"}'
    request = make_http_request("POST", headers=JSON, body=body)
    return (await routes.recover_webhook_deliveries(request, services, CALLER, "ep_1")).recovered


async def test_failed_deliveries_are_recovered_in_steps() -> None:
    """Each step examines a part of them and continues after it."""
    services, barrier = make_webhook_services(recover_deliveries=[(500, 500), (3, 20), (0, 0)])
    assert await recover(services) == 503
    assert isinstance(services.ledger, ScriptedLedger)
    assert [call.args[2] for call in services.ledger.script.calls] == [0, 500, 520]
    assert barrier.confirmed == 1


async def test_nothing_is_recovered_for_a_disabled_endpoint() -> None:
    """It must be enabled first."""
    services, barrier = make_webhook_services(recover_deliveries=[(-1, 0)])
    with pytest.raises(GatewayError, match="endpoint_disabled"):
        await recover(services)
    assert barrier.confirmed == 0


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(RedeliverOutcome.DISABLED, "endpoint_disabled"), (RedeliverOutcome.ABSENT, "delivery_not_found")],
)
async def test_an_event_that_cannot_be_sent_again_is_refused(outcome: RedeliverOutcome, code: str) -> None:
    """Nothing is confirmed."""
    services, barrier = make_webhook_services(read_delivery=DELIVERY, redeliver=outcome)
    with pytest.raises(GatewayError, match=code):
        await routes.redeliver_webhook(services, CALLER, "dlv_1")
    assert barrier.confirmed == 0


@pytest.mark.parametrize("delivery", [None, replace(DELIVERY, tenant="other")])
async def test_another_tenant_s_delivery_is_as_good_as_none(delivery: Delivery | None) -> None:
    """It is neither shown nor sent again."""
    services, _ = make_webhook_services(read_delivery=delivery)
    for route in (routes.get_webhook_delivery, routes.redeliver_webhook):
        with pytest.raises(GatewayError, match="delivery_not_found"):
            await route(services, CALLER, "dlv_1")
