"""Rate limits of a running gateway: counted in Redis, for keys, tenants and addresses."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs import api_keys
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio

BODY = {"labels": ["Ada"], "documents": [{"text": "Ada"}, {"text": "Bob"}]}


@pytest.fixture
def limited(ledger_url: str, broker_url: str, tmp_path: Path) -> Any:
    """Return a function that starts a gateway with these limits."""

    def start(**settings: Any) -> AbstractAsyncContextManager[Api]:
        return running_api(ledger_url, broker_url, tmp_path, **settings)

    return start


async def test_nothing_is_limited_by_default(limited: Any) -> None:
    """The local stack has no rate limit, and no header that speaks of one."""
    async with limited() as api:
        answers = [await api.client.get("/v1/models") for _ in range(50)]
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers
        assert (await api.client.get("/v1/limits")).json()["rates"] == []


async def test_requests_a_second_are_counted_and_refused(limited: Any) -> None:
    """429 with Retry-After after the last one; the headers count down; a second later it goes on."""
    async with limited(key_requests_per_s=5) as api:
        answers = [await api.client.get("/v1/models") for _ in range(6)]

        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert answers[0].headers["ratelimit-policy"] == '"requests-key";q=5;w=1'
        left = [
            int(re.findall(r'"requests-key";r=(\d+);t=\d+', answer.headers["ratelimit"])[0]) for answer in answers
        ]
        assert left == [4, 3, 2, 1, 0, 0]
        assert (answers[5].json()["code"], answers[5].headers["retry-after"]) == ("rate_limited", "1")
        assert (await api.client.get("/v1/models", headers=api.as_role("viewer"))).status_code == 200
        metrics = api.app.state.services.metrics
        assert metrics.limited.labels("requests", "key")._value.get() == 1


async def test_the_keys_of_a_tenant_share_its_limit(limited: Any) -> None:
    """Another tenant is not touched."""
    async with limited(tenant_requests_per_s=4) as api:
        codes = [
            (await api.client.get("/v1/models", headers=api.as_role(role))).status_code
            for role in ("viewer", "submitter", "admin", "viewer", "submitter", "other")
        ]
        assert codes == [200, 200, 200, 200, 429, 200]


async def test_a_key_may_have_limits_of_its_own(limited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand before everyone's, and a rotated key keeps them."""
    monkeypatch.setattr(api_keys, "RELOAD_EVERY_S", 0)
    async with limited(key_requests_per_s=100) as api:
        slow = api_keys.create_key(api.keys_file, tenant="acme", role="viewer", limits={"requests_per_s": 1})
        for key in (slow.key, api_keys.rotate_key(api.keys_file, slow.key_id).key):
            codes = [
                (await api.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})).status_code
                for _ in range(2)
            ]
            assert codes == [200, 429]


async def test_submissions_have_a_rate_of_their_own(limited: Any) -> None:
    """Polling costs none of it."""
    async with limited(tenant_submits_per_s=2) as api:
        assert {(await api.client.get("/v1/models")).status_code for _ in range(5)} == {200}
        codes = [(await api.client.post("/v1/jobs", json=BODY)).status_code for _ in range(3)]
        assert codes == [202, 202, 429]


async def test_documents_a_day_hold_under_a_rush(limited: Any) -> None:
    """However many come at once, exactly as many as are allowed pass; the rest get a Retry-After."""
    async with limited(tenant_documents_per_day=10) as api:
        answers = await asyncio.gather(*(api.client.post("/v1/jobs", json=BODY) for _ in range(20)))

        assert Counter(answer.status_code for answer in answers) == {202: 5, 429: 15}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["code"] == "quota_exceeded"
        assert 80_000 < int(refused.headers["retry-after"]) <= 2 * 86_400
        assert '"documents-tenant";q=10;w=86400' in refused.headers["ratelimit-policy"]
        assert api.app.state.services.metrics.limited.labels("documents", "tenant")._value.get() == 15


async def test_what_was_not_accepted_costs_nothing(limited: Any) -> None:
    """A refused job gives its documents back; a repeated answer takes none."""
    async with limited(key_documents_per_day=5, key_characters_per_day=1000, tenant_max_open_jobs=1) as api:

        async def left() -> list[int]:
            rates = (await api.client.get("/v1/limits")).json()["rates"]
            return [rate["remaining"] for rate in rates]

        headers = {"Idempotency-Key": "a"}
        assert [(await api.client.post("/v1/jobs", json=BODY, headers=headers)).status_code for _ in range(3)] == [
            202
        ] * 3
        assert await left() == [3, 994]
        assert (await api.client.post("/v1/jobs", json=BODY)).json()["code"] == "quota_exceeded"
        assert (await api.client.post("/v1/jobs", json={**BODY, "labels": []})).status_code == 422
        assert await left() == [3, 994]


async def test_a_job_that_could_never_pass_is_not_told_to_come_back(limited: Any) -> None:
    """It is larger than the whole quota."""
    async with limited(key_characters_per_day=5) as api:
        answer = await api.client.post("/v1/jobs", json=BODY)
        assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
        assert "retry-after" not in answer.headers
        assert "6 are more" in answer.json()["detail"]


async def test_open_jobs_of_a_key(limited: Any) -> None:
    """The ledger counts them, exactly, and a job that ends makes room."""
    async with limited(key_open_jobs=2) as api:
        answers = await asyncio.gather(*(api.client.post("/v1/jobs", json=BODY) for _ in range(6)))
        assert Counter(answer.status_code for answer in answers) == {202: 2, 429: 4}
        assert (await api.client.post("/v1/jobs", json=BODY, headers=api.as_role("admin"))).status_code == 202
        assert (await api.client.get("/v1/limits")).json()["open"] | {"characters": 0} == {
            "key_jobs": 2, "key_jobs_limit": 2, "jobs": 3, "jobs_limit": None,
            "characters": 0, "characters_limit": None,
        }  # fmt: skip

        await api.worker.run_shards()
        assert (await api.client.get("/v1/limits")).json()["open"]["key_jobs"] == 0
        assert (await api.client.post("/v1/jobs", json=BODY)).status_code == 202


async def test_limits_say_what_is_left_and_what_a_202_means(limited: Any) -> None:
    """All of it in one answer, for the key that asks."""
    async with limited(key_requests_per_s=50, tenant_documents_per_day=100) as api:
        await api.client.post("/v1/jobs", json=BODY)
        body = (await api.client.get("/v1/limits")).json()

        assert (body["tenant"], body["role"]) == ("acme", "submitter")
        rates = {rate["name"]: rate for rate in body["rates"]}
        assert rates["requests-key"]["remaining"] == 48
        assert rates["documents-tenant"] | {"resets_in_s": 0} == {
            "name": "documents-tenant", "measure": "documents", "scope": "tenant", "limit": 100,
            "window_s": 86400, "remaining": 98, "resets_in_s": 0,
        }  # fmt: skip
        assert body["durability"] == {"accepted_when": "disk", "append_only": True}
        assert body["request"]["content_encodings"] == ["gzip", "zstd"]


async def test_bad_keys_from_one_address_are_slowed_and_good_ones_are_not(limited: Any) -> None:
    """429 instead of 401 above the limit; the address is the client's, also behind a proxy that is trusted."""
    async with limited(auth_failures_per_minute=3, trusted_proxies="127.0.0.1") as api:

        async def attempt(address: str, key: str = "gl_guess") -> httpx.Response:
            headers = {"X-API-Key": key, "X-Forwarded-For": address}
            api.client.headers.pop("Authorization", None)
            response: httpx.Response = await api.client.get("/v1/models", headers=headers)
            return response

        codes = [(await attempt("198.51.100.7")).status_code for _ in range(5)]
        assert codes == [401, 401, 401, 429, 429]
        refused = await attempt("198.51.100.7")
        assert refused.json()["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        assert (await attempt("198.51.100.7", api.keys["viewer"])).status_code == 200
        assert (await attempt("198.51.100.8")).status_code == 401
        # A client cannot choose its address: entries before the proxy's are ignored.
        assert (await attempt("203.0.113.1, 198.51.100.7")).status_code == 429
        failures = api.app.state.services.metrics.auth_failures
        assert failures.labels("limited")._value.get() == 4
        assert failures.labels("bad")._value.get() == 4


async def test_a_store_that_is_gone_is_no_open_door(limited: Any) -> None:
    """A request that cannot be counted gets 503, as a job that cannot be created."""
    async with limited(key_requests_per_s=5, store_timeout_s=0.2) as api:

        async def broken(*_: object) -> None:
            raise ConnectionRefusedError

        api.app.state.services.limiter._ledger._client.execute_command = broken
        answer = await api.client.get("/v1/models")
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
