"""/livez and /readyz: probes, without a key."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from gateway.http import openapi
from gateway.routes.dependencies import ServicesDep
from gateway.schemas import Body

router = APIRouter(tags=["health"])


class Probe(Body):
    """Response of a successful probe."""

    status: Literal["ok"] = "ok"


@router.get("/livez", operation_id="livez", summary="Is the process alive?")
async def livez() -> Probe:
    """Respond as long as the event loop turns."""
    return Probe()


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Can it take requests?",
    responses={503: openapi.error_responses()[503]},
)
async def readyz(services: ServicesDep) -> Probe:
    """Check at most once a second that Redis can be written; a read-only server cannot accept jobs."""
    await services.readiness.check()
    return Probe()
