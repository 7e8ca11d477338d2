"""Callers are found by key or session, and checked again during long responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.access import Caller
from gateway.access.anonymous import AnonymousRate
from gateway.access.auth import Authenticator, Credentials
from gateway.access.rate_limits import Limiter
from gateway.access.sessions import Sessions
from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from jobs import api_keys
from jobs.api_keys import KeyRing, Role
from jobs.ledger import LedgerUnavailableError
from jobs.ledger.access import RateWindow, Taken
from jobs.observability.metrics import GatewayMetrics
from tests.support.fakes.scripted_ledger import ScriptedLedger

pytestmark = pytest.mark.anyio

ADDRESS = "192.0.2.1"


class Access:
    """An authenticator with one key of each of two roles.

    Attributes:
        keys: keys by role.
    """

    def __init__(self, folder: Path, anonymous_per_minute: int = 0, **replies: Any) -> None:
        self.file, self.now_s = folder / "keys.json", 0.0
        created = {
            role: api_keys.create_key(self.file, tenant="acme", role=role) for role in ("viewer", "submitter")
        }
        self.keys = {role: key.key for role, key in created.items()}
        self.ids = {role: key.key_id for role, key in created.items()}
        self.ring = KeyRing(self.file, clock=lambda: self.now_s, max_stale_s=600)
        self.registry, self.ledger = CollectorRegistry(), ScriptedLedger(**replies)
        metrics, settings = GatewayMetrics(self.registry), GatewaySettings(auth="off")
        self.authenticator = Authenticator(
            self.ring,
            Sessions(self.ledger, settings),
            Limiter(settings, self.ledger, metrics),
            AnonymousRate(anonymous_per_minute, metrics),
            metrics,
        )

    async def find(self, role: Role = Role.VIEWER, **credentials: Any) -> Caller:
        """Return the caller with these credentials."""
        return await self.authenticator.find_caller(Credentials(ADDRESS, **credentials), role)

    async def refuse(self, role: Role = Role.VIEWER, **credentials: Any) -> str:
        """Return the code of the refusal of these credentials."""
        with pytest.raises(GatewayError) as refused:
            await self.find(role, **credentials)
        return refused.value.code

    def count_failures(self, reason: str) -> float:
        """Return the number of failures that were counted for this reason."""
        return self.registry.get_sample_value("gleaner_auth_failures_total", {"reason": reason}) or 0


async def test_a_key_s_caller_has_its_tenant_and_role(tmp_path: Path) -> None:
    """The key itself is not kept."""
    access = Access(tmp_path)
    caller = await access.find(key=access.keys["submitter"])
    assert (caller.key_id, caller.tenant, caller.role) == (access.ids["submitter"], "acme", Role.SUBMITTER)
    assert access.keys["submitter"] not in repr(caller) + caller.key_hash
    assert access.ledger.script.calls == []


async def test_a_role_that_is_too_low_is_forbidden(tmp_path: Path) -> None:
    """A higher one may do all that a lower one may."""
    access = Access(tmp_path)
    assert await access.refuse(Role.SUBMITTER, key=access.keys["viewer"]) == "forbidden"
    assert (await access.find(Role.VIEWER, key=access.keys["submitter"])).role == Role.SUBMITTER


async def test_a_bad_key_is_counted_and_then_refused(tmp_path: Path) -> None:
    """The address that sends too many gets 429."""
    window = RateWindow(0, 0, 1, 60_000)
    access = Access(tmp_path, take_rates=[Taken(None, (window,)), Taken(0, (window,))])
    assert [await access.refuse(key="gl_guess") for _ in range(2)] == ["unauthenticated", "rate_limited"]
    assert (access.count_failures("bad"), access.count_failures("limited")) == (1, 1)


async def test_a_request_without_a_key_is_limited_by_its_address(tmp_path: Path) -> None:
    """In this process alone: it must not cost a round trip."""
    access = Access(tmp_path, anonymous_per_minute=1)
    assert [await access.refuse() for _ in range(2)] == ["unauthenticated", "rate_limited"]
    assert access.count_failures("missing") == 2
    assert access.ledger.script.calls == []


async def test_a_session_stands_for_its_key(tmp_path: Path) -> None:
    """It lasts as long as the key is valid; the caller knows the session, which is checked again later."""
    access = Access(tmp_path, take_rates=Taken(None, (RateWindow(0, 0, 1, 60_000),)))
    key_hash = (await access.find(key=access.keys["viewer"])).key_hash
    access.ledger.script._replies["find_session_key"] = [key_hash, "unknown", ""]
    caller = await access.find(session_token="gs_x")
    assert (caller.key_id, bool(caller.session)) == (access.ids["viewer"], True)
    assert [await access.refuse(session_token="gs_x") for _ in range(2)] == ["unauthenticated"] * 2


async def test_a_cookie_that_another_site_may_have_sent_is_refused(tmp_path: Path) -> None:
    """Before the session is looked up; a key in a header is beyond its reach."""
    access = Access(tmp_path)
    assert await access.refuse(session_token="gs_x", forgery="from another site") == "csrf_refused"
    assert access.count_failures("csrf") == 1
    assert await access.find(key=access.keys["viewer"], forgery="from another site")
    assert access.ledger.script.calls == []


async def test_keys_that_cannot_be_read_for_too_long_let_nobody_in(tmp_path: Path) -> None:
    """Neither in nor on: a revocation could be missed."""
    access = Access(tmp_path)
    caller = await access.find(key=access.keys["viewer"])
    access.file.unlink()
    access.now_s = 10_000.0
    access.ring.refresh()
    access.now_s = 20_000.0
    assert await access.refuse(key=access.keys["viewer"]) == "keys_unavailable"
    with pytest.raises(GatewayError, match="keys_unavailable"):
        await access.authenticator.recheck_caller(caller)
    assert access.count_failures("closed") == 2


async def test_a_revoked_key_ends_a_long_response(tmp_path: Path) -> None:
    """A key that is still valid does not."""
    access = Access(tmp_path)
    caller = await access.find(key=access.keys["viewer"])
    await access.authenticator.recheck_caller(caller)
    api_keys.revoke_key(access.file, access.ids["viewer"])
    access.now_s += api_keys.RELOAD_EVERY_S + 1
    with pytest.raises(GatewayError, match="unauthenticated"):
        await access.authenticator.recheck_caller(caller)


@pytest.mark.parametrize(
    ("reply", "code"),
    [("key-hash", None), ("", "unauthenticated"), (LedgerUnavailableError("down"), None)],
)
async def test_a_session_that_ended_ends_a_long_response(reply: Any, code: str | None, tmp_path: Path) -> None:
    """Without Redis nobody knows; then no data of a job is sent either."""
    access = Access(tmp_path, find_session_key=reply)
    key_caller = await access.find(key=access.keys["viewer"])
    caller = Caller(key_caller.key_id, "acme", Role.VIEWER, key_hash=key_caller.key_hash, session="hash")
    if code is None:
        await access.authenticator.recheck_caller(caller)
    else:
        with pytest.raises(GatewayError, match=code):
            await access.authenticator.recheck_caller(caller)


async def test_a_role_that_was_lowered_ends_a_long_response(tmp_path: Path) -> None:
    """A key that now belongs to another tenant, too."""
    access = Access(tmp_path)
    caller = await access.find(key=access.keys["viewer"])
    raised = Caller(caller.key_id, "acme", Role.SUBMITTER, key_hash=caller.key_hash)
    with pytest.raises(GatewayError, match="forbidden"):
        await access.authenticator.recheck_caller(raised)
    moved = Caller(caller.key_id, "other", Role.VIEWER, key_hash=caller.key_hash)
    with pytest.raises(GatewayError, match="unauthenticated"):
        await access.authenticator.recheck_caller(moved)


async def test_without_keys_everybody_is_a_local_admin(tmp_path: Path) -> None:
    """GLEANER_AUTH=off says so, on this machine only."""
    access = Access(tmp_path)
    authenticator = Authenticator(
        None, access.authenticator.sessions, access.authenticator.limiter, access.authenticator.anonymous,
        access.authenticator.metrics,
    )  # fmt: skip
    caller = await authenticator.find_caller(Credentials(""), Role.ADMIN)
    assert (caller.tenant, caller.role) == ("default", Role.ADMIN)
    await authenticator.recheck_caller(caller)
