"""Signing a browser in and out."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.sessions import Sessions
from gateway.errors import GatewayError
from gateway.routes.session import create_session, delete_session
from gateway.settings import GatewaySettings
from tests.support.fakes.routes import make_http_request, make_services
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER

pytestmark = pytest.mark.anyio


def make_session_services(**settings: Any) -> tuple[Any, ScriptedLedger]:
    """Return services with sessions on a ledger, and the ledger."""
    ledger = ScriptedLedger(begin_session=1, end_session=True)
    return make_services(sessions=Sessions(ledger, GatewaySettings(auth="off", **settings))), ledger


async def test_the_cookie_holds_a_token_and_not_the_key() -> None:
    """Scripts cannot read it, and it is sent to this site only; the cookie of old versions is removed."""
    services, _ = make_session_services()
    request = make_http_request("POST", headers={"X-API-Key": "gl_key"})
    response = await create_session(request, services, CALLER)
    session, legacy = response.headers.getlist("set-cookie")
    assert session.startswith("gleaner_session=gs_")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(session.split("; "))
    assert "Secure" not in session
    assert "gl_key" not in session
    assert legacy.startswith('gleaner_api_key=""; ')


async def test_over_https_the_cookie_is_secure() -> None:
    """Also if a proxy terminates it and the setting says so."""
    services, _ = make_session_services(https="require")
    request = make_http_request("POST", headers={"Authorization": "Bearer gl_key"})
    session = (await create_session(request, services, CALLER)).headers.getlist("set-cookie")[0]
    assert session.startswith("__Host-gleaner_session=")
    assert "Secure" in session.split("; ")


async def test_a_session_begins_with_a_key_in_a_header() -> None:
    """Not with another session, which would never end."""
    services, ledger = make_session_services()
    request = make_http_request("POST", headers={"Cookie": "gleaner_session=gs_x"})
    with pytest.raises(GatewayError, match="unauthenticated"):
        await create_session(request, services, CALLER)
    assert ledger.script.calls == []


@pytest.mark.parametrize(
    ("cookie", "ended"), [("gleaner_session=gs_x", ["end_session"]), ("other=1", []), ("gleaner_session=", [])]
)
async def test_signing_out_removes_the_cookies(cookie: str, ended: list[str]) -> None:
    """They are removed even if there is no session to end."""
    services, ledger = make_session_services()
    response = await delete_session(make_http_request("DELETE", headers={"Cookie": cookie}), services, CALLER)
    removed = [header.partition("=")[0] for header in response.headers.getlist("set-cookie")]
    assert removed == ["gleaner_session", "gleaner_api_key"]
    assert all("Max-Age=0" in header for header in response.headers.getlist("set-cookie"))
    assert ledger.script.names == ended
