from __future__ import annotations

import hashlib
import hmac
import re
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobs import keys
from jobs.keys import KeyRing
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio

BODY = {"labels": ["a"], "documents": [{"text": "b"}]}


@pytest.fixture
async def browser(ledger_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A gateway that also takes cookies and query keys; nothing is sent unless a test does."""
    async with running_api(ledger_url, broker_url, tmp_path, auth_cookie=True, auth_query=True) as running:
        running.client.headers.pop("Authorization")
        yield running


async def test_a_session_s_cookie_is_out_of_reach(browser: Api) -> None:
    """HttpOnly, SameSite=Strict, Secure where the way is; it signs in, and is forgotten on demand."""
    client = browser.client
    begun = await client.post("/v1/session", headers=browser.as_role("submitter"))
    assert begun.status_code == 204
    cookie = begun.headers["set-cookie"]
    assert re.search(r"^gleaner_api_key=gl_\S+; HttpOnly; Max-Age=43200; Path=/; SameSite=strict$", cookie), cookie
    assert (await client.get("/v1/models")).status_code == 200

    ended = await client.delete("/v1/session", headers={"X-Gleaner-CSRF": "1"})
    assert (ended.status_code, "Max-Age=0" in ended.headers["set-cookie"]) == (204, True)
    assert (await client.get("/v1/models")).status_code == 401


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
    """What another site can make a browser send is refused; reading needs no more than the cookie."""
    cookie = {"Cookie": f"gleaner_api_key={browser.keys['submitter']}"}
    answer = await browser.client.post("/v1/jobs", json=BODY, headers={**cookie, **headers})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "csrf_refused"
    assert (await browser.client.get("/v1/models", headers=cookie)).status_code == 200


async def test_a_key_in_a_header_needs_no_csrf_header(browser: Api) -> None:
    """No other site can send it, whatever cookie lies beside it."""
    headers = {**browser.as_role("submitter"), "Cookie": "gleaner_api_key=gl_old"}
    assert (await browser.client.post("/v1/jobs", json=BODY, headers=headers)).status_code == 202


async def test_a_query_key_where_it_is_enabled(browser: Api, caplog: pytest.LogCaptureFixture) -> None:
    """For what can send no header; it reaches no log of ours."""
    with caplog.at_level("DEBUG"):
        path = f"/v1/models?api_key={browser.keys['viewer']}"
        assert (await browser.client.get(path)).status_code == 200
    logged = str([record.__dict__ for record in caplog.records if not record.name.startswith("httpx")])
    assert browser.keys["viewer"] not in logged


async def test_without_the_setting_there_is_no_session(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """The route is not there at all."""
    async with running_api(ledger_url, broker_url, tmp_path) as api:
        assert (await api.client.post("/v1/session")).status_code == 404


def test_a_key_is_compared_by_its_hash_and_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By construction: only SHA-256 of what was presented is looked up, and compare_digest has the last word."""
    path = tmp_path / "keys.json"
    good = keys.create(path, tenant="a", role="viewer").key
    ring = KeyRing(path)
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return hmac_compare(one, other)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert ring.verify(good) is not None
    digest = hashlib.sha256(good.encode()).hexdigest()
    assert compared == [(digest, digest)]
    assert all(good not in str(record) for record in ring._by_hash.values())
    assert good not in ring._by_hash


def test_a_near_miss_takes_as_long_as_a_far_one(tmp_path: Path) -> None:
    """A key that is right but for its last character is refused no later than one that is all wrong."""
    path = tmp_path / "keys.json"
    good = keys.create(path, tenant="a", role="viewer").key
    ring = KeyRing(path, clock=lambda: 0.0)
    near = good[:-1] + ("A" if good[-1] != "A" else "B")
    far = "gl_" + "z" * (len(good) - 3)
    times: dict[str, list[int]] = {near: [], far: []}
    for _ in range(200):
        for presented, taken in times.items():
            began = time.perf_counter_ns()
            for _ in range(50):
                ring.verify(presented)
            taken.append(time.perf_counter_ns() - began)

    # The quickest tenth is what the machine's other work did not touch.
    quick = [statistics.median(sorted(taken)[:20]) for taken in times.values()]
    # A comparison that stopped at the first difference would be many times apart, not by a busy machine's noise.
    assert abs(quick[0] - quick[1]) / max(quick) < 0.5
