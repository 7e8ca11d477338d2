"""/v1/webhook-endpoints and /v1/deliveries: webhook endpoints and delivery history."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import Response

from gateway.access import Caller
from gateway.access.rate_limits import max_stored_bytes
from gateway.errors import GatewayError
from gateway.http import openapi
from gateway.http.requests import to_incoming
from gateway.reading import cursors
from gateway.reading.views import format_rfc3339, to_epoch_ms
from gateway.routes.dependencies import LIST_COST, Lister, Require, Services, ServicesDep, Submitter, Viewer
from gateway.submission.body import read_body
from gateway.submission.parsing.json_text import load_object
from gateway.validation import ValidationErrors, collect_errors, make_validation_error
from gateway.webhooks.endpoints import EndpointChanges, EndpointRequest
from gateway.webhooks.parsing import MAX_DESCRIPTION, parse_events, parse_secret
from gateway.webhooks.views import (
    DeliveriesBody,
    DeliveryBody,
    EndpointBody,
    EndpointIn,
    EndpointPatch,
    EndpointsPage,
    EndpointWithSecret,
    RecoveredBody,
    RecoverIn,
    RotatedBody,
    RotateIn,
    TestBody,
    build_delivery_body,
    build_endpoint_fields,
    build_test_body,
)
from jobs.api_keys import Role
from jobs.ledger import webhooks
from jobs.ledger.outcomes import RedeliverOutcome
from jobs.ledger.webhooks import Delivery

M = TypeVar("M", bound=BaseModel)
_MAX_BODY = 64 * 1024
_STATES = {"pending": "due", "delivered": "delivered", "failed": "failed"}

endpoints = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"])
single = APIRouter(prefix="/v1/deliveries", tags=["webhooks"])
ROUTERS = (endpoints, single)

Recoverer = Annotated[Caller, Depends(Require(Role.SUBMITTER, cost=LIST_COST))]
EndpointId = Annotated[str, Path(max_length=64, description="An endpoint's id.", examples=["ep_0af7651916cd43dd"])]
DeliveryId = Annotated[str, Path(max_length=64, description="A delivery's id.", examples=["dlv_2fd4e1c67a2d28fc"])]


class DeliveriesQuery(BaseModel):
    """Query of `list_webhook_deliveries`."""

    status: Literal["pending", "delivered", "failed"] | None = Field(None, description="Only with this status.")
    cursor: str | None = Field(None, description="The previous page's `next_cursor`.")
    limit: int = Field(50, ge=1, le=200, description="Most deliveries per page.")


def _describe_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI request body of a route that parses it itself."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": required, "content": content}}


@endpoints.post(
    "",
    operation_id="create_webhook_endpoint",
    summary="Register an endpoint",
    status_code=201,
    responses=openapi.error_responses(*openapi.BODY, "webhook_url_forbidden", "quota_exceeded"),
    openapi_extra=_describe_body(EndpointIn),
)
async def create_webhook_endpoint(request: Request, services: ServicesDep, caller: Submitter) -> EndpointWithSecret:
    """Register a webhook endpoint for jobs that end. The secret is shown only in this response."""
    endpoint_in, content = await _read_model(request, EndpointIn)
    with collect_errors() as errors:
        events = parse_events(endpoint_in.events, ("events",), errors)
        secret = parse_secret(content, (), errors)
        _check_description(endpoint_in.description, errors)
    endpoint = await services.endpoints.create(
        caller.tenant,
        EndpointRequest(endpoint_in.url, endpoint_in.description, events, secret, endpoint_in.all_jobs),
        max_stored_bytes(services.settings, caller),
    )
    await services.barrier.confirm_writes(endpoint.record.id)
    return EndpointWithSecret(**build_endpoint_fields(endpoint), secret=endpoint.details.secrets[0].value)


@endpoints.get(
    "", operation_id="list_webhook_endpoints", summary="List the endpoints", responses=openapi.error_responses()
)
async def list_webhook_endpoints(services: ServicesDep, caller: Lister) -> EndpointsPage:
    """List your tenant's registered endpoints, oldest first; inline endpoints of jobs are not included."""
    registered = await services.endpoints.list_registered(caller.tenant)
    return EndpointsPage(data=[EndpointBody(**build_endpoint_fields(endpoint)) for endpoint in registered])


@endpoints.get(
    "/{endpoint_id}",
    operation_id="get_webhook_endpoint",
    summary="Get an endpoint",
    responses=openapi.error_responses("endpoint_not_found", "validation_failed"),
)
async def get_webhook_endpoint(services: ServicesDep, caller: Viewer, endpoint_id: EndpointId) -> EndpointBody:
    """Return an endpoint with its recent successes and failures; also an inline endpoint of a job."""
    return EndpointBody(**build_endpoint_fields(await services.endpoints.get(caller.tenant, endpoint_id)))


@endpoints.patch(
    "/{endpoint_id}",
    operation_id="update_webhook_endpoint",
    summary="Change an endpoint",
    responses=openapi.error_responses(*openapi.BODY, "endpoint_not_found", "webhook_url_forbidden"),
    openapi_extra=_describe_body(EndpointPatch),
)
async def update_webhook_endpoint(
    request: Request, services: ServicesDep, caller: Submitter, endpoint_id: EndpointId
) -> EndpointBody:
    """Change the given fields. `{"status": "active"}` enables a disabled endpoint and sends its waiting events."""
    patch, content = await _read_model(request, EndpointPatch)
    with collect_errors() as errors:
        events = parse_events(patch.events, ("events",), errors) if "events" in content else None
        _check_description(patch.description or "", errors)
    changes = EndpointChanges(
        url=patch.url,
        description=patch.description,
        events=events,
        every=patch.all_jobs,
        active=None if patch.status is None else patch.status == "active",
    )
    endpoint = await services.endpoints.update(caller.tenant, endpoint_id, changes)
    await services.barrier.confirm_writes()
    return EndpointBody(**build_endpoint_fields(endpoint))


@endpoints.delete(
    "/{endpoint_id}",
    operation_id="delete_webhook_endpoint",
    summary="Delete an endpoint",
    status_code=204,
    response_model=None,
    responses={
        204: {"description": "Nothing more is sent to it."},
        **openapi.error_responses("endpoint_not_found", "validation_failed"),
    },
)
async def delete_webhook_endpoint(services: ServicesDep, caller: Submitter, endpoint_id: EndpointId) -> Response:
    """Delete the endpoint and its pending deliveries."""
    await services.endpoints.delete(caller.tenant, endpoint_id)
    await services.barrier.confirm_writes()
    return Response(status_code=204)


@endpoints.post(
    "/{endpoint_id}/rotate-secret",
    operation_id="rotate_webhook_secret",
    summary="Change the secret",
    responses=openapi.error_responses(*openapi.BODY, "endpoint_not_found"),
    openapi_extra=_describe_body(RotateIn, required=False),
)
async def rotate_webhook_secret(
    request: Request, services: ServicesDep, caller: Submitter, endpoint_id: EndpointId
) -> RotatedBody:
    """Set a new secret, which is shown once; payloads are signed with the old one too for 24 hours."""
    _, content = await _read_model(request, RotateIn, empty=True)
    with collect_errors() as errors:
        secret = parse_secret(content, (), errors)
    endpoint = await services.endpoints.rotate_secret(caller.tenant, endpoint_id, secret)
    await services.barrier.confirm_writes()
    current, *old_secrets = endpoint.details.secrets
    until = [secret.until for secret in old_secrets if secret.until is not None]
    return RotatedBody(
        endpoint_id=endpoint_id,
        secret=current.value,
        previous_signs_until=format_rfc3339(max(until)) if until else None,
    )


@endpoints.post(
    "/{endpoint_id}/test",
    operation_id="test_webhook_endpoint",
    summary="Send a test",
    responses=openapi.error_responses("endpoint_not_found", "validation_failed"),
)
async def test_webhook_endpoint(services: ServicesDep, caller: Submitter, endpoint_id: EndpointId) -> TestBody:
    """Send a signed `webhook.test` once and return the receiver's response; also to a disabled endpoint."""
    return build_test_body(await services.endpoints.send_test(caller.tenant, endpoint_id))


@endpoints.get(
    "/{endpoint_id}/deliveries",
    operation_id="list_webhook_deliveries",
    summary="List deliveries",
    responses=openapi.error_responses("bad_cursor", "endpoint_not_found", "validation_failed"),
)
async def list_webhook_deliveries(
    services: ServicesDep,
    caller: Lister,
    endpoint_id: EndpointId,
    query: Annotated[DeliveriesQuery, Query()],
) -> DeliveriesBody:
    """List past and pending deliveries of an endpoint, newest first, with every attempt; kept for seven days."""
    start = cursors.decode_delivery_cursor(query.cursor)
    await services.endpoints.get(caller.tenant, endpoint_id)
    page = await services.ledger.run(
        webhooks.list_deliveries(endpoint_id, start, query.limit, _STATES[query.status] if query.status else None)
    )
    return DeliveriesBody(
        data=[build_delivery_body(services.codec, delivery) for delivery in page.deliveries],
        next_cursor=None if page.next is None else cursors.encode_delivery_cursor(page.next),
    )


@endpoints.post(
    "/{endpoint_id}/recover",
    operation_id="recover_webhook_deliveries",
    summary="Retry failed deliveries",
    status_code=202,
    responses=openapi.error_responses(*openapi.BODY, "endpoint_not_found", "endpoint_disabled"),
    openapi_extra=_describe_body(RecoverIn),
)
async def recover_webhook_deliveries(
    request: Request, services: ServicesDep, caller: Recoverer, endpoint_id: EndpointId
) -> RecoveredBody:
    """Retry the deliveries that failed since a time, each with its whole schedule."""
    recover_in, _ = await _read_model(request, RecoverIn)
    since = _parse_since(recover_in.since)
    await services.endpoints.get(caller.tenant, endpoint_id)
    recovered, skip = 0, 0
    while True:
        queued, scanned = await services.ledger.run(webhooks.recover_deliveries(endpoint_id, since, skip))
        if queued < 0:
            raise _endpoint_disabled()
        recovered, skip = recovered + queued, skip + scanned
        if not scanned:
            break
    await services.barrier.confirm_writes()
    return RecoveredBody(recovered=recovered)


@single.get(
    "/{delivery_id}",
    operation_id="get_webhook_delivery",
    summary="Get a delivery",
    responses=openapi.error_responses("delivery_not_found", "validation_failed"),
)
async def get_webhook_delivery(services: ServicesDep, caller: Viewer, delivery_id: DeliveryId) -> DeliveryBody:
    """Return the delivery of one event to one endpoint, with every attempt."""
    return build_delivery_body(services.codec, await _get_owned_delivery(services, caller, delivery_id))


@single.post(
    "/{delivery_id}/redeliver",
    operation_id="redeliver_webhook",
    summary="Send an event again",
    status_code=202,
    responses=openapi.error_responses("delivery_not_found", "endpoint_disabled", "validation_failed"),
)
async def redeliver_webhook(services: ServicesDep, caller: Submitter, delivery_id: DeliveryId) -> DeliveryBody:
    """Send an event again, whatever its outcome, with the same `webhook-id`."""
    await _get_owned_delivery(services, caller, delivery_id)
    match await services.ledger.run(webhooks.redeliver(delivery_id)):
        case RedeliverOutcome.DISABLED:
            raise _endpoint_disabled()
        case RedeliverOutcome.ABSENT:
            raise _delivery_not_found()
    await services.barrier.confirm_writes()
    return build_delivery_body(services.codec, await _get_owned_delivery(services, caller, delivery_id))


async def _get_owned_delivery(services: Services, caller: Caller, delivery_id: str) -> Delivery:
    delivery = await services.ledger.run(webhooks.read_delivery(delivery_id))
    if delivery is None or delivery.tenant != caller.tenant:
        raise _delivery_not_found()
    return delivery


async def _read_model(request: Request, model: type[M], *, empty: bool = False) -> tuple[M, dict[str, Any]]:
    """Return the request's JSON object as a model and as sent; with `empty`, a missing body is an empty object.

    Raises:
        GatewayError: the body does not fit the model.
    """
    if empty and request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return model(), {}
    content = load_object(await read_body(to_incoming(request), _MAX_BODY))
    try:
        return model.model_validate(content, strict=True), content
    except ValidationError as error:
        raise make_validation_error(error, content) from None


def _check_description(text: str, errors: ValidationErrors) -> None:
    if len(text) > MAX_DESCRIPTION or not text.isprintable():
        errors.add(("description",), f"must be at most {MAX_DESCRIPTION} printable characters")


def _parse_since(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return max(0, to_epoch_ms(moment))
    except (ValueError, OverflowError):
        pass
    error = "must be an RFC 3339 time with an offset, such as 2026-03-01T09:30:00Z"
    raise GatewayError("validation_failed", f"/since {error}", [("/since", error)])


def _endpoint_disabled() -> GatewayError:
    return GatewayError("endpoint_disabled", "the endpoint is disabled; PATCH its status to active first")


def _delivery_not_found() -> GatewayError:
    return GatewayError("delivery_not_found", "your tenant has no webhook delivery with this id")
