"""Browser sessions of a running gateway."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobs import api_keys
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio

BODY = {"labels": ["a"], "documents": [{"text": "b"}]}


@pytest.fixture
async def browser(ledger_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """Run a gateway that also accepts cookies and query keys; its client sends no key by default."""
    async with running_api(ledger_url, broker_url, tmp_path, auth_cookie=True, auth_query=True) as running:
        running.client.headers.pop("Authorization")
        yield running


async def test_a_session_s_cookie_is_out_of_reach(browser: Api) -> None:
    """HttpOnly, SameSite=Strict, and no key: a token that ends at sign-out, also where the browser keeps it."""
    client = browser.client
    cookie, *old = await begin(browser)
    assert re.search(r"^gleaner_session=gs_\S+; HttpOnly; Max-Age=43200; Path=/; SameSite=strict$", cookie), cookie
    assert [name.partition(";")[0] for name in old] == ['gleaner_api_key=""']
    assert (await client.get("/v1/models")).status_code == 200

    ended = await client.delete("/v1/session", headers={"X-Gleaner-CSRF": "1"})
    assert ended.status_code == 204
    assert all("Max-Age=0" in header for header in ended.headers.get_list("set-cookie"))
    ended_session = {"Cookie": cookie.partition(";")[0]}
    for headers in ({}, ended_session):
        assert (await client.get("/v1/models", headers=headers)).status_code == 401


async def test_over_https_the_cookie_is_the_host_s_alone(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """Secure, with the prefix that no sibling domain can write; the name of plain HTTP counts for nothing there."""
    settings = {"auth_cookie": True, "trusted_proxies": "127.0.0.1"}
    async with running_api(ledger_url, broker_url, tmp_path, **settings) as api:
        secure = {"X-Forwarded-Proto": "https"}
        begun = await api.client.post("/v1/session", headers=secure)
        cookie = begun.headers.get_list("set-cookie")[0]
        assert re.search(r"^__Host-gleaner_session=gs_\S+; HttpOnly; .*Path=/; SameSite=strict; Secure$", cookie)
        assert "domain" not in cookie.lower()
        token = cookie.partition(";")[0].partition("=")[2]
        del api.client.headers["Authorization"]
        for name, status in (("__Host-gleaner_session", 200), ("gleaner_session", 401)):
            api.client.cookies.clear()
            answer = await api.client.get("/v1/models", headers={**secure, "Cookie": f"{name}={token}"})
            assert answer.status_code == status


async def test_a_session_is_kept_by_its_hash_and_ends_by_itself(browser: Api) -> None:
    """Redis has neither the token nor the key; the entry expires, and a revoked key ends its sessions."""
    cookie, *_ = await begin(browser)
    token = cookie.partition(";")[0].partition("=")[2]
    stored = [key async for key in browser.store.scan_iter("*session*")]
    assert len(stored) == 2
    for key in stored:
        assert 0 < await browser.store.pttl(key) <= 43_200_000
        assert token.encode() not in key + (await browser.store.dump(key) or b"")
    key_id = next(record.key_id for record in api_keys.list_keys(browser.keys_file) if record.role == "submitter")
    api_keys.revoke_key(browser.keys_file, key_id)
    browser.app.state.services.authenticator.keys._checked_at = 0
    assert (await browser.client.get("/v1/models")).status_code == 401


async def test_a_key_s_sessions_are_bounded(browser: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing in again and again fills no store: the oldest session makes room."""
    monkeypatch.setattr("jobs.ledger.access.MAX_SESSIONS", 3)
    tokens = []
    for _ in range(5):
        cookie, *_ = await begin(browser)
        tokens.append(cookie.partition(";")[0])
    browser.client.cookies.clear()
    codes = [(await browser.client.get("/v1/models", headers={"Cookie": token})).status_code for token in tokens]
    assert codes == [401, 401, 200, 200, 200]
    assert len([key async for key in browser.store.scan_iter("{gleaner}:session:*")]) == 3


@pytest.mark.parametrize(
    "cookie", ["gleaner_session=gs_unknown", "gleaner_session=", "gleaner_session=gs_" + "x" * 4000]
)
async def test_a_session_that_is_none_signs_nobody_in(browser: Api, cookie: str) -> None:
    """Nor does the cookie of old versions, which held the key itself."""
    old = f"gleaner_api_key={browser.keys['submitter']}"
    assert (await browser.client.get("/v1/models", headers={"Cookie": f"{old}; {cookie}"})).status_code == 401
    as_key = f"gleaner_session={browser.keys['submitter']}"
    assert (await browser.client.get("/v1/models", headers={"Cookie": as_key})).status_code == 401


async def begin(browser: Api, role: str = "submitter") -> list[str]:
    """Sign the browser in; the Set-Cookie headers."""
    begun = await browser.client.post("/v1/session", headers=browser.as_role(role))
    assert begun.status_code == 204
    return begun.headers.get_list("set-cookie")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X-Gleaner-CSRF": ""}, 403),
        ({"X-Gleaner-CSRF": "1"}, 202),
        ({"X-Gleaner-CSRF": "1", "Origin": "http://gateway"}, 202),
        ({"X-Gleaner-CSRF": "1", "Origin": "https://evil.example"}, 403),
        ({"X-Gleaner-CSRF": "1", "Origin": "null"}, 403),
        ({"X-Gleaner-CSRF": "1", "Sec-Fetch-Site": "same-origin"}, 202),
        ({"X-Gleaner-CSRF": "1", "Sec-Fetch-Site": "same-site"}, 403),
        ({"X-Gleaner-CSRF": "1", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_a_cookie_alone_changes_nothing(browser: Api, headers: dict[str, str], status: int) -> None:
    """Refuse requests that another site can forge; reading needs only the cookie."""
    await begin(browser)
    answer = await browser.client.post("/v1/jobs", json=BODY, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "csrf_refused"
    assert (await browser.client.get("/v1/models")).status_code == 200


async def test_a_key_in_a_header_needs_no_csrf_header(browser: Api) -> None:
    """No other site can send it, whatever cookie lies beside it."""
    headers = {**browser.as_role("submitter"), "Cookie": "gleaner_session=gs_old"}
    assert (await browser.client.post("/v1/jobs", json=BODY, headers=headers)).status_code == 202


async def test_a_query_key_where_it_is_enabled(browser: Api, caplog: pytest.LogCaptureFixture) -> None:
    """For clients that cannot send headers; the key is in no log."""
    with caplog.at_level("DEBUG"):
        path = f"/v1/models?api_key={browser.keys['viewer']}"
        assert (await browser.client.get(path)).status_code == 200
    logged = str([record.__dict__ for record in caplog.records if not record.name.startswith("httpx")])
    assert browser.keys["viewer"] not in logged


async def test_without_the_setting_there_is_no_session(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """The route is not there at all."""
    async with running_api(ledger_url, broker_url, tmp_path) as api:
        assert (await api.client.post("/v1/session")).status_code == 404
