"""/v1/queue: the backlog of every model, over all tenants."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from gateway.access import Caller
from gateway.http import openapi
from gateway.routes.dependencies import LIST_COST, Require, ServicesDep
from gateway.schemas import Body
from jobs import ledger
from jobs.api_keys import Role
from jobs.ledger import ModelStats
from jobs.schema import Priority

router = APIRouter(prefix="/v1/queue", tags=["operations"])


class QueueBody(Body):
    """A queue of a model."""

    priority: Priority
    open_jobs: int
    queued_jobs: int = Field(description="Open jobs that have not begun.")
    published_shards: int = Field(description="Shards that wait for a worker.")


class BacklogBody(Body):
    """The backlog of one model."""

    model: str
    workers: int = Field(description="Live workers.")
    slots: int = Field(description="Shards that one worker processes at once.")
    reason: str | None = Field(description="Reason why its workers cannot start, or null.")
    open_jobs: int
    open_shards: int
    open_characters: int
    characters_per_s: float | None = Field(
        description="Measured speed of all its workers; null before the first measurement."
    )
    eta_s: float | None = Field(description="Estimated seconds until all of it is done; null if unknown.")
    oldest_open_s: float | None = Field(description="Age of the oldest open job; null if none is open.")
    queues: list[QueueBody]


class TenantBody(Body):
    """The bytes that a tenant stores."""

    tenant: str
    stored_bytes: int


class QueuePage(Body):
    """The backlog, the default model first."""

    data: list[BacklogBody]
    tenants: list[TenantBody] = Field(description="The 20 tenants that store most bytes, the largest first.")
    next_cursor: None = None


@router.get(
    "",
    operation_id="get_queue",
    summary="The backlog",
    responses={200: {"description": "One entry per model."}, **openapi.error_responses()},
)
async def get_queue(
    services: ServicesDep, _caller: Annotated[Caller, Depends(Require(Role.ADMIN, cost=LIST_COST))]
) -> QueuePage:
    """Return the backlog of every model over all tenants, with its speed and ETA."""
    stats = await services.ledger.run(ledger.read_stats(services.settings.models.served))
    return QueuePage(
        data=[_build_body(model) for model in stats.models],
        tenants=[TenantBody(tenant=tenant, stored_bytes=size) for tenant, size in stats.stored],
    )


def _build_body(model: ModelStats) -> BacklogBody:
    rate = model.drain_rate
    eta_s = 0.0 if not model.open_characters else model.open_characters / rate if rate else None
    return BacklogBody(
        model=model.name,
        workers=model.workers,
        slots=model.slots,
        reason=model.reason,
        open_jobs=model.open_jobs,
        open_shards=model.open_shards,
        open_characters=model.open_characters,
        characters_per_s=rate or None,
        eta_s=None if eta_s is None else round(eta_s, 1),
        oldest_open_s=model.oldest_s,
        queues=[QueueBody.model_validate(queue) for queue in model.queues],
    )
