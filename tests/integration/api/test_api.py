from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.access import Caller
from gateway.errors import StreamAbortedError
from gateway.reading.encoding import ReadOptions
from gateway.reading.results import ResultsReader
from gateway.reading.rows import encode_ndjson_line
from gateway.routes.models import ModelsPage
from gateway.schemas.jobs import JobBody
from gateway.schemas.results import ResultsPage
from jobs import ledger
from jobs.api_keys import Role
from jobs.schema import Job
from tests.support.api import Api, running_api

pytestmark = pytest.mark.anyio


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


async def test_etags_spare_the_body(api: Api) -> None:
    """304 while nothing changed, 200 when it did."""
    job_id = await api.submit("Ada")
    first = await api.client.get(f"/v1/jobs/{job_id}")
    tag = {"If-None-Match": first.headers["etag"]}

    same = await api.client.get(f"/v1/jobs/{job_id}", headers=tag)
    assert (same.status_code, same.content) == (304, b"")
    await api.worker.run_shards()
    assert (await api.client.get(f"/v1/jobs/{job_id}", headers=tag)).status_code == 200


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
    reader = ResultsReader(services.results, caller, job_id, ReadOptions(encode_ndjson_line))
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
