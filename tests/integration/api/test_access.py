"""Every route x role x tenant, taken from the app itself: no new route is left out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from gateway.routes.dependencies import Require
from gateway.submission.create import new_job_id
from jobs import api_keys, ledger
from jobs.api_keys import Role
from jobs.ledger import NewJob
from jobs.ledger.store import PREFIX, load_script
from jobs.schema import Priority
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio

PUBLIC = {
    "/livez", "/readyz", "/problems/{code}",
    "/", "/console", "/openapi.json", "/docs", "/docs/start.js", "/docs/assets", "/redoc",
}  # fmt: skip
"""What needs no key. A route of no key must be put here, by somebody who thought about it."""
UNUSUAL = {
    ("GET", "/v1/queue"): Role.ADMIN,
    ("POST", "/v1/session"): Role.VIEWER,
    ("DELETE", "/v1/session"): Role.VIEWER,
}
"""Where the rule does not hold that a viewer may GET and all else takes a submitter."""

CREATED_BY_NAME = ("PUT", "/v1/label-sets/{name}")
"""Names an object of the caller's tenant, whatever other tenants have."""
PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
BODIES = {"/v1/webhook-endpoints/{endpoint_id}/recover": {"since": "2026-01-01T00:00:00Z"}}
"""What a route must be sent besides {}."""
TENANTS = JOBS = 100


@dataclass(frozen=True)
class Row:
    """A method of a route, and the role that it requires."""

    method: str
    path: str
    require: Require | None

    @property
    def expected(self) -> Role:
        """The lowest role that should be let through."""
        default = Role.VIEWER if self.method == "GET" else Role.SUBMITTER
        return UNUSUAL.get((self.method, self.path), default)


def rows(app: FastAPI) -> Iterator[Row]:
    """Yield everything that the app serves."""
    for route in app.routes:
        contexts = getattr(route, "effective_route_contexts", lambda route=route: [route])()
        for context in contexts:
            for method in sorted((getattr(context, "methods", None) or {"GET"}) - {"HEAD"}):
                yield Row(method, context.path, _require(getattr(context, "dependant", None)))


def _require(dependant: Any) -> Require | None:
    if dependant is None:
        return None
    dependencies = [item.call for item in dependant.dependencies if isinstance(item.call, Require)]
    assert len(dependencies) <= 1
    return dependencies[0] if dependencies else None


@pytest.fixture
async def api(ledger_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """Run a gateway with every optional route; no key is sent unless a test does."""
    settings = {"auth_cookie": True, "webhook_allow": "127.0.0.0/8", "webhook_allow_http": True}
    async with running_api(ledger_url, broker_url, tmp_path, **settings) as running:
        running.client.headers.pop("Authorization")
        yield running


async def test_every_route_asks_for_the_role_that_the_rule_says(api: Api) -> None:
    """A viewer reads, a submitter changes; every route without a role is on the list of public ones."""
    routes = list(rows(api.app))

    assert len(routes) > 20
    for row in routes:
        if row.require is None:
            assert row.path in PUBLIC, f"{row.method} {row.path} needs no key"
        else:
            assert row.require.role is row.expected, f"{row.method} {row.path}"


@pytest.mark.parametrize("who", ["nobody", "a stranger", *Role])
async def test_the_matrix_of_routes_and_roles(api: Api, who: str) -> None:
    """401 without a good key, 403 with a role too low whether or not the thing exists, never a 5xx."""
    roles = set(map(str, Role))
    headers = {"nobody": {}, "a stranger": {"X-API-Key": "gl_unknown"}}
    for row in rows(api.app):
        if row.require is None:
            continue
        path = PARAMETER.sub("none", row.path)
        response = await api.client.request(
            row.method, path, headers=headers[who] if who in headers else _key(api, who), content=b"{"
        )
        name = f"{row.method} {row.path} as {who}"
        if who not in roles:
            assert (response.status_code, response.json()["code"]) == (401, "unauthenticated"), name
        elif not Role(who).includes(row.expected):
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), name
        else:
            assert response.status_code not in (401, 403), name
        assert response.status_code < 500, name


async def test_what_is_another_tenant_s_is_not_there_on_any_route(api: Api) -> None:
    """Each id of ours is 404 to another tenant's admin on every route that takes one, and nothing changes.

    With the owner's key the same requests succeed: the ids are valid.
    """
    ids = await _things(api)
    named = [
        row
        for row in rows(api.app)
        if row.require is not None and "{" in row.path and (row.method, row.path) != CREATED_BY_NAME
    ]
    before = await _seen(api, ids)
    for row in named:
        response = await _ask(api, row, ids, "other")
        assert response.status_code == 404, f"{row.method} {row.path}: {response.text}"
    assert await _seen(api, ids) == before

    for row in sorted(named, key=lambda row: row.method == "DELETE"):
        response = await _ask(api, row, ids, "submitter")
        assert response.status_code not in (401, 403, 404), f"{row.method} {row.path}: {response.text}"


async def test_a_hundred_tenants_see_a_hundred_jobs_of_their_own(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, at the same time, also with cursors of one another: no list holds another tenant's job."""
    monkeypatch.setattr(api_keys, "RELOAD_EVERY_S", 0)
    tenants = [f"tenant-{number:02}" for number in range(TENANTS)]
    keys = {name: api_keys.create_key(api.keys_file, tenant=name, role=Role.VIEWER).key for name in tenants}
    owned: dict[str, set[str]] = {}
    for name in tenants:
        owned[name] = await _jobs_of(api, name)
    turns = asyncio.Semaphore(8)

    async def page(name: str, cursor: str | None) -> dict[str, Any]:
        params = {"limit": "60", **({"cursor": cursor} if cursor else {})}
        async with turns:
            answer = await api.client.get("/v1/jobs", params=params, headers={"X-API-Key": keys[name]})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def all_of(name: str) -> str:
        seen: list[str] = []
        first = cursor = None
        while cursor is not None or first is None:
            body = await page(name, cursor)
            seen += [job["id"] for job in body["data"]]
            cursor = body["next_cursor"]
            first = first or cursor
        assert len(seen) == JOBS
        assert set(seen) == owned[name]
        assert first is not None
        return first

    cursors = await asyncio.gather(*map(all_of, tenants))
    for name, cursor in zip(tenants, reversed(cursors), strict=True):
        ids = {job["id"] for job in (await page(name, cursor))["data"]}
        assert ids <= owned[name]


async def _jobs_of(api: Api, tenant: str) -> set[str]:
    """Create a tenant's jobs in the ledger: ten thousand submissions would take too long."""
    script = load_script("create_job")
    await api.store.script_load(script.source)
    pipeline = api.store.pipeline(transaction=False)
    ids = [new_job_id() for _ in range(JOBS)]
    for job_id in ids:
        call = ledger.create_job(
            NewJob(
                id=job_id,
                tenant=tenant,
                model="gleaner-small",
                priority=Priority.STANDARD,
                opts=b"",
                sizes=[(1, 1)],
                blobs=[b"x"],
                deadline_s=3600,
                result_ttl_s=3600,
            )
        )
        pipeline.evalsha(script.sha, 1, PREFIX, *call.args)
    assert {reply[0] for reply in await pipeline.execute()} == {b"created"}
    return set(ids)


def _key(api: Api, who: str) -> dict[str, str]:
    return {"X-API-Key": api.keys[who]}


async def _things(api: Api) -> dict[str, str]:
    """Create an object of each kind with an id; return the ids by path parameter."""
    mine = _key(api, "submitter")
    endpoint = await api.client.post(
        "/v1/webhook-endpoints", json={"url": "http://127.0.0.1:9999/hook", "all_jobs": True}, headers=mine
    )
    assert endpoint.status_code == 201, endpoint.text
    label_set = await api.client.put("/v1/label-sets/drugs", json={"labels": ["drug"]}, headers=mine)
    assert label_set.status_code == 201, label_set.text
    job = await api.client.post("/v1/jobs", json={"labels": ["Ada"], "documents": [{"text": "Ada"}]}, headers=mine)
    await api.worker.run_shards()
    endpoint_id = endpoint.json()["id"]
    sent = await api.client.get(f"/v1/webhook-endpoints/{endpoint_id}/deliveries", headers=mine)
    return {
        "job_id": job.json()["id"],
        "doc_id": "0",
        "document_id": "0",
        "endpoint_id": endpoint_id,
        "name": "drugs",
        "delivery_id": sent.json()["data"][0]["id"],
    }


async def _ask(api: Api, row: Row, ids: dict[str, str], who: str) -> Any:
    for name in PARAMETER.findall(row.path):
        assert name in ids, f"{row.path}: give this test an id for {{{name}}}"
    path = PARAMETER.sub(lambda match: ids[match[1]], row.path)
    body = {} if row.method in ("GET", "DELETE") else {"json": BODIES.get(row.path, {})}
    return await api.client.request(row.method, path, headers=_key(api, who), **body)  # type: ignore[arg-type]


async def _seen(api: Api, ids: dict[str, str]) -> list[str]:
    """Return the objects as the owner sees them."""
    paths = (
        "/v1/jobs/{job_id}", "/v1/label-sets/{name}", "/v1/webhook-endpoints/{endpoint_id}",
        "/v1/deliveries/{delivery_id}",
    )  # fmt: skip
    answers = [await api.client.get(path.format(**ids), headers=_key(api, "submitter")) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.text for answer in answers]
