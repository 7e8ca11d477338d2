from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any

import orjson
import pytest
from starlette.types import Message, Scope

from gateway.routes import events
from gateway.schemas.jobs import JobsPage
from gateway.schemas.results import ResultBody
from jobs import ledger
from jobs.ledger import associated_data, job_channel
from tests.support.api import Api

pytestmark = pytest.mark.anyio


async def listed(api: Api, **params: Any) -> dict[str, Any]:
    """Return a page of the list of jobs."""
    response = await api.client.get("/v1/jobs", params=params)
    assert response.status_code == 200, response.text
    JobsPage.model_validate(response.json())
    body: dict[str, Any] = response.json()
    return body


async def test_jobs_are_listed_as_they_are_read(api: Api) -> None:
    """Newest first, each as its own URL shows it, with its metadata."""
    ids = [await api.submit("Ada", metadata={"n": str(n)}) for n in range(3)]

    page = await listed(api)
    assert [job["id"] for job in page["data"]] == ids[::-1]
    assert page["next_cursor"] is None
    assert page["data"][0] == await api.get_job(ids[2])


async def test_a_list_goes_on_while_jobs_come_and_go(api: Api) -> None:
    """No job twice, none left out, though the one at the cursor is gone and others came."""
    ids = [await api.submit("Ada") for _ in range(7)]
    await api.worker.run_shards()
    first = await listed(api, limit=3)
    await api.client.delete(f"/v1/jobs/{ids[4]}")
    await api.submit("Ada")

    rest = await listed(api, limit=100, cursor=first["next_cursor"])
    assert [job["id"] for job in first["data"] + rest["data"]] == ids[::-1]


async def test_the_list_is_filtered_by_state_and_time(api: Api) -> None:
    """Any of several states; strictly later than a moment with a time zone."""
    done, cancelled, queued = [await api.submit("Ada") for _ in range(3)]
    await api.client.post(f"/v1/jobs/{cancelled}/cancel")
    messages = await api.worker.take_messages()
    await api.worker.claim_shard(messages[0])
    await api.worker.finish_shard(messages[0])

    async def ids(**params: Any) -> list[str]:
        return [job["id"] for job in (await listed(api, **params))["data"]]

    assert await ids(status="succeeded") == [done]
    assert await ids(status=["cancelled", "queued"]) == [queued, cancelled]
    created = (await api.get_job(cancelled))["created_at"]
    assert done not in await ids(created_after=created)
    assert await ids(created_after="2999-01-01T00:00:00+02:00") == []
    for bad in ({"created_after": "2026-01-01T00:00:00"}, {"status": "lost"}, {"limit": 101}):
        assert (await api.client.get("/v1/jobs", params=bad)).status_code == 422
    wrong = await api.client.get("/v1/jobs", params={"cursor": "cjE6MDow"})  # a place in results
    assert (wrong.status_code, wrong.json()["code"]) == (400, "bad_cursor")


async def test_an_admin_sees_the_backlog_of_all(api: Api) -> None:
    """An admin sees the open shards of each model and queue."""
    await api.submit("Ada", "Bob")
    await api.client.post(
        "/v1/jobs",
        headers=api.as_role("other"),
        json={"labels": ["a"], "documents": [{"text": "abc"}], "priority": "interactive"},
    )

    (model,) = (await api.client.get("/v1/queue", headers=api.as_role("admin"))).json()["data"]
    assert (model["model"], model["open_jobs"], model["open_characters"], model["eta_s"]) == (
        "gleaner-small", 2, 9, None,
    )  # fmt: skip
    assert {queue["priority"]: queue["queued_jobs"] for queue in model["queues"]} == {
        "interactive": 1,
        "standard": 1,
    }
    assert model["oldest_open_s"] >= 0


async def test_one_document_is_read_by_its_id(api: Api) -> None:
    """Its own id, or its index where it has none; while it waits, while it runs, and when it is done."""
    documents = [{"text": f"Ada {n}"} if n % 2 else {"id": f"doc/{n}", "text": f"Ada {n}"} for n in range(70)]
    body = {"labels": ["Ada"], "documents": documents}
    job_id = (await api.client.post("/v1/jobs", json=body)).json()["id"]

    async def document(doc_id: str) -> tuple[int, dict[str, Any]]:
        response = await api.client.get(f"/v1/jobs/{job_id}/documents/{doc_id}")
        return response.status_code, response.json()

    messages = await api.worker.take_messages()
    await api.worker.claim_shard(messages[0])
    states = [(await document(doc_id))[1]["status"] for doc_id in ("1", "33")]
    await api.worker.finish_shard(messages[0])
    await api.worker.claim_shard(messages[1])
    await api.worker.finish_shard(messages[1])
    await api.worker.run_shards()

    assert states == ["running", "queued"]
    for doc_id, index in (("1", 1), ("doc%2F2", 2), ("69", 69), ("doc%2F68", 68)):
        status, result = await document(doc_id)
        assert (status, ResultBody.model_validate(result).index) == (200, index)
        assert result["entities"][0]["text"] == "Ada"
    for missing in ("2", "70", "doc%2F1", "-1", "x" * 3000):
        status, problem = await document(missing)
        assert (status, problem["code"]) == (404, "document_not_found"), missing


async def test_what_did_not_succeed_is_retried_as_a_new_job(api: Api) -> None:
    """Failed and cancelled documents with their ids; labels, options, metadata and webhook stay the same."""
    documents = [{"id": f"d{n}", "text": "" if n == 3 else f"Ada {n}"} for n in range(100)]
    body = {
        "labels": {"Ada": "a name"},
        "options": {"return_text": True},
        "metadata": {"a": "b"},
        "documents": documents,
    }
    first = (await api.client.post("/v1/jobs", json=body)).json()["id"]
    messages = await api.worker.take_messages()
    for message in messages:
        await api.worker.claim_shard(message)
        await api.worker.finish_shard(message)
    await api.client.post(f"/v1/jobs/{first}/cancel")

    response = await api.client.post(f"/v1/jobs/{first}/retry")
    assert response.status_code == 202, response.text
    second = response.json()
    assert (second["retry_of"], second["counts"]["total"], second["metadata"]) == (first, 37, {"a": "b"})
    assert response.headers["location"] == second["urls"]["self"]
    assert (await api.get_job(first))["retried_by"] == second["id"]
    await api.worker.run_shards()

    data = (await api.client.get(second["urls"]["results"])).json()["data"]
    assert [result["id"] for result in data] == ["d3", *(f"d{n}" for n in range(64, 100))]
    assert [result["index"] for result in data] == list(range(37))
    assert (data[1]["text"], data[1]["entities"][0]["label"]) == ("Ada 64", "Ada")
    document = await api.client.get(f"/v1/jobs/{second['id']}/documents/d99")
    assert document.json()["index"] == 36


async def test_a_retry_that_cannot_be_is_said(api: Api) -> None:
    """Still open, nothing left over, already retried: 409 each, and no job is made."""
    open_, whole = await api.submit("Ada"), await api.submit("Ada")

    async def retry(job_id: str, **headers: str) -> tuple[int, str]:
        response = await api.client.post(f"/v1/jobs/{job_id}/retry", headers=headers)
        return response.status_code, response.json().get("code") or response.json()["id"]

    assert await retry(open_) == (409, "job_not_terminal")
    await api.client.post(f"/v1/jobs/{open_}/cancel")
    await api.worker.run_shards()
    assert await retry(whole) == (409, "nothing_to_retry")

    outcomes = await asyncio.gather(*(retry(open_) for _ in range(5)))
    assert sorted(status for status, _ in outcomes) == [202, 409, 409, 409, 409]
    assert {code for status, code in outcomes if status == 409} == {"already_retried"}
    assert len((await listed(api))["data"]) == 3
    assert await api.store.zcard("{gleaner}:staging") == 0


async def test_a_retry_can_be_repeated_with_a_key(api: Api) -> None:
    """The same Idempotency-Key gets the same job again."""
    job_id = await api.submit("Ada")
    await api.client.post(f"/v1/jobs/{job_id}/cancel")

    first, again = [
        await api.client.post(f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_retry_of_what_only_a_newer_gateway_knows_is_put_off(api: Api) -> None:
    """In a rolling update an old gateway may be asked to repeat a newer one's job: 503, and the key stays free."""
    job_id = await api.submit("Ada")
    await api.client.post(f"/v1/jobs/{job_id}/cancel")
    key, where = f"{{gleaner}}:job:{job_id}", associated_data("opts", job_id)
    opts_blob = await api.store.hget(key, "opts")
    opts = orjson.loads(api.worker.codec.decode(opts_blob, where))
    opts["options"]["of_tomorrow"] = True
    await api.store.hset(key, "opts", api.worker.codec.encode(orjson.dumps(opts), where))

    headers = {"Idempotency-Key": "k"}
    response = await api.client.post(f"/v1/jobs/{job_id}/retry", headers=headers)
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
    assert int(response.headers["retry-after"]) > 0

    await api.store.hset(key, "opts", opts_blob)
    assert (await api.client.post(f"/v1/jobs/{job_id}/retry", headers=headers)).status_code == 202


async def test_results_as_csv(api: Api) -> None:
    """A row for each entity, quoted so that any reader gets the same words; one row without entities."""
    body = {
        "labels": ['a "b", c'],
        "documents": [{"id": "x", "text": 'a "b", c'}, {"text": "none"}, {"text": ""}],
    }
    job_id = (await api.client.post("/v1/jobs", json=body)).json()["id"]
    await api.worker.run_shards()

    response = await api.client.get(f"/v1/jobs/{job_id}/results", headers={"Accept": "text/csv;q=0.9, text/html"})
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["gleaner-complete"] == "true"
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    assert rows[0] == {
        "index": "0", "id": "x", "status": "succeeded", "start": "0", "end": "8", "text": 'a "b", c',
        "label": 'a "b", c', "score": "0.9", "error": "",
    }  # fmt: skip
    assert [(row["id"], row["text"], row["error"]) for row in rows[1:]] == [("1", "", ""), ("2", "", "empty_text")]


class Listener:
    """A client of an event stream over ASGI that reads, may stop reading, and may disconnect."""

    def __init__(self, api: Api, job_id: str, **headers: str) -> None:
        self.status = 0
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.sent: list[bytes] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.gone = asyncio.Event()
        self._changed = asyncio.Event()
        all_headers = {"x-api-key": api.keys["viewer"], **headers}
        scope: Scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": "GET", "scheme": "http", "path": f"/v1/jobs/{job_id}/events", "raw_path": b"",
            "root_path": "", "query_string": b"", "client": ("127.0.0.1", 1), "server": ("gateway", 80),
            "state": {}, "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in all_headers.items()],
        }  # fmt: skip
        self.task = asyncio.create_task(api.app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        await self.reading.wait()
        self.sent.append(message["body"])
        for block in message["body"].decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
            if "event" in fields:
                self.events.append((fields["event"], fields["id"], json.loads(fields["data"])))
        self._changed.set()

    async def until(self, count: int) -> None:
        """Return once `count` events have come."""
        while len(self.events) < count:
            self._changed.clear()
            await self._changed.wait()


async def test_events_tell_progress_and_the_end(api: Api) -> None:
    """The job as it is, then as it changes, then its end, and the stream is over."""
    job_id = await api.submit("Ada", "Bob")
    listener = Listener(api, job_id)
    await listener.until(1)
    messages = await api.worker.take_messages()
    await api.worker.claim_shard(messages[0])
    await listener.until(2)
    await api.worker.finish_shard(messages[0])
    await listener.task

    assert [event for event, _, _ in listener.events] == ["progress", "progress", "terminal"]
    assert [data["status"] for _, _, data in listener.events] == ["queued", "running", "succeeded"]
    assert listener.events[-1][2] == await api.get_job(job_id)
    versions = [int(event_id) for _, event_id, _ in listener.events]
    assert versions == sorted(set(versions))


async def test_events_go_on_where_a_client_left_off(api: Api) -> None:
    """No event is sent twice; after the last one the answer is 204, which ends a browser's retries."""
    job_id = await api.submit("Ada")
    first = Listener(api, job_id)
    await first.until(1)
    first.gone.set()
    await first.task
    seen = first.events[-1][1]

    second = Listener(api, job_id, last_event_id=seen)
    while not second.sent:  # noqa: ASYNC110  # the app sets no event here
        await asyncio.sleep(0.005)
    await api.worker.run_shards()
    await second.task
    assert second.events[-1][0] == "terminal"
    assert seen not in [event_id for _, event_id, _ in second.events]

    third = Listener(api, job_id, last_event_id=second.events[-1][1])
    await third.task
    assert (third.status, third.events) == (204, [])


async def test_a_client_that_reads_nothing_costs_no_memory(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are built as they are read: a slow client misses the intermediate ones and gets the last."""
    monkeypatch.setattr(events, "MIN_INTERVAL_S", 0)
    job_id = await api.submit(*(f"Ada {n}" for n in range(320)))
    listener = Listener(api, job_id)
    await listener.until(1)
    listener.reading.clear()
    await api.worker.run_shards()

    listener.reading.set()
    await listener.task
    assert len(listener.events) <= 3
    assert listener.events[-1][0] == "terminal"


async def test_a_silent_stream_is_kept_alive_and_ends_with_the_gateway(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments while nothing happens; a draining gateway ends it, and the client's subscription goes too."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
    job_id = await api.submit("Ada")
    listener = Listener(api, job_id)
    while b": waiting\n\n" not in listener.sent:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    api.app.state.services.waiter.drain()
    await listener.task

    assert len(listener.events) == 1
    while (await api.store.pubsub_numsub(job_channel(job_id)))[0][1]:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_a_removed_job_s_events_are_cut(api: Api) -> None:
    """The stream does not end as if the job had ended."""
    job_id = await api.submit("Ada")
    await api.client.post(f"/v1/jobs/{job_id}/cancel")
    services = api.app.state.services

    from gateway.access import Caller
    from gateway.errors import StreamAbortedError
    from jobs.api_keys import Role

    stream = events._stream_events(services, Caller("k", "acme", Role.VIEWER), job_id, 0)
    assert (await anext(stream)).startswith(b"retry:")
    await api.client.delete(f"/v1/jobs/{job_id}")
    with pytest.raises(StreamAbortedError, match="job_purged"):
        await anext(stream)


@pytest.mark.parametrize(
    ("head", "document", "taken"),
    [
        ({}, {}, "run"),
        ({"flat": False, "return_text": True}, {"threshold": 0.2}, "run"),
        ({"redact": True}, {}, "newer"),
        ({}, {"explain": True}, "newer"),
    ],
)
@pytest.mark.parametrize("by_lines", [False, True])
async def test_an_older_worker_leaves_what_it_cannot_do(
    api: Api, head: dict[str, Any], document: dict[str, Any], taken: str, by_lines: bool
) -> None:
    """A job that asks for an option of wire version 2 waits for a worker of today; every other is for both."""
    first, line = {"labels": ["Ada"], "options": head}, {"text": "Ada", "options": document}
    if by_lines:
        body = f"{json.dumps(first)}\n{json.dumps(line)}"
        sent = await api.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/x-ndjson"})
    else:
        sent = await api.client.post("/v1/jobs", json={**first, "documents": [line]})
    assert sent.status_code == 202, sent.text
    [message] = await api.worker.take_messages()
    old = await api.worker.store.run(
        ledger.claim_shard(message, "n", "old", "rev", ledger.ClaimTerms(max_version=1))
    )
    assert old.kind == taken
