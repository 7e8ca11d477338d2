"""/v1/label-sets: labels that are stored once, in versions, and named by jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from gateway.access import Caller
from gateway.access.rate_limits import max_stored_bytes
from gateway.http import openapi
from gateway.http.requests import to_incoming
from gateway.label_sets import NAME_PATTERN, LabelSet, Reference
from gateway.reading.views import format_rfc3339
from gateway.routes.dependencies import LIST_COST, Lister, Require, ServicesDep, Submitter
from gateway.schemas.label_sets import LabelSetBody, LabelSetIn, LabelSetsPage, LabelSetWithLabels
from gateway.submission.body import body_limits, read_body
from gateway.submission.parsing.json_text import MAX_HEAD_BYTES
from gateway.submission.parsing.label_set import parse_label_set
from jobs.api_keys import Role
from jobs.lines import escape_line_breaks

router = APIRouter(prefix="/v1/label-sets", tags=["label sets"])

Writer = Annotated[Caller, Depends(Require(Role.SUBMITTER, cost=LIST_COST))]
Name = Annotated[
    str,
    Path(
        pattern=f"^{NAME_PATTERN}$",
        description="1 to 64 letters, digits, dots, hyphens and underscores; the first is a letter or digit.",
        examples=["drugs"],
    ),
]


@router.put(
    "/{name}",
    operation_id="put_label_set",
    summary="Store a label set",
    response_model=LabelSetBody,
    responses={
        200: {"description": "The latest version has these labels already."},
        201: {"model": LabelSetBody, "description": "The labels are a new version."},
        **openapi.error_responses(*openapi.BODY, "quota_exceeded", "overloaded"),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": LabelSetIn.model_json_schema()}},
        },
        "parameters": [openapi.CONTENT_ENCODING],
    },
)
async def put_label_set(request: Request, services: ServicesDep, caller: Writer, name: Name) -> Response:
    """Store labels under a name. Labels that differ from the latest version's, also in order, make a new version.

    The latest ten versions stay readable. Jobs have a copy of their labels, whatever happens to the label set.
    """
    limits = body_limits(services.settings, MAX_HEAD_BYTES)
    async with services.submissions.body_memory.reserve_for(caller.tenant) as reservation:
        body = await read_body(to_incoming(request), limits, reservation)
        await services.authenticator.recheck_caller(caller)
        labels = await asyncio.to_thread(parse_label_set, body, services.settings)
        stored = await services.label_sets.put(
            caller.tenant, name, labels, max_stored_bytes(services.settings, caller)
        )
    await services.barrier.confirm_writes()
    summary = _build_summary(name, stored.versions.latest, stored.versions.stored, stored.created)
    content = orjson.dumps({**summary, "size": len(labels)})
    return Response(content, 201 if stored.is_new else 200, media_type="application/json")


@router.get("", operation_id="list_label_sets", summary="List the label sets", responses=openapi.error_responses())
async def list_label_sets(services: ServicesDep, caller: Lister) -> LabelSetsPage:
    """List your tenant's label sets by name, without their labels."""
    listed = await services.label_sets.list_all(caller.tenant)
    data = [
        LabelSetBody(
            **_build_summary(item.name, item.versions.latest, item.versions.stored, item.created), size=item.labels
        )
        for item in listed
    ]
    return LabelSetsPage(data=data)


@router.get(
    "/{name}",
    operation_id="get_label_set",
    summary="Get a label set",
    response_model=LabelSetWithLabels,
    responses=openapi.error_responses("label_set_not_found", "validation_failed", "overloaded"),
)
async def get_label_set(
    services: ServicesDep,
    caller: Lister,
    name: Name,
    version: Annotated[
        int | None, Query(ge=1, le=999_999_999, description="A stored version; by default the latest.")
    ] = None,
) -> Response:
    """Return the labels of a version."""
    async with services.submissions.body_memory.reserve_for(caller.tenant) as reservation:
        label_set = await services.label_sets.get(caller.tenant, Reference(name, version), reservation.resize)
        return Response(await asyncio.to_thread(_encode_label_set, label_set), media_type="application/json")


@router.delete(
    "/{name}",
    operation_id="delete_label_set",
    summary="Delete a label set",
    status_code=204,
    response_model=None,
    responses={
        204: {"description": "No version can be read any more."},
        **openapi.error_responses("label_set_not_found", "validation_failed"),
    },
)
async def delete_label_set(services: ServicesDep, caller: Submitter, name: Name) -> Response:
    """Delete a label set with all of its versions. Jobs that were submitted with it keep their labels."""
    await services.label_sets.delete(caller.tenant, name)
    await services.barrier.confirm_writes()
    return Response(status_code=204)


def _encode_label_set(label_set: LabelSet) -> bytes:
    summary = _build_summary(label_set.name, label_set.version, label_set.stored, label_set.created)
    labels = orjson.Fragment(label_set.labels_json)
    return escape_line_breaks(orjson.dumps({**summary, "size": len(label_set.labels), "labels": labels}))


def _build_summary(name: str, version: int, stored: range, created: int) -> dict[str, Any]:
    return {
        "name": name,
        "object": "label_set",
        "version": version,
        "versions": list(stored),
        "created_at": format_rfc3339(created),
    }
