from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.access.auth import Caller
from gateway.http.middleware import StreamAbortedError
from gateway.http.schemas.jobs import JobBody
from gateway.http.schemas.models import ModelsPage
from gateway.http.schemas.problems import ProblemBody
from gateway.http.schemas.results import Extraction, ResultsPage
from gateway.reading.encoding import ReadOptions
from gateway.reading.results import ResultsReader
from gateway.reading.rows import encode_ndjson_line
from gateway.submission import accept
from gateway.submission.create import new_job_id
from jobs import ledger
from jobs.api_keys import Role
from jobs.schema import Job
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api(ledger_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """Run a gateway with the default settings."""
    async with running_api(ledger_url, broker_url, tmp_path) as running:
        yield running


async def test_models_say_their_threshold_and_limits(api: Api) -> None:
    """They are those that the workers announced, and null before; the limit of labels is the service's."""
    [before] = (await api.client.get("/v1/models")).json()["data"]
    assert (before["default_threshold"], before["limits"]) == (None, None)

    facts = ledger.ModelFacts(words_per_window=384, tokens_per_row=512, words_per_entity=12, default_threshold=0.3)
    await api.worker.store.run(ledger.announce_worker(before["name"], "w", 4, "rev-1", facts))

    [after] = (await api.client.get("/v1/models")).json()["data"]
    assert after["default_threshold"] == 0.3
    assert after["limits"] == {
        "words_per_window": 384, "tokens_per_row": 512, "words_per_entity": 12, "labels": 100,
    }  # fmt: skip


@pytest.mark.parametrize(("options", "stored"), [({}, {}), ({"threshold": 0.5}, {"threshold": 0.5})])
async def test_a_threshold_is_stored_where_it_was_asked_for(
    api: Api, options: dict[str, Any], stored: dict[str, Any]
) -> None:
    """0.5 too, so that it stays 0.5 on a model with another default; null is refused, as ever."""
    body = {"labels": ["Ada"], "documents": [{"text": "Ada"}], "options": options}
    job = (await api.client.post("/v1/jobs", json=body)).json()["id"]
    job_view = await api.worker.store.run(ledger.read_job(job))
    assert isinstance(job_view, Job)
    opts = orjson.loads(api.worker.codec.decode(job_view.opts, ledger.associated_data("opts", job)))
    assert opts["options"] == stored

    for at in ("options", "own"):
        null = {"threshold": None}
        document = {"text": "Ada"} | ({"options": null} if at == "own" else {})
        request = body | {"documents": [document], "options": null if at == "options" else {}}
        refused = await api.client.post("/v1/jobs", json=request)
        assert refused.status_code == 422
        assert "threshold" in refused.json()["errors"][0]["pointer"]


async def test_a_job_goes_from_submission_to_results(api: Api) -> None:
    """202 at once, counts while it runs, results in input order, entities that quote the text."""
    body = {
        "labels": ["Ada", "London"],
        "documents": [{"id": "a", "text": "Ada lived in London."}, {"text": "Nobody."}],
        "metadata": {"batch": "42"},
    }
    response = await api.client.post("/v1/jobs", json=body)

    assert response.status_code == 202
    assert response.headers["location"] == response.json()["urls"]["self"]
    assert response.headers["retry-after"] == "1"
    first = JobBody.model_validate(response.json(), strict=False)
    assert first.default_threshold is None
    assert (first.status, first.counts.queued, first.metadata) == ("queued", 2, {"batch": "42"})

    assert await api.worker.run_shards() == 1
    job = await api.get_job(first.id)
    assert (job["status"], job["progress"], job["model_revision"]) == ("succeeded", 1.0, "rev-1")
    assert job["default_threshold"] == 0.5
    assert job["counts"] == {
        "total": 2, "queued": 0, "running": 0, "succeeded": 2, "failed": 0, "cancelled": 0, "expired": 0,
    }  # fmt: skip
    assert (job["created_at"], job["deadline_at"]) == (first.created_at, first.deadline_at)
    assert job["metadata"] == {"batch": "42"}

    page = (await api.client.get(job["urls"]["results"])).json()
    ResultsPage.model_validate(page)
    assert (page["next_cursor"], page["complete"]) == (None, True)
    assert [result["id"] for result in page["data"]] == ["a", "1"]
    for entity in page["data"][0]["entities"]:
        assert body["documents"][0]["text"][entity["start"] : entity["end"]] == entity["text"]  # type: ignore[index]
    assert [entity["label"] for entity in page["data"][0]["entities"]] == ["Ada", "London"]


async def test_the_body_of_a_202_is_what_a_read_right_after_says(api: Api) -> None:
    """The answer written before the job is made is true of it."""
    response = await api.client.post("/v1/jobs", json={"labels": ["a"], "documents": [{"text": "b"}]})

    read = await api.get_job(response.json()["id"])
    assert {**read, "queue_position": None} == response.json()
    assert read["queue_position"] == 1


async def test_bad_documents_fail_alone_on_the_whole_path(api: Api) -> None:
    """Empty, broken and oversize texts become typed results; their neighbours succeed."""
    job_id = await api.submit("Ada", "", "\udfffa", "a\ud800b", "x" * 5_000_000, " \n", "Ada")
    await api.worker.run_shards()

    job = await api.get_job(job_id)
    assert job["status"] == "partially_succeeded"
    assert job["error_summary"] == [
        {"code": "document_too_large", "count": 1},
        {"code": "empty_text", "count": 2},
        {"code": "invalid_text", "count": 2},
    ]
    data = (await api.client.get(f"/v1/jobs/{job_id}/results")).json()["data"]
    codes = [result["error"] and result["error"]["code"] for result in data]
    assert codes == [None, "empty_text", "invalid_text", "invalid_text", "document_too_large", "empty_text", None]
    assert [result["status"] for result in data].count("succeeded") == 2


async def test_a_job_of_bad_documents_only_is_accepted_and_fails(api: Api) -> None:
    """A job that no model will see takes the same path as any other."""
    job_id = await api.submit("", " ")
    await api.worker.run_shards()

    assert (await api.get_job(job_id))["status"] == "failed"


@pytest.mark.parametrize("size", [1, 40, 100])
async def test_pages_join_to_the_whole(api: Api, size: int) -> None:
    """Whatever the page size, every document comes once, in order, and the last page says so."""
    texts = [f"Ada {n}" for n in range(100)]
    job_id = await api.submit(*texts)
    await api.worker.run_shards()

    seen: list[int] = []
    cursor: str | None = None
    while True:
        params: dict[str, Any] = {"limit": size, **({"cursor": cursor} if cursor else {})}
        page = (await api.client.get(f"/v1/jobs/{job_id}/results", params=params)).json()
        assert len(page["data"]) <= size
        seen += [result["index"] for result in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == list(range(100))


async def test_results_are_read_while_the_job_runs(api: Api) -> None:
    """A contiguous prefix, not complete, with a cursor that goes on where it stopped."""
    job_id = await api.submit(*(f"Ada {n}" for n in range(70)))
    messages = await api.worker.take_messages()
    assert [message.shard for message in messages] == [0, 1]
    for message in messages:
        assert await api.worker.claim_shard(message) == "run"

    await api.worker.finish_shard(messages[1])
    url = f"/v1/jobs/{job_id}/results"
    empty = (await api.client.get(url)).json()
    assert (empty["data"], empty["complete"]) == ([], False)

    await api.worker.finish_shard(messages[0])
    page = (await api.client.get(url)).json()
    assert [result["index"] for result in page["data"]] == list(range(64))
    assert page["complete"] is False
    assert page["next_cursor"] is not None

    await api.worker.run_shards()
    rest = (await api.client.get(url, params={"cursor": page["next_cursor"]})).json()
    assert [result["index"] for result in rest["data"]] == list(range(64, 70))
    assert (rest["next_cursor"], rest["complete"]) == (None, True)


async def test_results_stream_as_lines(api: Api) -> None:
    """NDJSON holds result lines only; the header says whether the job had ended."""
    job_id = await api.submit(*(f"Ada {n}" for n in range(70)))
    messages = await api.worker.take_messages()
    await api.worker.claim_shard(messages[0])
    await api.worker.finish_shard(messages[0])
    url, accept = f"/v1/jobs/{job_id}/results", {"Accept": "application/x-ndjson"}

    running = await api.client.get(url, headers=accept)
    assert running.headers["content-type"].startswith("application/x-ndjson")
    assert running.headers["gleaner-complete"] == "false"
    assert [json.loads(line)["index"] for line in running.text.splitlines()] == list(range(32))

    await api.worker.claim_shard(messages[1])
    await api.worker.finish_shard(messages[1])
    await api.worker.run_shards()
    done = await api.client.get(url, headers=accept)
    assert done.headers["gleaner-complete"] == "true"
    assert [json.loads(line)["index"] for line in done.text.splitlines()] == list(range(70))
    few = await api.client.get(url, headers=accept, params={"limit": 3})
    assert len(few.text.splitlines()) == 3


async def test_results_can_be_filtered_by_status(api: Api) -> None:
    """Pages and lines contain the requested statuses alone."""
    job_id = await api.submit(*("" if n % 10 == 3 else "Ada" for n in range(100)))
    await api.worker.run_shards()
    url = f"/v1/jobs/{job_id}/results"

    page = (await api.client.get(url, params={"status": "failed"})).json()
    assert [result["index"] for result in page["data"]] == list(range(3, 100, 10))
    lines = await api.client.get(url, params={"status": "failed"}, headers={"Accept": "application/x-ndjson"})
    assert len(lines.text.splitlines()) == 10
    wrong = await api.client.get(url, params={"status": "lost"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "query:status")


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


async def test_cancel_ends_what_has_not_begun_and_keeps_the_rest(api: Api) -> None:
    """Cancelling returns 202 while a shard runs, 200 once the job has ended, and 200 again permanently."""
    job_id = await api.submit(*(f"Ada {n}" for n in range(70)))
    message = (await api.worker.take_messages())[0]
    await api.worker.claim_shard(message)

    cancelling = await api.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (cancelling.status_code, cancelling.json()["status"]) == (202, "cancelling")
    await api.worker.finish_shard(message)

    cancelled = await api.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    counts = cancelled.json()["counts"]
    assert (counts["succeeded"], counts["cancelled"], counts["total"]) == (32, 38, 70)
    data = (await api.client.get(f"/v1/jobs/{job_id}/results")).json()["data"]
    assert [result["status"] for result in data] == ["succeeded"] * 32 + ["cancelled"] * 38


async def test_delete_removes_an_ended_job_at_once(api: Api) -> None:
    """409 while it is open; then its id answers 410, to its own tenant only, and its data is gone."""
    job_id = await api.submit("Ada")
    early = await api.client.delete(f"/v1/jobs/{job_id}")
    assert (early.status_code, early.json()["code"]) == (409, "job_not_terminal")
    await api.worker.run_shards()

    assert (await api.client.delete(f"/v1/jobs/{job_id}")).status_code == 204

    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        mine = await api.client.request(method, f"/v1/jobs/{job_id}{path}")
        assert (mine.status_code, mine.json()["code"]) == (410, "job_purged")
        theirs = await api.client.request(method, f"/v1/jobs/{job_id}{path}", headers=api.as_role("other"))
        assert (theirs.status_code, theirs.json()["code"]) == (404, "job_not_found")
    assert [name for name in await api.store.keys(f"*{job_id}") if b"gone:" not in name] == []


async def test_a_job_of_any_model_is_accepted_without_a_worker(
    ledger_url: str, broker_url: str, tmp_path: Path
) -> None:
    """Scaled to zero is no error; a model nobody set up is."""
    async with running_api(ledger_url, broker_url, tmp_path, models=("gleaner-small", "Big/Model")) as api:
        assert await api.submit("Ada", model="Big/Model")
        unknown = await api.client.post(
            "/v1/jobs", json={"model": "none", "labels": ["a"], "documents": [{"text": "b"}]}
        )
        assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_model")

        models = (await api.client.get("/v1/models")).json()
        ModelsPage.model_validate(models)
        assert [(m["name"], m["default"], m["available"], m["open_jobs"]) for m in models["data"]] == [
            ("gleaner-small", True, False, 0),
            ("Big/Model", False, False, 1),
        ]


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


async def test_etags_spare_the_body(api: Api) -> None:
    """304 while nothing changed, 200 when it did."""
    job_id = await api.submit("Ada")
    first = await api.client.get(f"/v1/jobs/{job_id}")
    tag = {"If-None-Match": first.headers["etag"]}

    same = await api.client.get(f"/v1/jobs/{job_id}", headers=tag)
    assert (same.status_code, same.content) == (304, b"")
    await api.worker.run_shards()
    assert (await api.client.get(f"/v1/jobs/{job_id}", headers=tag)).status_code == 200


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
    """A probe without a key; a store that refuses writes is not ready, within the second that a look is kept."""
    api.client.headers.pop("Authorization")
    assert (await api.client.get("/readyz")).status_code == 200

    await api.store.config_set("maxmemory", "1mb")
    try:
        async with asyncio.timeout(5):
            while (await api.client.get("/readyz")).status_code != 503:  # noqa: ASYNC110  # a look has no event
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
    assert "test_api.py" in str(failure.__dict__["where"])
    assert "SECRET" not in str([record.__dict__ for record in caplog.records])


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "ключ"])
async def test_a_request_id_that_is_no_token_is_replaced(api: Api, request_id: str) -> None:
    """Nothing a client makes up gets into the log unchecked."""
    response = await api.client.get("/livez", headers=[(b"X-Request-ID", request_id.encode())])

    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


async def test_responses_carry_security_headers(api: Api) -> None:
    """On success and on error."""
    for response in (await api.client.get("/livez"), await api.client.get("/nothing")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_a_stream_whose_job_vanishes_is_cut_not_ended(api: Api) -> None:
    """A client must be able to tell a broken stream from a short one."""
    job_id = await api.submit(*(f"Ada {n}" + 10_000 * "." for n in range(70)), options={"return_text": True})
    await api.worker.run_shards()
    services, caller = api.app.state.services, Caller("k", "acme", Role.VIEWER)
    reader = ResultsReader(services, caller, job_id, ReadOptions(encode_ndjson_line))
    first = await reader.read_first()
    assert not reader.done
    await api.client.delete(f"/v1/jobs/{job_id}")

    async def read_to_the_end() -> None:
        async for _ in reader.stream(first):
            reader._drop_decoded()  # as for a client that reads slowly

    with pytest.raises(StreamAbortedError):
        await read_to_the_end()


async def test_nothing_readable_of_a_client_reaches_the_queue(api: Api) -> None:
    """A message is ids and numbers."""
    await api.submit("MARKER", labels=["MARKER"], metadata={"a": "MARKER"})

    for name in await api.broker.keys("*"):
        raw = await api.broker.lrange(name, 0, -1)
        assert raw
        assert b"MARKER" not in b"".join(raw)
        assert "MARKER" not in json.loads(raw[0])["body"]


async def test_counters_follow_requests_by_route(api: Api) -> None:
    """Route templates, never ids."""
    job_id = await api.submit("Ada")
    await api.get_job(job_id)

    metrics = api.app.state.services.metrics
    samples = {
        (s.labels["route"], s.labels["status"]): s.value
        for m in metrics.http_requests.collect()
        for s in m.samples
        if s.name.endswith("_total")
    }
    assert samples == {("/v1/jobs", "202"): 1, ("/v1/jobs/{job_id}", "200"): 1}
