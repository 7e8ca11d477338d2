"""Browser sessions: their tokens, and the names of their cookies."""

from __future__ import annotations

import hashlib

import pytest

from gateway.access.sessions import Sessions
from gateway.settings import GatewaySettings
from tests.support.fakes.scripted_ledger import ScriptedLedger

pytestmark = pytest.mark.anyio


def make_sessions(ledger: ScriptedLedger, **settings: object) -> Sessions:
    """Return the sessions of a gateway with these settings."""
    return Sessions(ledger, GatewaySettings(auth="off", **settings))  # type: ignore[arg-type]


async def test_a_session_is_stored_by_hashes_only() -> None:
    """The ledger gets the SHA-256 of the token; the token itself is in the cookie alone."""
    ledger = ScriptedLedger(begin_session=1, find_session_key="key-hash", end_session=True)
    sessions = make_sessions(ledger)

    token = await sessions.begin_session("key-hash")
    session = await sessions.find_session(token)
    await sessions.end_session(token)

    digest = hashlib.sha256(token.encode()).hexdigest()
    assert session == (digest, "key-hash")
    assert [call.args[0] for call in ledger.script.calls] == [digest] * 3
    assert token not in str([call.args for call in ledger.script.calls])


async def test_each_session_has_a_token_of_256_random_bits() -> None:
    """Tokens cannot be guessed, and none is used twice."""
    sessions = make_sessions(ScriptedLedger(begin_session=1))
    tokens = {await sessions.begin_session("key-hash") for _ in range(50)}
    assert len(tokens) == 50
    assert {len(token) for token in tokens} == {len("gs_") + 43}


@pytest.mark.parametrize("token", ["", "gl_key", "gs_ü", "gs_" + "x" * 126])
async def test_a_text_that_is_no_token_costs_no_round_trip(token: str) -> None:
    """An API key in the cookie is none either."""
    ledger = ScriptedLedger()
    assert await make_sessions(ledger).find_session(token) is None
    assert ledger.script.calls == []


async def test_an_ended_session_is_not_active() -> None:
    """Redis has no entry for it, or no key."""
    sessions = make_sessions(ScriptedLedger(find_session_key=["", "key-hash", ""]))
    assert await sessions.find_session("gs_x") is None
    assert await sessions.is_active("hash")
    assert not await sessions.is_active("hash")


@pytest.mark.parametrize(
    ("https", "scheme", "name"),
    [
        ("off", "http", "gleaner_session"),
        ("off", "https", "__Host-gleaner_session"),
        ("require", "http", "__Host-gleaner_session"),
    ],
)
def test_over_https_the_cookie_s_name_is_protected(https: str, scheme: str, name: str) -> None:
    """Browsers accept the prefix from the host itself over https only."""
    sessions = make_sessions(ScriptedLedger(), https=https)
    assert sessions.cookie_name(scheme) == name
    assert sessions.is_secure(scheme) is name.startswith("__Host-")
