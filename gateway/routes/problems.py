"""/problems/{code}: what an error's `type` leads to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from gateway import openapi
from gateway.problems import REGISTRY, Problem
from gateway.schemas import ProblemKind

router = APIRouter(prefix="/problems", tags=["health"])


@router.get(
    "/{code}",
    operation_id="get_problem",
    summary="What an error code means",
    responses={404: openapi.answers("not_found")[404]},
)
async def get_problem(code: Annotated[str, Path(description="An error's `code`.")]) -> ProblemKind:
    """Meaning and remedy of an error code; no key needed."""
    kind = REGISTRY.get(code)
    if kind is None:
        raise Problem("not_found", "there is no error code of this name")
    return ProblemKind(
        code=kind.code, status=kind.status, title=kind.title, meaning=kind.meaning, remedy=kind.remedy
    )
