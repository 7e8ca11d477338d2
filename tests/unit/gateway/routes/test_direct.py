"""Routes without FastAPI's resolution respond as those with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse, Response

from gateway.access.rate_limits import Limiter
from gateway.access.sessions import Sessions
from gateway.routes.dependencies import ServicesDep, Submission
from gateway.routes.direct import DirectRoute
from gateway.settings import GatewaySettings
from jobs.observability.metrics import GatewayMetrics
from tests.support.fakes.routes import make_services
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import make_open_authenticator

pytestmark = pytest.mark.anyio

router = APIRouter(route_class=DirectRoute)


@router.post("/jobs", response_model=None)
async def submit(request: Request, services: ServicesDep, caller: Submission, mode: str = "default") -> Response:
    """Respond with what the route got."""
    body = (await request.body()).decode()
    return JSONResponse({"caller": caller.tenant, "mode": mode, "body": body, "services": services is not None})


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an app with this one route."""
    ledger, metrics = ScriptedLedger(), GatewayMetrics(CollectorRegistry())
    settings = GatewaySettings(auth="off")
    app = FastAPI(routes=router.routes)
    app.state.services = make_services(
        settings=settings,
        authenticator=make_open_authenticator(ledger, metrics),
        limiter=Limiter(settings, ledger, metrics),
        sessions=Sessions(ledger, settings),
    )
    transport: Any = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def test_without_a_query_parameters_have_their_defaults(client: httpx.AsyncClient) -> None:
    """The route gets request, services and caller."""
    expected = {"caller": "default", "mode": "default", "body": "x", "services": True}
    assert (await client.post("/jobs", content="x")).json() == expected


async def test_with_a_query_fastapi_resolves_it(client: httpx.AsyncClient) -> None:
    """The rest of the response is the same."""
    expected = {"caller": "default", "mode": "other", "body": "x", "services": True}
    assert (await client.post("/jobs?mode=other", content="x")).json() == expected


async def test_another_method_is_refused(client: httpx.AsyncClient) -> None:
    """It is refused on every other route too."""
    assert (await client.get("/jobs")).status_code == 405
