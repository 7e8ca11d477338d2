from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from gateway.http.openapi import ProblemBody
from gateway.submission import accept
from gateway.submission.create import new_job_id
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio


async def test_a_queue_that_cannot_be_reached_does_not_fail_the_submission(ledger_url: str, tmp_path: Path) -> None:
    """The ledger has the job; upkeep will publish its shards."""
    async with running_api(ledger_url, f"unix://{tmp_path}/nothing", tmp_path) as api:
        job_id = await api.submit("Ada")

        assert (await api.get_job(job_id))["status"] == "queued"


async def test_a_store_that_cannot_be_reached_is_503(broker_url: str, tmp_path: Path) -> None:
    """storage_unavailable with Retry-After on every route that needs it, readyz included; livez stays well."""
    async with running_api(f"unix://{tmp_path}/nothing", broker_url, tmp_path) as api:
        body = {"labels": ["a"], "documents": [{"text": "b"}]}
        job = f"/v1/jobs/{new_job_id()}"
        for response in (
            await api.client.post("/v1/jobs", json=body),
            await api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"}),
            await api.client.post("/v1/extract", json=body),
            await api.client.get(job),
            await api.client.get(f"{job}/results"),
            await api.client.get("/v1/models"),
            await api.client.get("/readyz"),
        ):
            assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
            assert int(response.headers["retry-after"]) > 0
        assert (await api.client.get("/livez")).status_code == 200


async def test_a_full_tenant_gets_429_and_a_full_service_503(
    ledger_url: str, broker_url: str, tmp_path: Path
) -> None:
    """With Retry-After, and the refused key is free again."""
    settings = {"tenant_max_open_jobs": 1, "max_open_characters": 10}
    async with running_api(ledger_url, broker_url, tmp_path, **settings) as api:
        await api.submit("Ada")
        body = {"labels": ["a"], "documents": [{"text": "b" * 20}]}
        headers = {"Idempotency-Key": "k"}

        quota = await api.client.post("/v1/jobs", json=body, headers=headers)
        assert (quota.status_code, quota.json()["code"]) == (429, "quota_exceeded")
        full = await api.client.post("/v1/jobs", json=body, headers=api.as_role("other"))
        assert (full.status_code, full.json()["code"]) == (503, "overloaded")
        assert int(quota.headers["retry-after"]) > 0
        assert int(full.headers["retry-after"]) > 0

        await api.worker.run_shards()
        assert (await api.client.post("/v1/jobs", json=body, headers=headers)).status_code == 202


async def test_ready_means_writable(api: Api) -> None:
    """A probe without a key; one whose store refuses writes is degraded, within the second that a look is kept."""
    api.client.headers.pop("Authorization")
    assert (await api.client.get("/readyz")).json() == {"status": "ok"}

    await api.store.config_set("maxmemory", "1mb")
    try:
        async with asyncio.timeout(5):
            while (await api.client.get("/readyz")).json()["status"] != "degraded":  # noqa: ASYNC110  # a look has no event
                await asyncio.sleep(0.05)
        assert (await api.client.get("/livez")).status_code == 200
    finally:
        await api.store.config_set("maxmemory", "0")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b'{"labels":["a"],"documents":[{"text":"b"}],"options":{"threshold":NaN}}', 400, "malformed_json"),
        (b'{"labels":[],"documents":[{"text":"b"}]}', 422, "validation_failed"),
        (b'{"labels":["a"],"documents":[]}', 422, "validation_failed"),
        (b'{"labels":["a"],"documents":[{"id":"x","text":"b"},{"id":"x","text":"b"}]}', 422, "validation_failed"),
        (b'{"labels":["a"],"documents":[{"text":"b"}],"colour":1}', 422, "validation_failed"),
        (
            b'{"labels":["a"],"documents":[' + b",".join([b'{"text":"b"}'] * 10_001) + b"]}",
            413,
            "too_many_documents",
        ),
        (b" " * (32 * 1024 * 1024 + 1), 413, "payload_too_large"),
    ],
    ids=["wrong json", "nan", "no labels", "no documents", "duplicate ids", "unknown field", "10,001", "too large"],
)
async def test_bad_input_gets_its_documented_error(api: Api, content: bytes, status: int, code: str) -> None:
    """Each as problem+json with a request id; no job is made."""
    response = await api.client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    ProblemBody.model_validate(response.json())
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert await api.worker.take_messages() == []


async def test_every_error_is_a_problem(api: Api) -> None:
    """Unknown paths, wrong methods, bad parameters: one shape."""
    job = f"/v1/jobs/{new_job_id()}"
    for method, path, status, code in (
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", job, 404, "job_not_found"),
        ("GET", "/v1/jobs/job_1", 404, "job_not_found"),
        ("GET", "/v1/jobs/%00", 404, "job_not_found"),
        ("GET", "/v1/jobs/*", 404, "job_not_found"),
        ("GET", f"{job}?wait=61", 422, "validation_failed"),
        ("GET", f"{job}?wait=soon", 422, "validation_failed"),
        ("GET", f"{job}/results?limit=0", 422, "validation_failed"),
        ("GET", f"{job}/results?cursor=nonsense", 400, "bad_cursor"),
        ("GET", "/problems/nothing", 404, "not_found"),
    ):
        response = await api.client.request(method, path)
        assert (response.status_code, response.json()["code"]) == (status, code), path
        assert response.headers["content-type"] == "application/problem+json"
    assert (await api.client.put("/v1/jobs")).headers["allow"] == "POST"
    assert (await api.client.get("/problems/overloaded")).json()["status"] == 503


async def test_a_failure_of_our_own_is_a_500_that_quotes_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """problem+json with the request id; the log names the place and not the message, which may hold a text."""

    def broken(*_: object) -> None:
        raise ValueError("SECRET TEXT")

    monkeypatch.setattr(accept, "new_job_id", broken)
    body = {"labels": ["a"], "documents": [{"text": "b"}]}
    response = await api.client.post("/v1/jobs", json=body, headers={"X-Request-ID": "req-1"})

    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert response.json()["request_id"] == response.headers["x-request-id"] == "req-1"
    failure = next(record for record in caplog.records if record.message == "http.failed")
    assert Path(__file__).name in str(failure.__dict__["where"])
    assert "SECRET" not in str([record.__dict__ for record in caplog.records])


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "ключ"])
async def test_a_request_id_that_is_no_token_is_replaced(api: Api, request_id: str) -> None:
    """Nothing a client makes up gets into the log unchecked."""
    response = await api.client.get("/livez", headers=[(b"X-Request-ID", request_id.encode())])

    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/extract"])
async def test_a_route_without_dependency_resolution_refuses_as_with_it(api: Api, path: str) -> None:
    """FastAPI resolves the dependencies of the submit routes only for a request with a query."""
    unknown, viewer, text = (
        {"X-API-Key": "gl_no", "Authorization": ""},
        api.as_role("viewer"),
        {"Content-Type": "text/plain"},
    )
    for headers, status in ((unknown, 401), (viewer, 403), (text, 415), ({}, 400)):
        sent = {"Content-Type": "application/json", **headers}
        answers = [await api.client.post(path + query, content="{", headers=sent) for query in ("", "?a=b")]
        assert [answer.status_code for answer in answers] == [status, status]
        direct, resolved = (answer.json() | {"request_id": ""} for answer in answers)
        assert direct == resolved
    assert (await api.client.put(path)).status_code == 405
