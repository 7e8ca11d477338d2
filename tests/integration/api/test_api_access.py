"""Permissions of every route x role x foreign tenant, against the real app and Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.submission.create import new_job_id
from jobs import api_keys
from jobs.api_keys import Role
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio

NO_KEY: tuple[dict[str, str], ...] = (
    {},
    {"X-API-Key": "gl_wrong"},
    {"Authorization": "Basic eDp5"},
    {"Authorization": "Bearer "},
)
OPEN = {"/livez", "/readyz", "/problems/{code}"}
ADMIN_S = {"/v1/queue"}


@pytest.fixture
async def api(ledger_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """Run a gateway with the default settings; no key is sent unless a test does."""
    async with running_api(ledger_url, broker_url, tmp_path) as running:
        running.client.headers.pop("Authorization")
        yield running


def routes(api: Api) -> list[tuple[str, str]]:
    """Every (method, path) of the API, ids filled in with some that exist nowhere."""
    return [
        (method, _filled(path))
        for path, item in api.app.openapi()["paths"].items()
        for method in item
        if path not in OPEN
    ]


def lowest(method: str, path: str) -> Role:
    """Return the role that a route requires."""
    if path in ADMIN_S:
        return Role.ADMIN
    return Role.VIEWER if method == "get" else Role.SUBMITTER


def _filled(path: str) -> str:
    ids = {"job_id": new_job_id(), "doc_id": "0", "endpoint_id": "ep_none", "delivery_id": "dlv_none"}
    ids["name"] = "none"
    for name, value in ids.items():
        path = path.replace("{" + name + "}", value)
    assert "{" not in path, f"no value for {path}"
    return path


async def test_every_route_needs_a_key(api: Api) -> None:
    """401 with a challenge, before anything of the request is read."""
    for method, path in routes(api):
        for headers in (
            {},
            {"X-API-Key": "gl_wrong"},
            {"Authorization": "Basic eDp5"},
            {"Authorization": "Bearer "},
        ):
            response = await api.client.request(method, path, headers=headers, content=b"{")
            assert (response.status_code, response.json()["code"]) == (401, "unauthenticated"), (method, path)
            assert response.headers["www-authenticate"].startswith("Bearer")


async def test_probes_and_docs_need_none(api: Api) -> None:
    """Monitoring and newcomers open these pages first, without a key."""
    for path in ("/livez", "/readyz", "/openapi.json", "/docs", "/redoc", "/docs/start.js", "/problems/forbidden"):
        assert (await api.client.get(path)).status_code == 200, path
    assets = await api.client.get("/docs/assets/swagger-ui.css")
    assert (assets.status_code, assets.headers["content-type"].split(";")[0]) == (200, "text/css")


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_do_its_own_and_no_more(api: Api, role: Role) -> None:
    """A viewer reads; a submitter also changes; 403 comes before it is known whether the thing exists."""
    for method, path in routes(api):
        response = await api.client.request(method, path, headers=api.as_role(role), content=b"{")
        allowed = role.includes(lowest(method, path))
        if allowed:
            assert response.status_code not in (401, 403), (method, path)
        else:
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), (method, path)
        assert response.status_code < 500, (method, path)


@pytest.mark.parametrize("role", ["viewer", "submitter", "admin"])
async def test_another_tenant_s_job_is_not_there(api: Api, role: str) -> None:
    """404 for every role, exactly like a job that never was; and nothing happens to it."""
    theirs = await _job_of(api, "other")
    nowhere = new_job_id()

    for method, path in (
        ("GET", "/v1/jobs/{}"),
        ("GET", "/v1/jobs/{}/results"),
        ("GET", "/v1/jobs/{}/documents/0"),
        ("GET", "/v1/jobs/{}/events"),
        ("POST", "/v1/jobs/{}/retry"),
        ("POST", "/v1/jobs/{}/cancel"),
        ("DELETE", "/v1/jobs/{}"),
    ):
        if role == "viewer" and method != "GET":
            continue
        answers = [
            await api.client.request(method, path.format(job), headers=api.as_role(role))
            for job in (theirs, nowhere)
        ]
        bodies = [{**answer.json(), "request_id": None} for answer in answers]
        assert bodies[0] == bodies[1]
        assert (answers[0].status_code, bodies[0]["code"]) == (404, "job_not_found")
    mine = await api.client.get(f"/v1/jobs/{theirs}", headers=api.as_role("other"))
    assert mine.json()["status"] == "queued"


async def test_either_header_carries_the_key_and_bearer_wins(api: Api) -> None:
    """Both spellings; the scheme's name in any case."""
    good, bad = api.keys["viewer"], "gl_bad"

    for headers, status in (
        ({"X-API-Key": good}, 200),
        ({"Authorization": f"bearer {good}"}, 200),
        ({"Authorization": f"Bearer {good}", "X-API-Key": bad}, 200),
        ({"Authorization": f"Bearer {bad}", "X-API-Key": good}, 401),
        ({"Authorization": f"Basic {good}", "X-API-Key": good}, 200),
    ):
        assert (await api.client.get("/v1/models", headers=headers)).status_code == status


async def test_a_key_in_the_query_or_a_cookie_is_not_looked_at(api: Api) -> None:
    """A key counts in a header alone: URLs are logged, and browsers send cookies by themselves."""
    key = api.keys["admin"]

    assert (await api.client.get(f"/v1/models?api_key={key}")).status_code == 401
    assert (await api.client.get("/v1/models", headers={"Cookie": f"gleaner_api_key={key}"})).status_code == 401


async def test_a_new_key_works_and_a_revoked_one_stops(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway follows its keys file without a restart."""
    monkeypatch.setattr(api_keys, "RELOAD_EVERY_S", 0)
    new = api_keys.create_key(api.keys_file, tenant="acme", role=Role.VIEWER)
    headers = {"X-API-Key": new.key}

    assert (await api.client.get("/v1/models", headers=headers)).status_code == 200
    api_keys.revoke_key(api.keys_file, new.key_id)
    assert (await api.client.get("/v1/models", headers=headers)).status_code == 401


async def test_auth_off_makes_everybody_the_local_admin(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """On loopback, by choice; the log says so."""
    async with running_api(ledger_url, broker_url, tmp_path, auth="off") as api:
        api.client.headers.pop("Authorization")

        assert (await api.client.get("/v1/models")).status_code == 200


async def test_no_key_reaches_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a good one nor a bad one."""
    with caplog.at_level("DEBUG"):
        await api.client.get("/v1/models", headers={"X-API-Key": api.keys["admin"]})
        await api.client.get("/v1/models", headers={"X-API-Key": "gl_MARKER"})

    logged = str([record.__dict__ for record in caplog.records if not record.name.startswith("httpx")])
    assert api.keys["admin"] not in logged
    assert "gl_MARKER" not in logged


async def _job_of(api: Api, role: str) -> str:
    body: dict[str, Any] = {"labels": ["a"], "documents": [{"text": "b"}]}
    response = await api.client.post("/v1/jobs", json=body, headers=api.as_role(role))
    job_id: str = response.json()["id"]
    return job_id
