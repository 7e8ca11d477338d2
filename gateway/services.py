"""The services of the routes, created once by `gateway.app` and passed to each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from gateway.access.anonymous import AnonymousRate
from gateway.access.rate_limits import Limiter
from gateway.access.sessions import Sessions
from gateway.access.streams import Streams
from gateway.http.readiness import Readiness
from gateway.reading.job_waiter import Waiter
from gateway.reading.turns import Turns
from gateway.settings import GatewaySettings
from gateway.store.durability import Barrier
from gateway.submission.body_memory import BodyMemory
from gateway.webhooks.endpoints import Endpoints
from jobs.api_keys import KeyRing
from jobs.codec import Codec
from jobs.ledger import AsyncLedger
from jobs.observability.metrics import GatewayMetrics
from jobs.observability.tracing import Tracer
from jobs.queue.publisher import QueuePublisher


@dataclass(frozen=True, slots=True)
class Services:
    """The services that requests share.

    Attributes:
        keys: None where `GLEANER_AUTH=off`.
        turns: bounds the bytes of results that are decoded at once.
    """

    settings: GatewaySettings
    body_memory: BodyMemory
    ledger: AsyncLedger
    barrier: Barrier
    pusher: QueuePublisher
    codec: Codec
    keys: KeyRing | None
    limiter: Limiter
    sessions: Sessions
    streams: Streams
    anonymous: AnonymousRate
    readiness: Readiness
    waiter: Waiter
    turns: Turns
    endpoints: Endpoints
    metrics: GatewayMetrics
    tracer: Tracer


async def get_services(request: Request) -> Services:
    """Return the process's services; async, because a plain dependency would cost a thread for each request."""
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(get_services)]
