"""/v1/jobs/{id}/results and /documents: what came of a job's documents."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from gateway import cursors, openapi
from gateway.auth import LIST_COST, Caller, require
from gateway.lookup import owned_document
from gateway.ndjson import MEDIA_TYPE as NDJSON
from gateway.problems import Problem
from gateway.results import CSV_HEAD, Piece, Stream, as_csv, as_json, as_line, read_page
from gateway.routes.jobs import JobId, Viewer
from gateway.schemas import ResultBody, ResultsPage
from gateway.services import ServicesDep
from gateway.streams import HeldResponse
from jobs.codec import Codec
from jobs.keys import Role
from jobs.ledger import FoundDocument
from jobs.results import stored_document
from jobs.schema import DocumentResult, DocumentStatus

JSON = "application/json"
CSV = "text/csv"
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


def _page_cost(request: Request) -> int:
    """Return what a page of results costs: the more results it may read, the more; most where it looks for few."""
    query = request.query_params
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if "status" in query or not limit.isascii() or not limit.isdigit() or len(limit) > len(str(MAX_LIMIT)):
        return LIST_COST
    return min(LIST_COST, 1 + int(limit) // (MAX_LIMIT // 4))


@router.get(
    "/{job_id}/results",
    operation_id="get_results",
    summary="Read a job's results",
    response_model=None,
    responses={
        200: {
            "description": "Finished documents in input order: a page, or where `Accept` asks for "
            "`application/x-ndjson` or `text/csv` all of them; then the header `Gleaner-Complete` says whether the "
            "job had ended.",
            "model": ResultsPage,
            "content": {
                NDJSON: {"schema": {"type": "string", "description": "One result object a line."}},
                CSV: {"schema": {"type": "string", "description": "A row for each entity, as RFC 4180."}},
            },
        },
        **openapi.answers("bad_cursor", *openapi.JOB, "validation_failed"),
    },
)
async def get_results(
    request: Request,
    services: ServicesDep,
    caller: Annotated[Caller, Depends(require(Role.viewer, cost=_page_cost))],
    job_id: JobId,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[
        int | None,
        Query(ge=1, le=MAX_LIMIT, description="Most results; 100 a page, all of a stream by default."),
    ] = None,
    status: Annotated[list[DocumentStatus] | None, Query(description="Only results of this status.")] = None,
) -> Response:
    """Finished documents, in input order without gaps; also while the job runs."""
    start, statuses = cursors.decode(cursor), frozenset(status or ())
    kind = accepted(request.headers.get("accept", ""), JSON, NDJSON, CSV)
    if kind != JSON:
        most = limit or services.settings.max_ndjson_documents
        stream = Stream(services, caller, job_id, most, statuses, as_csv if kind == CSV else as_line)
        with ExitStack() as held:
            held.enter_context(services.streams.hold(caller))
            first = await stream.begin(start)
            return HeldResponse(
                _behind(CSV_HEAD, stream, first) if kind == CSV else stream.run(first),
                held.pop_all(),
                media_type=f"{CSV}; charset=utf-8; header=present" if kind == CSV else NDJSON,
                headers={"Gleaner-Complete": "true" if first.complete else "false"},
            )
    page = await read_page(services, caller, job_id, start, limit or DEFAULT_LIMIT, statuses)
    next_cursor = "null" if page.next is None else f'"{cursors.encode(page.next)}"'
    complete = "true" if page.complete else "false"
    body = b'{"data":[%b],"next_cursor":%b,"complete":%b}' % (
        b",".join(page.rows),
        next_cursor.encode(),
        complete.encode(),
    )
    return Response(body, media_type=JSON)


@router.get(
    "/{job_id}/documents/{doc_id:path}",
    operation_id="get_document",
    summary="Read one document's result",
    response_model=None,
    responses={
        200: {"model": ResultBody, "description": "What came of it, or `queued` or `running`."},
        **openapi.answers(*openapi.JOB, "document_not_found"),
    },
)
async def get_document(
    services: ServicesDep,
    caller: Viewer,
    job_id: JobId,
    doc_id: Annotated[str, Path(description="The document's id; its index where it has none.", examples=["0"])],
) -> Response:
    """The outcome of one document, by the id that it was submitted with."""
    found = await owned_document(services, caller, job_id, doc_id)
    result = _one(found, doc_id, services.codec)
    if result is None:
        raise Problem("document_not_found", "the job has no document of this id")
    return Response(as_json(result), media_type=JSON)


def accepted(accept: str, *offered: str) -> str:
    """Which of the offered media types an Accept header likes best; the first where it names none of them."""
    best, quality = offered[0], 0.0
    for part in accept.lower().split(","):
        kind, _, parameters = part.partition(";")
        match = re.search(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)", parameters)
        wish = float(match[1]) if match else 1.0
        if kind.strip() in offered and wish > quality:
            best, quality = kind.strip(), wish
    return best


async def _behind(head: bytes, stream: Stream, first: Piece) -> AsyncIterator[bytes]:
    yield head
    async for piece in stream.run(first):
        yield piece


def _one(found: FoundDocument, doc_id: str, codec: Codec) -> DocumentResult | None:
    if found.shard is None:
        return None
    result = stored_document(found.job.id, found.shard, found.index, codec)
    return result if result is not None and result.id == doc_id else None
