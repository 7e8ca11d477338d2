"""What the routes work with, made once by `gateway.app` and handed to each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

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
    """Everything a request needs that outlives it.

    Attributes:
        keys: None where `GLEANER_AUTH=off`.
        turns: bounds what is decoded of results at once.
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


async def services(request: Request) -> Services:
    """The process's services, as a dependency; a plain function would cost a thread for each request."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]
