"""The gateway's composition root: builds the FastAPI app, which owns its connections while it runs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gateway.access.anonymous import AnonymousRate
from gateway.access.auth import Authenticator
from gateway.access.rate_limits import Limiter, RateLimitError
from gateway.access.sessions import Sessions
from gateway.access.streams import Streams
from gateway.http import docs_pages, openapi
from gateway.http.middleware import EdgeMiddleware, get_request_id, report_rate_limits
from gateway.http.problems import EXPECTED_ERRORS, to_problem
from gateway.http.readiness import LedgerCheck, Readiness
from gateway.label_sets import LabelSets
from gateway.reading.decode_memory import DecodeMemory
from gateway.reading.job_reader import JobReader
from gateway.reading.job_waiter import Waiter
from gateway.reading.results import Results
from gateway.routes import (
    console,
    events,
    extract,
    health,
    jobs,
    label_sets,
    limits,
    models,
    problems,
    queue,
    results,
    session,
    webhooks,
)
from gateway.routes.dependencies import Services
from gateway.settings import GatewaySettings
from gateway.store.circuit_breaker import GuardedLedger
from gateway.store.durability import Barrier
from gateway.store.model_facts import ModelFactsCache
from gateway.submission.accept import Submissions
from gateway.submission.body_memory import BodyMemory
from gateway.submission.create import JobCreation
from gateway.submission.idempotency import IdempotencyKeys
from gateway.submission.retry import Retries
from gateway.submission.staging import Stages
from gateway.submission.stream import Uploads
from gateway.webhooks.endpoints import Endpoints
from gateway.webhooks.sender import make_sender
from jobs import ledger
from jobs.api_keys import RELOAD_EVERY_S, KeyRing
from jobs.codec import make_codec
from jobs.observability import tracing
from jobs.observability.metrics import GatewayMetrics
from jobs.process.periodic import PeriodicTask
from jobs.queue.publisher import QueuePublisher, shared_server_databases
from jobs.redis.clients import connect_async

log = logging.getLogger(__name__)

VERSION = "0.1.0"

_CORS_REQUEST_HEADERS = (
    "Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID",
    "Prefer", "X-API-Key", "X-Request-ID", "traceparent",
)  # fmt: skip
_CORS_RESPONSE_HEADERS = (
    "ETag", "Gleaner-Complete", "Idempotency-Replayed", "Location", "Preference-Applied", "RateLimit",
    "RateLimit-Policy", "Retry-After", "X-Request-ID",
)  # fmt: skip

# FastAPI's own OpenTelemetry would copy request bodies, which contain texts, into traces.
_NO_TELEMETRY: Any = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def create_app(settings: GatewaySettings, metrics: GatewayMetrics | None = None) -> FastAPI:
    """Return the gateway as an ASGI app.

    Args:
        settings: read once by the caller.
        metrics: the process's metrics; None for unexported ones.

    Raises:
        KeysError: the keys file is missing or damaged.
    """
    keys: KeyRing | None = None
    if settings.auth == "on":
        keys = KeyRing(settings.keys_file.expanduser(), max_stale_s=settings.keys_max_stale_s)
    metrics = metrics or GatewayMetrics(CollectorRegistry())
    anonymous = AnonymousRate(settings.anonymous_per_minute, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if keys is None:
            log.warning("auth.off", extra={"host": settings.host})
        async with _connect(settings, metrics) as connections:
            app.state.services = services = _build_services(settings, connections, keys, metrics, anonymous)
            services.readiness.start()
            keys_watch = PeriodicTask("keys", partial(_watch_keys, keys, metrics))
            keys_watch.start()
            try:
                yield
            finally:
                await keys_watch.stop()
                await services.readiness.stop()

    app = FastAPI(
        title="Gleaner",
        version=VERSION,
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.docs == "on" else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        routes=[*jobs.submitting.routes, *extract.router.routes],  # matched first, and not through a router
    )
    for module in (jobs, results, events, label_sets, models, limits, queue, health, problems):
        app.include_router(module.router)
    for router in webhooks.ROUTERS:
        app.include_router(router)
    if settings.auth_cookie and keys is not None:
        app.include_router(session.router)
    if settings.docs == "on":
        docs_pages.install_docs_pages(app)
    console.install_console(app)
    openapi.install_openapi(app)
    _add_error_handlers(app)
    _add_middleware(app, settings, metrics, anonymous)
    return app


def _add_middleware(
    app: FastAPI, settings: GatewaySettings, metrics: GatewayMetrics, anonymous: AnonymousRate
) -> None:
    """Add the middleware that every request passes before a route, innermost first."""
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_RESPONSE_HEADERS,
            max_age=3600,
        )
    app.add_middleware(EdgeMiddleware, metrics=metrics, anonymous=anonymous, settings=settings)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=[str(net) for net in settings.trusted_proxies])


@dataclass(frozen=True, slots=True)
class _Connections:
    """The connected objects, which run as long as the app."""

    ledger: GuardedLedger
    waiter: Waiter
    barrier: Barrier
    publisher: QueuePublisher


@asynccontextmanager
async def _connect(settings: GatewaySettings, metrics: GatewayMetrics) -> AsyncIterator[_Connections]:
    client = connect_async(settings.redis_url, settings.store_timeout_s, "gleaner-gateway", watched=True)
    waiter_client = connect_async(settings.redis_url, settings.store_timeout_s, "gleaner-gateway-waiter")
    broker_client = connect_async(settings.broker_url, settings.store_timeout_s, "gleaner-gateway-broker")
    barrier_client = connect_async(settings.redis_url, settings.store_timeout_s, "gleaner-gateway-barrier")
    guarded = GuardedLedger(client, settings.store_timeout_s, metrics)
    waiter = Waiter(waiter_client, versions=lambda jobs: guarded.run(ledger.read_versions(jobs)))
    barrier = Barrier(barrier_client, settings.durability)
    publisher = QueuePublisher(broker_client, shared_server_databases(settings.redis_url, settings.broker_url))
    waiter.start()
    publisher.start(client)
    try:
        yield _Connections(guarded, waiter, barrier, publisher)
    finally:
        await waiter.stop()
        await barrier.stop()
        await publisher.stop()
        for connection in (client, waiter_client, barrier_client, broker_client):
            await connection.aclose()


def _build_services(
    settings: GatewaySettings,
    connections: _Connections,
    keys: KeyRing | None,
    metrics: GatewayMetrics,
    anonymous: AnonymousRate,
) -> Services:
    store, waiter, barrier = connections.ledger, connections.waiter, connections.barrier
    codec, decode_memory = make_codec(settings), DecodeMemory()
    limiter, sessions = Limiter(settings, store, metrics), Sessions(store, settings)
    authenticator = Authenticator(keys, sessions, limiter, anonymous, metrics)
    endpoints = Endpoints(store, codec, make_sender(settings), settings.tenant_max_inline_webhooks)
    reader = JobReader(store, waiter, authenticator)
    idempotency, stages = IdempotencyKeys(store, codec), Stages(settings, store, codec)
    tracer = tracing.start_tracing(settings, "gateway")
    creation = JobCreation(
        settings, store, codec, idempotency, limiter, endpoints, connections.publisher, metrics, tracer
    )
    body_memory = BodyMemory(settings.body_memory_bytes or 2 * settings.max_body_bytes)
    facts = ModelFactsCache(store, settings.models.served)
    sets = LabelSets(store, codec)
    uploads = Uploads(settings, authenticator, body_memory, idempotency, stages, creation, facts, sets)
    return Services(
        settings=settings,
        ledger=store,
        barrier=barrier,
        codec=codec,
        authenticator=authenticator,
        sessions=sessions,
        limiter=limiter,
        streams=Streams(settings, metrics),
        submissions=Submissions(
            settings, authenticator, body_memory, codec, idempotency, creation, uploads, barrier, facts, sets
        ),
        retries=Retries(settings, reader, codec, decode_memory, idempotency, stages, creation),
        jobs=reader,
        results=Results(reader, codec, decode_memory, authenticator),
        waiter=waiter,
        endpoints=endpoints,
        label_sets=sets,
        readiness=Readiness(LedgerCheck.connect(settings.redis_url, settings.store_timeout_s)),
        metrics=metrics,
    )


async def _watch_keys(keys: KeyRing | None, metrics: GatewayMetrics) -> float:
    """Read the keys file also without requests, so that the metrics show its age."""
    if keys is not None:
        keys.refresh()
        metrics.keys_file_ok.set(1 if keys.readable else 0)
        metrics.keys_file_stale.set(keys.stale_s)
    return RELOAD_EVERY_S


def _add_error_handlers(app: FastAPI) -> None:
    """Answer known errors with problem+json; `gateway.http.middleware` handles all others."""

    async def respond(request: Request, error: Exception) -> Response:
        if isinstance(error, RateLimitError):
            report_rate_limits(request.scope, error.statuses)
        return to_problem(error).to_response(get_request_id(request.scope))

    for kind in EXPECTED_ERRORS:
        app.add_exception_handler(kind, respond)
