"""/v1/jobs/{id}/results and /documents: the results of a job's documents."""

from __future__ import annotations

import re
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from gateway.access import Caller
from gateway.errors import GatewayError
from gateway.http import openapi
from gateway.http.responses import ReleasingResponse, results_response, stream_results
from gateway.reading import cursors
from gateway.reading.encoding import ReadOptions
from gateway.reading.results import ResultsReader
from gateway.reading.rows import CSV_TABLES, encode_json, encode_ndjson_line
from gateway.routes.dependencies import LIST_COST, Require, ServicesDep, Viewer
from gateway.routes.jobs import JobId
from gateway.schemas.results import ResultBody, ResultsPage
from gateway.submission.parsing.ndjson import MEDIA_TYPE as NDJSON
from jobs.api_keys import Role
from jobs.cells import BOM
from jobs.schema import DocumentStatus
from jobs.tasks import Task

JSON = "application/json"
CSV = "text/csv"
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


class CsvCells(StrEnum):
    """Escaping of texts in CSV."""

    safe = "safe"
    raw = "raw"


class ResultsQuery(BaseModel):
    """Query of `get_results`."""

    cursor: str | None = Field(None, description="The previous page's `next_cursor`.")
    limit: int | None = Field(
        None, ge=1, le=MAX_LIMIT, description="Most results; by default 100 per page, or all in a stream."
    )
    status: list[DocumentStatus] | None = Field(None, description="Only results with this status.")
    csv: CsvCells = Field(
        CsvCells.safe,
        description="CSV only: `safe` puts `'` before a text that a spreadsheet would run as a formula (it "
        "begins with `=`, `+`, `-`, `@`, a tab or a line break), `raw` leaves texts unchanged.",
    )
    table: Task = Field(
        Task.ENTITIES, description="CSV only: a row is an entity, a relation, or a class of a classification."
    )
    bom: bool = Field(False, description="CSV only: begin with a byte order mark, which Excel needs.")


router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


def _page_cost(request: Request) -> int:
    """Return the rate limit cost of a page: it grows with `limit`, and is highest with a filter by status."""
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
            "description": "Finished documents in input order: a page of at most `limit` results and about 8 MiB. "
            "With `Accept: application/x-ndjson` or `text/csv` all of them; the header `Gleaner-Complete` then "
            "says whether the job had ended.",
            "model": ResultsPage,
            "content": {
                NDJSON: {"schema": {"type": "string", "description": "One result object per line."}},
                CSV: {
                    "schema": {
                        "type": "string",
                        "description": "One row per entity (RFC 4180).",
                    }
                },
            },
        },
        **openapi.error_responses("bad_cursor", *openapi.JOB, "validation_failed"),
    },
)
async def get_results(
    request: Request,
    services: ServicesDep,
    caller: Annotated[Caller, Depends(Require(Role.VIEWER, cost=_page_cost))],
    job_id: JobId,
    query: Annotated[ResultsQuery, Query()],
) -> Response:
    """Return finished documents in input order without gaps, also while the job runs."""
    start, statuses = cursors.decode_result_cursor(query.cursor), frozenset(query.status or ())
    kind = choose_media_type(request.headers.get("accept", ""), JSON, NDJSON, CSV)
    if kind == JSON:
        page = ReadOptions(encode_json, start, query.limit or DEFAULT_LIMIT, statuses, separator=b",", paged=True)
        reader = ResultsReader(services.results, caller, job_id, page)
        return await results_response(
            reader, b'{"data":[', _encode_page_end, slot=services.streams.hold_slot(caller)
        )
    table = CSV_TABLES[query.table]
    encode = partial(table.encode, safe=query.csv is CsvCells.safe) if kind == CSV else encode_ndjson_line
    stream = ReadOptions(encode, start, query.limit or services.settings.max_ndjson_documents, statuses)
    reader = ResultsReader(services.results, caller, job_id, stream)
    head = (BOM if query.bom else b"") + table.header if kind == CSV else b""
    with ExitStack() as stack:
        stack.enter_context(services.streams.hold_slot(caller))
        first = await reader.read_first()
        return ReleasingResponse(
            stream_results(reader, first, head),
            stack.pop_all(),
            media_type=f"{CSV}; charset=utf-8; header=present" if kind == CSV else NDJSON,
            headers={"Gleaner-Complete": "true" if reader.complete else "false"},
        )


@router.get(
    "/{job_id}/documents/{doc_id:path}",
    operation_id="get_document",
    summary="Read one document's result",
    response_model=None,
    responses={
        200: {"model": ResultBody, "description": "The result; its status may be `queued` or `running`."},
        **openapi.error_responses(*openapi.JOB, "document_not_found"),
    },
)
async def get_document(
    services: ServicesDep,
    caller: Viewer,
    job_id: JobId,
    doc_id: Annotated[str, Path(description="The document's id, or its index if it has none.", examples=["0"])],
) -> Response:
    """Return the result of one document by its submitted id."""
    document = await services.results.read_document(caller, job_id, doc_id)
    if document is None:
        raise GatewayError("document_not_found", "the job has no document with this id")
    if isinstance(document, bytes):
        return Response(document, media_type=JSON)
    return await results_response(document, slot=services.streams.hold_slot(caller))


def _encode_page_end(reader: ResultsReader) -> bytes:
    cursor = reader.next_cursor
    next_cursor = "null" if cursor is None else f'"{cursors.encode_result_cursor(cursor)}"'
    complete = "true" if reader.complete else "false"
    return f'],"next_cursor":{next_cursor},"complete":{complete}}}'.encode()


def choose_media_type(accept: str, *offered: str) -> str:
    """Return the offered media type that an Accept header prefers; the first if it names none of them."""
    best, quality = offered[0], 0.0
    for part in accept.lower().split(","):
        kind, _, parameters = part.partition(";")
        match = re.search(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)", parameters)
        weight = float(match[1]) if match else 1.0
        if kind.strip() in offered and weight > quality:
            best, quality = kind.strip(), weight
    return best
