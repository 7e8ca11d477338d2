"""/problems/{code}: the target of an error's `type`, as JSON, or as an HTML page for browsers."""

from __future__ import annotations

import html
import json
from dataclasses import asdict
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.responses import HTMLResponse, Response

from gateway.errors import ErrorCode, GatewayError
from gateway.http import openapi
from gateway.http.problems import REGISTRY, build_example
from gateway.schemas import Body

router = APIRouter(prefix="/problems", tags=["health"])

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} · Gleaner</title></head>
<body><h1>{title}</h1><p><code>{code}</code>, HTTP {status}</p><p>{meaning}</p><p>{remedy}</p>
<pre>{example}</pre></body>
</html>
"""


class ProblemKind(Body):
    """An error code of this API."""

    code: str
    status: int
    title: str
    meaning: str
    remedy: str
    example: dict[str, Any] = Field(description="A response with this code.")


@router.get(
    "/{code}",
    operation_id="get_problem",
    summary="Explain an error code",
    response_model=ProblemKind,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}},
        404: openapi.error_responses("not_found")[404],
    },
)
async def get_problem(request: Request, code: Annotated[str, Path(description="An error's `code`.")]) -> Response:
    """Return the meaning, remedy and an example of an error code; no key required."""
    if code not in REGISTRY:
        raise GatewayError("not_found", "there is no error code with this name")
    known_code = cast("ErrorCode", code)
    body = ProblemKind(code=code, **asdict(REGISTRY[known_code]), example=build_example(known_code))
    if "text/html" in request.headers.get("accept", ""):
        fields = body.model_dump() | {"example": json.dumps(body.example, indent=2)}
        return HTMLResponse(_PAGE.format(**{name: html.escape(str(value)) for name, value in fields.items()}))
    return Response(body.model_dump_json(), media_type="application/json")
