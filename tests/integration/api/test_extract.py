from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.schemas.results import Extraction
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio


async def test_extract_answers_with_results(api: Api) -> None:
    """200 with the job and every result, by way of the interactive queue."""
    response, _ = await asyncio.gather(
        api.client.post("/v1/extract", json={"labels": ["Ada"], "documents": [{"text": "Ada"}, {"text": ""}]}),
        api.worker.run_next_shards(),
    )

    assert response.status_code == 200
    body = response.json()
    Extraction.model_validate(body)
    assert (body["job"]["status"], body["job"]["priority"]) == ("partially_succeeded", "interactive")
    assert [result["status"] for result in body["results"]] == ["succeeded", "failed"]


async def test_extract_hands_over_to_the_job_when_it_takes_long(
    ledger_url: str, broker_url: str, tmp_path: Path
) -> None:
    """202 with the job after the wait; a repeat with the key gets the results once they are there."""
    async with running_api(ledger_url, broker_url, tmp_path, extract_wait_s=0.05) as api:
        body = {"labels": ["Ada"], "documents": [{"text": "Ada"}]}
        slow = await api.client.post("/v1/extract", json=body, headers={"Idempotency-Key": "k"})
        assert (slow.status_code, slow.json()["status"]) == (202, "queued")
        assert slow.headers["location"] == slow.json()["urls"]["self"]
        await api.worker.run_shards()

        again = await api.client.post("/v1/extract", json=body, headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
        assert again.json()["job"]["id"] == slow.json()["id"]


async def test_large_answers_are_whole_in_any_form(api: Api) -> None:
    """A streamed result has the same content as a small one: in the call, as a page, alone."""
    texts = [f"Ada {n} " + "x" * 300_000 for n in range(3)]
    body = {"labels": ["Ada"], "documents": [{"text": text} for text in texts], "options": {"return_text": True}}
    asking = asyncio.create_task(api.client.post("/v1/extract", json=body))
    await api.worker.run_next_shards()
    answer = (await asking).json()
    assert [result["text"] for result in answer["results"]] == texts
    job = answer["job"]["id"]
    page = (await api.client.get(f"/v1/jobs/{job}/results")).json()
    assert (page["data"], page["next_cursor"], page["complete"]) == (answer["results"], None, True)
    for n in range(3):
        assert (await api.client.get(f"/v1/jobs/{job}/documents/{n}")).json() == answer["results"][n]
    assert (await api.client.get(f"/v1/jobs/{job}/documents/3")).status_code == 404


async def test_what_is_left_of_large_documents_is_retried(api: Api) -> None:
    """A retry opens the documents that did not run, however large, and omits none."""
    texts = [f"Ada {n} " + "x" * 300_000 for n in range(3)]
    job_id = await api.submit(*texts, options={"return_text": True})
    await api.client.post(f"/v1/jobs/{job_id}/cancel")
    page = (await api.client.get(f"/v1/jobs/{job_id}/results")).json()
    assert [row["status"] for row in page["data"]] == 3 * ["cancelled"]
    retried = (await api.client.post(f"/v1/jobs/{job_id}/retry")).json()["id"]
    await api.worker.run_shards()
    rows = (await api.client.get(f"/v1/jobs/{retried}/results")).json()["data"]
    assert [row["text"] for row in rows] == texts


async def test_extract_takes_few_documents(api: Api) -> None:
    """33 are too many."""
    body = {"labels": ["a"], "documents": [{"text": "b"}] * 33}

    response = await api.client.post("/v1/extract", json=body)
    assert (response.status_code, response.json()["code"]) == (413, "too_many_documents")
