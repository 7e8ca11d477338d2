"""The caller of a route: of the right role, and counted."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request
from prometheus_client import CollectorRegistry

from gateway.access import Caller
from gateway.access.auth import Credentials
from gateway.access.rate_limits import Limiter
from gateway.access.sessions import Sessions
from gateway.errors import GatewayError
from gateway.http.middleware import _format_rate_limits
from gateway.routes.dependencies import Cost, Require
from gateway.settings import GatewaySettings
from jobs.api_keys import Role
from jobs.ledger.access import RateWindow, Taken
from jobs.observability.metrics import GatewayMetrics
from tests.support.fakes.routes import make_http_request, make_services
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER

pytestmark = pytest.mark.anyio

WINDOW = RateWindow(0, 0, 1, 1000)


class FakeAuthenticator:
    """Finds the caller of the key `good`, who is a submitter."""

    async def find_caller(self, credentials: Credentials, role: Role) -> Caller:
        """Return the caller."""
        if credentials.key != "good" or not Role.SUBMITTER.includes(role):
            raise GatewayError("forbidden", "no")
        return CALLER


async def admit(rule: Require, ledger: ScriptedLedger, request: Request) -> Caller:
    """Admit a request to a route with this rule; requests and reads of a key are limited."""
    settings = GatewaySettings(auth="off", key_requests_per_s=10, key_reads_per_s=10, key_submits_per_s=10)
    services = make_services(
        settings=settings,
        authenticator=FakeAuthenticator(),
        limiter=Limiter(settings, ledger, GatewayMetrics(CollectorRegistry())),
        sessions=Sessions(ledger, settings),
    )
    return await rule(request, services)


def counted(ledger: ScriptedLedger) -> dict[str, Any]:
    """Return the cost that was counted for each measure."""
    [call] = ledger.script.calls
    rows = [call.args[at : at + 4] for at in range(0, len(call.args), 4)]
    return {str(row[0]).split("/")[1]: row[3] for row in rows}


@pytest.mark.parametrize(
    ("submits", "cost", "expected"),
    [
        (False, 1, {"requests": 1, "reads": 1}),
        (False, lambda request: int(request.query_params["limit"]), {"requests": 1, "reads": 7}),
        (True, 1, {"requests": 1, "submits": 1}),
    ],
)
async def test_a_request_is_counted_by_its_kind(submits: bool, cost: Cost, expected: dict[str, int]) -> None:
    """The cost of a read may depend on its query; the limits are reported in the response."""
    ledger = ScriptedLedger(take_rates=Taken(None, (WINDOW, WINDOW)))
    request = make_http_request(headers={"X-API-Key": "good"}, query="limit=7")
    assert await admit(Require(Role.VIEWER, submits=submits, cost=cost), ledger, request) is CALLER
    assert counted(ledger) == expected
    assert b"requests-key" in _format_rate_limits(request.scope["gleaner.rate_limits"])[b"ratelimit"]


@pytest.mark.parametrize(("key", "role"), [("bad", Role.VIEWER), ("good", Role.ADMIN)])
async def test_a_refused_caller_is_not_counted(key: str, role: Role) -> None:
    """Whoever has no key of this role uses up nobody's limits."""
    ledger = ScriptedLedger()
    with pytest.raises(GatewayError, match="forbidden"):
        await admit(Require(role), ledger, make_http_request(headers={"Authorization": f"Bearer {key}"}))
    assert ledger.script.calls == []
