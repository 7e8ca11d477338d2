"""/v1/webhook-endpoints and /v1/deliveries: who is told when a job ends, and what became of the telling."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from gateway.access.auth import LIST_COST, Caller, require
from gateway.access.rate_limits import max_stored_bytes
from gateway.http import openapi
from gateway.http.problems import Problem
from gateway.http.schemas import json_schema
from gateway.http.services import Services, ServicesDep
from gateway.reading import cursors
from gateway.reading.views import format_rfc3339
from gateway.submission.headers import read_body
from gateway.submission.json_text import load_object
from gateway.submission.validation import ValidationErrors, collect_errors, validation_problem
from gateway.webhooks.endpoints import Changes
from gateway.webhooks.request import MAX_DESCRIPTION, parse_events, parse_secret
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
    delivery_body,
    endpoint_fields,
    test_body,
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

Viewer = Annotated[Caller, Depends(require(Role.VIEWER))]
Lister = Annotated[Caller, Depends(require(Role.VIEWER, cost=LIST_COST))]
Submitter = Annotated[Caller, Depends(require(Role.SUBMITTER))]
Recoverer = Annotated[Caller, Depends(require(Role.SUBMITTER, cost=LIST_COST))]
EndpointId = Annotated[str, Path(max_length=64, description="An endpoint's id.", examples=["ep_0af7651916cd43dd"])]
DeliveryId = Annotated[str, Path(max_length=64, description="A delivery's id.", examples=["dlv_2fd4e1c67a2d28fc"])]

_BODY = openapi.BODY


def _takes(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The request body of a route that reads it by hand, for OpenAPI."""
    schema = json_schema([model])[model.__name__]
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


@endpoints.post(
    "",
    operation_id="create_webhook_endpoint",
    summary="Register an endpoint",
    status_code=201,
    responses=openapi.answers(*_BODY, "webhook_url_forbidden", "quota_exceeded"),
    openapi_extra=_takes(EndpointIn),
)
async def create(request: Request, services: ServicesDep, caller: Submitter) -> EndpointWithSecret:
    """Hear of jobs that end. The secret is shown here and never again."""
    asked, content = await _read(request, EndpointIn)
    with collect_errors() as errors:
        events = parse_events(asked.events, ("events",), errors)
        secret = parse_secret(content, (), errors)
        _check_description(asked.description, errors)
    known = await services.endpoints.create(
        caller.tenant,
        asked.url,
        asked.description,
        events,
        secret,
        every=asked.all_jobs,
        max_stored_bytes=max_stored_bytes(services.settings, caller),
    )
    await services.barrier.confirm_writes()
    return EndpointWithSecret(**endpoint_fields(known), secret=known.card.secrets[0].value)


@endpoints.get("", operation_id="list_webhook_endpoints", summary="List the endpoints", responses=openapi.answers())
async def registered(services: ServicesDep, caller: Lister) -> EndpointsPage:
    """Your tenant's registered endpoints, oldest first; those of single jobs are not among them."""
    found = await services.endpoints.registered(caller.tenant)
    return EndpointsPage(data=[EndpointBody(**endpoint_fields(known)) for known in found])


@endpoints.get(
    "/{endpoint_id}",
    operation_id="get_webhook_endpoint",
    summary="Look at an endpoint",
    responses=openapi.answers("endpoint_not_found", "validation_failed"),
)
async def get(services: ServicesDep, caller: Viewer, endpoint_id: EndpointId) -> EndpointBody:
    """An endpoint and how it fares; also one that a job brought along."""
    return EndpointBody(**endpoint_fields(await services.endpoints.get(caller.tenant, endpoint_id)))


@endpoints.patch(
    "/{endpoint_id}",
    operation_id="update_webhook_endpoint",
    summary="Change an endpoint",
    responses=openapi.answers(*_BODY, "endpoint_not_found", "webhook_url_forbidden"),
    openapi_extra=_takes(EndpointPatch),
)
async def update(
    request: Request, services: ServicesDep, caller: Submitter, endpoint_id: EndpointId
) -> EndpointBody:
    """Change what is given. `{"status": "active"}` brings a disabled one back, and what waited for it is sent."""
    asked, content = await _read(request, EndpointPatch)
    with collect_errors() as errors:
        events = parse_events(asked.events, ("events",), errors) if "events" in content else None
        _check_description(asked.description or "", errors)
    changes = Changes(
        url=asked.url,
        description=asked.description,
        events=events,
        every=asked.all_jobs,
        active=None if asked.status is None else asked.status == "active",
    )
    known = await services.endpoints.change(caller.tenant, endpoint_id, changes)
    await services.barrier.confirm_writes()
    return EndpointBody(**endpoint_fields(known))


@endpoints.delete(
    "/{endpoint_id}",
    operation_id="delete_webhook_endpoint",
    summary="Remove an endpoint",
    status_code=204,
    response_model=None,
    responses={
        204: {"description": "Nothing is sent to it any more."},
        **openapi.answers("endpoint_not_found", "validation_failed"),
    },
)
async def delete(services: ServicesDep, caller: Submitter, endpoint_id: EndpointId) -> Response:
    """Forget the endpoint and what was still to be delivered to it."""
    await services.endpoints.delete(caller.tenant, endpoint_id)
    await services.barrier.confirm_writes()
    return Response(status_code=204)


@endpoints.post(
    "/{endpoint_id}/rotate-secret",
    operation_id="rotate_webhook_secret",
    summary="Change the secret",
    responses=openapi.answers(*_BODY, "endpoint_not_found"),
    openapi_extra=_takes(RotateIn, required=False),
)
async def rotate(
    request: Request, services: ServicesDep, caller: Submitter, endpoint_id: EndpointId
) -> RotatedBody:
    """A new secret, shown once; the old one signs along for 24 hours, so that the receiver can change in peace."""
    _, content = await _read(request, RotateIn, empty=True)
    with collect_errors() as errors:
        secret = parse_secret(content, (), errors)
    known = await services.endpoints.rotate(caller.tenant, endpoint_id, secret)
    await services.barrier.confirm_writes()
    current, *old = known.card.secrets
    until = [each.until for each in old if each.until is not None]
    return RotatedBody(
        endpoint_id=endpoint_id,
        secret=current.value,
        previous_signs_until=format_rfc3339(max(until)) if until else None,
    )


@endpoints.post(
    "/{endpoint_id}/test",
    operation_id="test_webhook_endpoint",
    summary="Send a test",
    responses=openapi.answers("endpoint_not_found", "validation_failed"),
)
async def test(services: ServicesDep, caller: Submitter, endpoint_id: EndpointId) -> TestBody:
    """Send a signed `webhook.test` now, once, and tell what the receiver said; also to a disabled endpoint."""
    return test_body(await services.endpoints.test(caller.tenant, endpoint_id))


@endpoints.get(
    "/{endpoint_id}/deliveries",
    operation_id="list_webhook_deliveries",
    summary="List deliveries",
    responses=openapi.answers("bad_cursor", "endpoint_not_found", "validation_failed"),
)
async def listed(
    services: ServicesDep,
    caller: Lister,
    endpoint_id: EndpointId,
    status: Annotated[Literal["pending", "delivered", "failed"] | None, Query(description="Only these.")] = None,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Most deliveries of the page.")] = 50,
) -> DeliveriesBody:
    """What was and is to be sent to an endpoint, newest first, with every attempt; kept for seven days."""
    start = cursors.decode_delivery_cursor(cursor)
    await services.endpoints.get(caller.tenant, endpoint_id)
    page = await services.ledger.run(
        webhooks.list_deliveries(endpoint_id, start, limit, None if status is None else _STATES[status])
    )
    return DeliveriesBody(
        data=[delivery_body(services.codec, delivery) for delivery in page.deliveries],
        next_cursor=None if page.next is None else cursors.encode_delivery_cursor(page.next),
    )


@endpoints.post(
    "/{endpoint_id}/recover",
    operation_id="recover_webhook_deliveries",
    summary="Send again what failed",
    status_code=202,
    responses=openapi.answers(*_BODY, "endpoint_not_found", "endpoint_disabled"),
    openapi_extra=_takes(RecoverIn),
)
async def recover(
    request: Request, services: ServicesDep, caller: Recoverer, endpoint_id: EndpointId
) -> RecoveredBody:
    """Try again whatever failed since a time, each with its whole schedule before it."""
    asked, _ = await _read(request, RecoverIn)
    since = _since(asked.since)
    await services.endpoints.get(caller.tenant, endpoint_id)
    recovered, skip = 0, 0
    while True:
        queued, looked = await services.ledger.run(webhooks.recover_deliveries(endpoint_id, since, skip))
        if queued < 0:
            raise _disabled()
        recovered, skip = recovered + queued, skip + looked
        if not looked:
            break
    await services.barrier.confirm_writes()
    return RecoveredBody(recovered=recovered)


@single.get(
    "/{delivery_id}",
    operation_id="get_webhook_delivery",
    summary="Look at a delivery",
    responses=openapi.answers("delivery_not_found", "validation_failed"),
)
async def delivery(services: ServicesDep, caller: Viewer, delivery_id: DeliveryId) -> DeliveryBody:
    """One event for one endpoint, with every attempt."""
    return delivery_body(services.codec, await _owned(services, caller, delivery_id))


@single.post(
    "/{delivery_id}/redeliver",
    operation_id="redeliver_webhook",
    summary="Send again",
    status_code=202,
    responses=openapi.answers("delivery_not_found", "endpoint_disabled", "validation_failed"),
)
async def redeliver(services: ServicesDep, caller: Submitter, delivery_id: DeliveryId) -> DeliveryBody:
    """Send an event again, whatever became of it, under the same `webhook-id`."""
    await _owned(services, caller, delivery_id)
    match await services.ledger.run(webhooks.redeliver(delivery_id)):
        case RedeliverOutcome.DISABLED:
            raise _disabled()
        case RedeliverOutcome.ABSENT:
            raise _no_delivery()
    await services.barrier.confirm_writes()
    return delivery_body(services.codec, await _owned(services, caller, delivery_id))


async def _owned(services: Services, caller: Caller, delivery_id: str) -> Delivery:
    found = await services.ledger.run(webhooks.read_delivery(delivery_id))
    if found is None or found.tenant != caller.tenant:
        raise _no_delivery()
    return found


async def _read(request: Request, model: type[M], *, empty: bool = False) -> tuple[M, dict[str, Any]]:
    """The request's JSON object as a model and as it was; with `empty`, no body is an empty one.

    Raises:
        Problem: it is not one.
    """
    if empty and request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return model(), {}
    content = load_object(await read_body(request, _MAX_BODY))
    try:
        return model.model_validate(content, strict=True), content
    except ValidationError as error:
        raise validation_problem(error, content) from None


def _check_description(text: str, errors: ValidationErrors) -> None:
    if len(text) > MAX_DESCRIPTION or not text.isprintable():
        errors.add(("description",), f"must be at most {MAX_DESCRIPTION} printable characters")


def _since(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return max(0, int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        pass
    told = "must be an RFC 3339 time with its offset, as 2026-03-01T09:30:00Z"
    raise Problem("validation_failed", f"/since {told}", [("/since", told)])


def _disabled() -> Problem:
    return Problem("endpoint_disabled", "the endpoint is disabled; PATCH it to active first")


def _no_delivery() -> Problem:
    return Problem("delivery_not_found", "your tenant has no webhook delivery of this id")
