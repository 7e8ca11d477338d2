"""/livez and /readyz: probes, without a key."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from gateway.http import openapi
from gateway.http.readiness import State
from gateway.routes.dependencies import ServicesDep
from gateway.schemas import Body

router = APIRouter(tags=["health"])


class Probe(Body):
    """Response of a living process."""

    status: Literal["ok"] = "ok"


class ReadinessProbe(Body):
    """Response of a gateway that takes requests; `degraded`: Redis fails, so most of them are answered 503."""

    status: State = State.OK


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
async def readyz(services: ServicesDep) -> ReadinessProbe:
    """Check at most once a second that Redis can be written.

    An outage of Redis is `degraded`, not 503: it is the same for all gateways. 503 before the first write, and when
    this gateway alone cannot reach Redis.
    """
    return ReadinessProbe(status=await services.readiness.check())
