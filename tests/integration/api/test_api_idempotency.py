from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import pytest

from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio


async def test_a_repeated_submission_makes_one_job(api: Api) -> None:
    """Same key, same body: the same bytes again, and it says so; another body or path is refused."""
    body = b'{"labels":["Ada"],"documents":[{"text":"Ada"}]}'
    headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}

    first = await api.client.post("/v1/jobs", content=body, headers=headers)
    again = await api.client.post("/v1/jobs", content=body, headers=headers)

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(await api.worker.take_messages()) == 1

    other = await api.client.post("/v1/jobs", content=body + b" ", headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    path = await api.client.post("/v1/extract", content=body, headers=headers)
    assert (path.status_code, path.json()["code"]) == (422, "idempotency_key_reused")
    theirs = await api.client.post("/v1/jobs", content=body, headers={**headers, **api.as_role("other")})
    assert theirs.status_code == 202
    assert theirs.json()["id"] != first.json()["id"]


async def test_submissions_at_once_with_one_key_make_one_job(api: Api) -> None:
    """Twenty racing clients make one job; the others get its response or are asked to retry."""
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}

    responses = await asyncio.gather(
        *(api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "race"}) for _ in range(20))
    )

    assert {response.status_code for response in responses} <= {202, 409}
    assert len({response.json()["id"] for response in responses if response.status_code == 202}) == 1
    assert all(response.headers["retry-after"] for response in responses)
    assert len(await api.worker.take_messages()) == 1


async def test_a_refused_submission_does_not_use_up_its_key(api: Api) -> None:
    """After a mistake the corrected request may carry the same key."""
    headers = {"Idempotency-Key": "k"}
    wrong = await api.client.post("/v1/jobs", json={"documents": []}, headers=headers)
    assert wrong.status_code == 422

    right = await api.client.post(
        "/v1/jobs", json={"labels": ["Ada"], "documents": [{"text": "x"}]}, headers=headers
    )
    assert right.status_code == 202


async def test_the_answer_kept_for_a_key_is_sealed(ledger_url: str, broker_url: str, tmp_path: Path) -> None:
    """With encryption keys nothing a client sent is readable in the store, nor in the answer kept for its key."""
    key = base64.b64encode(os.urandom(32)).decode()
    async with running_api(ledger_url, broker_url, tmp_path, encryption_keys=(key,)) as api:
        body = {
            "labels": ["MARKER"],
            "documents": [{"text": "MARKER in the text", "id": "a"}],
            "metadata": {"note": "MARKER"},
        }
        response = await api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
        assert response.status_code == 202
        for name in await api.store.keys("*"):
            assert b"MARKER" not in (await api.store.dump(name) or b"")
        await api.worker.run_shards()
        job = await api.get_job(response.json()["id"])
        assert job["metadata"] == {"note": "MARKER"}
        again = await api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
        assert again.content == response.content
