"""/problems/{code}: what an error's `type` leads to, as JSON, or as a page where a browser asks."""

from __future__ import annotations

import html
import json
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import HTMLResponse, Response

from gateway.http import openapi
from gateway.http.problems import REGISTRY, Problem
from gateway.http.schemas.problems import ProblemKind

router = APIRouter(prefix="/problems", tags=["health"])

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} · Gleaner</title></head>
<body><h1>{title}</h1><p><code>{code}</code>, HTTP {status}</p><p>{meaning}</p><p>{remedy}</p>
<pre>{example}</pre></body>
</html>
"""


@router.get(
    "/{code}",
    operation_id="get_problem",
    summary="What an error code means",
    response_model=ProblemKind,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}},
        404: openapi.error_responses("not_found")[404],
    },
)
async def get_problem(request: Request, code: Annotated[str, Path(description="An error's `code`.")]) -> Response:
    """Meaning, remedy and an example of an error code; no key needed."""
    kind = REGISTRY.get(code)
    if kind is None:
        raise Problem("not_found", "there is no error code with this name")
    body = ProblemKind(
        code=kind.code,
        status=kind.status,
        title=kind.title,
        meaning=kind.meaning,
        remedy=kind.remedy,
        example=Problem(kind.code, kind.meaning).to_dict("0af7651916cd43dd8448eb211c80319c"),
    )
    if "text/html" in request.headers.get("accept", ""):
        shown = body.model_dump() | {"example": json.dumps(body.example, indent=2)}
        return HTMLResponse(_PAGE.format(**{name: html.escape(str(value)) for name, value in shown.items()}))
    return Response(body.model_dump_json(), media_type="application/json")
